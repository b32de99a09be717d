"""Behind a proxy, under a prefix, and asked by pages of other origins."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.conftest import ADMIN
from tests.processes import free_port, service
from tests.samples import PNG, is_problem

JOB = {"model": "minist", "recipe": "mlp", "epochs": 1}
PREFIXES = ("/stripped", "/deep/whole")
NGINX = """
daemon off; pid {home}/nginx.pid; error_log {home}/nginx.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  server {{
    listen 127.0.0.1:{port};
    location /stripped/ {{
      proxy_set_header X-Forwarded-Prefix /stripped;
      proxy_pass http://127.0.0.1:{service}/;
    }}
    location /deep/whole/ {{
      proxy_set_header X-Forwarded-Prefix /deep/whole;
      proxy_pass http://127.0.0.1:{service};
    }}
  }}
}}
"""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a real nginx, which serves one service under both prefixes."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    home, port = tmp_path_factory.mktemp("nginx"), free_port()
    with service(home, "api", MINIST_TRUSTED_PROXIES="127.0.0.1") as (_, inner):
        config = home / "nginx.conf"
        config.write_text(NGINX.format(home=home, port=port, service=inner.base_url.port))
        process = subprocess.Popen([program, "-c", str(config)])
        try:
            with httpx2.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False, headers=ADMIN
            ) as client:
                wait_for_nginx(client)
                yield client
        finally:
            process.terminate()
            process.wait()


def wait_for_nginx(client: httpx2.Client) -> None:
    for _ in range(200):
        try:
            if client.get("/stripped/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("nginx does not answer")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_everything_works_under_a_prefix(nginx: httpx2.Client, prefix: str, digits: dict[str, bytes]) -> None:
    for path in ("/", "/docs", "/static/page/main.js", "/openapi.json", "/models"):
        assert nginx.get(f"{prefix}{path}").status_code == 200, path
    assert nginx.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": prefix}]
    for path in ("/predict", "/predict/", "/predict?model=cnn"):
        answer = nginx.post(f"{prefix}{path}", content=digits["7"], headers=PNG)
        assert answer.json()["label"] == "7"
    assert nginx.get(f"{prefix}/docs/").headers["location"] == f"{prefix}/docs"


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_job_is_followed_through_the_proxy(nginx: httpx2.Client, prefix: str) -> None:
    """Its events come at once: the proxy does not hold them back."""
    started = nginx.post(f"{prefix}/train", json=JOB)
    location = started.headers["location"]
    assert location == f"{prefix}/train/{started.json()['id']}"
    assert nginx.get(location).json()["status"] == "queued"
    with nginx.stream("GET", f"{location}/events") as stream:
        lines = stream.iter_lines()
        assert "event: status" in [next(lines), next(lines), next(lines)]
        nginx.delete(location)
        assert any("cancelled" in line for line in lines)


@pytest.mark.parametrize("path", ["/tools/minist/models", "/models"])
def test_a_configured_prefix_may_be_stripped_or_not(settings: Settings, path: str) -> None:
    with TestClient(create_app(settings.model_copy(update={"root_path": "/tools/minist"}))) as client:
        assert client.get(path).status_code == 200
        started = client.post(path.replace("models", "train"), json=JOB, headers=ADMIN)
        assert started.headers["location"] == f"/tools/minist/train/{started.json()['id']}"
        client.delete(started.headers["location"], headers=ADMIN)
        bare = client.get("/tools/minist", follow_redirects=False)
        assert (bare.status_code, bare.headers["location"]) == (308, "/tools/minist/")
        assert "<html" in client.get("/tools/minist").text


def test_the_fast_path_is_taken_under_a_prefix(
    settings: Settings, digits: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.web import fast_path

    taken: list[str] = []
    find = fast_path._usual

    def note(scope: Any, headers: Any) -> Any:
        options = find(scope, headers)
        if options is not None:
            taken.append(scope["path"])
        return options

    monkeypatch.setattr(fast_path, "_usual", note)
    with TestClient(create_app(settings.model_copy(update={"root_path": "/x"}))) as client:
        for path in ("/x/predict", "/predict", "/x/predict/"):
            assert client.post(path, content=digits["7"], headers=PNG).json()["label"] == "7"
    assert taken == ["/x/predict"] * 3


@pytest.mark.parametrize("header", ["/evil", "//evil.example", "/a/../b", "/a b", "x", "/" + "a" * 300])
def test_a_prefix_is_believed_only_from_trusted_proxies_and_only_if_it_is_one(
    settings: Settings, header: str
) -> None:
    for trusted in ("", "10.0.0.0/8") if header == "/evil" else ("testclient",):
        with TestClient(create_app(settings.model_copy(update={"trusted_proxies": trusted}))) as client:
            given = {**ADMIN, "x-forwarded-prefix": header}
            started = client.post("/train", json=JOB, headers=given)
            assert started.headers["location"] == f"/train/{started.json()['id']}"
            client.delete(started.headers["location"], headers=ADMIN)


def test_an_address_is_believed_only_from_trusted_proxies(settings: Settings, digits: dict[str, bytes]) -> None:
    for trusted, answered in (("", [200, 429, 429]), ("testclient", [200, 200, 200])):
        update = {"rate_limit": "1/hour", "trusted_proxies": trusted}
        with TestClient(create_app(settings.model_copy(update=update))) as client:
            found = [
                client.post("/predict", content=digits["1"], headers={**PNG, "x-forwarded-for": f"10.1.1.{i}"})
                for i in range(3)
            ]
            assert [response.status_code for response in found] == answered


@pytest.mark.parametrize("path", ["minist", "/a/../b", "http://x", "/a b"])
def test_a_setting_that_is_no_prefix_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="is not a path; write one like /minist"):
        Settings(root_path=path)


def test_uvicorns_own_variable_names_proxies_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1")
    assert Settings().trusted_proxies == "10.0.0.1"
    monkeypatch.setenv("MINIST_TRUSTED_PROXIES", "10.0.0.2")
    assert Settings().trusted_proxies == "10.0.0.2"


# -- slashes and HEAD ----------------------------------------------------------------------------------


def test_a_slash_at_the_end_makes_no_difference(client: TestClient, digits: dict[str, bytes]) -> None:
    for path in ("/predict/", "/predict/batch/"):
        name = "files" if "batch" in path else "file"
        answer = client.post(path, files={name: digits["3"]}, follow_redirects=False)
        assert answer.status_code == 200, path
    assert client.get("/models/", follow_redirects=False).json() == client.get("/models").json()
    is_problem(client.get("/nope/", follow_redirects=False), 404, "Not found")
    assert client.get("/docs/").url.path == "/docs"


@pytest.mark.parametrize("path", ["/", "/docs", "/livez", "/readyz"])
def test_head_is_answered_where_people_ask_for_it(client: TestClient, path: str) -> None:
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


# -- other origins -------------------------------------------------------------------------------------

PAGE = "https://page.example"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type, x-api-key, authorization",
}


def test_pages_of_other_origins_may_ask_where_that_is_allowed(
    settings: Settings, digits: dict[str, bytes]
) -> None:
    allowed = settings.model_copy(update={"cors_origins": f"https://other.example, {PAGE}/"})
    with TestClient(create_app(allowed)) as client:
        preflight = client.options("/predict", headers=PREFLIGHT)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == PAGE
        for given in (
            {"content": digits["7"], "headers": {**PNG, "origin": PAGE}},
            {"files": {"file": digits["7"]}, "headers": {"origin": PAGE}},
            {"content": b"junk", "headers": {**PNG, "origin": PAGE}},
        ):
            answer = client.post("/predict", **given)
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
        for path in ("/nope", "/train/x/events"):
            answer = client.get(path, headers={"origin": PAGE})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (404, PAGE)
        assert (
            client.options("/predict", headers={**PREFLIGHT, "origin": "https://evil.example"}).status_code
            == 400
        )
        answer = client.get("/models", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


def test_by_default_no_other_origin_is_allowed(client: TestClient) -> None:
    assert client.options("/predict", headers=PREFLIGHT).status_code == 405
    assert "access-control-allow-origin" not in client.get("/models", headers={"origin": PAGE}).headers


@pytest.mark.parametrize("origins", ["page.example", "https://page.example/path", "https://a, b"])
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(ValidationError, match=r"is not an origin; write one like https://example\.org"):
        Settings(cors_origins=origins)


def test_a_bug_is_a_500_that_pages_of_other_origins_can_read(
    settings: Settings, digits: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    with TestClient(create_app(settings.model_copy(update={"cors_origins": "*"}))) as client:
        monkeypatch.setattr("app.web.prediction.read_body", broken)
        for path in ("/predict", "/predict?explain=true"):
            answer = client.post(path, content=digits["1"], headers={**PNG, "origin": PAGE})
            is_problem(answer, 500, "Internal server error")
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["x-request-id"]
