"""The Host header, and pages that let their name resolve to this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.cli.listening import own_names
from app.main import create_app
from app.settings import Settings
from app.web.hosts import patterns, without_port
from tests.conftest import ADMIN_KEY
from tests.processes import service
from tests.samples import is_problem


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(
        home=tmp_path_factory.mktemp("hosts"),
        device="cpu",
        api_key=SecretStr(ADMIN_KEY),
        allowed_hosts="example.org, *.example.com,[::1]",
    )
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    ["example.org", "EXAMPLE.org:8000", "example.org.", "a.example.com", "a.b.example.com:1", "[::1]:8000"],
)
def test_an_allowed_host_is_answered(client: TestClient, host: str, digits: dict[str, bytes]) -> None:
    assert client.get("/models", headers={"host": host}).status_code == 200
    answer = client.post("/predict", files={"file": digits["7"]}, headers={"host": host})
    assert answer.json()["label"] == "7"


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "example.org.evil.example", "example.com", "badexample.com", "[::2]", "[::1", ":"],
)
def test_any_other_is_refused_on_every_way(client: TestClient, host: str, digits: dict[str, bytes]) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/models"),
        ("POST", "/predict"),
        ("POST", "/train"),
        ("GET", "/x"),
    ):
        is_problem(client.request(method, path, headers={"host": host}), 400, "Unknown host")
    assert client.get("/readyz", headers={"host": host}).status_code == 200  # probes ask by address


def test_the_default_is_what_it_listens_on() -> None:
    assert own_names("127.0.0.1") == ("127.0.0.1", "localhost", "127.0.0.1", "[::1]")
    assert own_names("fd00::7")[0] == "[fd00::7]"
    assert patterns(",".join(own_names("0.0.0.0"))) == patterns(",".join(own_names("::"))) == ()
    assert without_port("[fd00::7]:80") == without_port("[fd00::7]") == "[fd00::7]"


def test_minist_serve_refuses_a_rebound_name(tmp_path: Path, digits: dict[str, bytes]) -> None:
    with service(tmp_path, "api") as (_, client):
        refused = client.post("/predict", files={"file": digits["7"]}, headers={"host": "evil.example"})
        is_problem(refused, 400, "Unknown host")
        assert client.post("/predict", files={"file": digits["7"]}).json()["label"] == "7"
