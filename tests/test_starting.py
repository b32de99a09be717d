"""How the service is started where people start it: variables, ports, folders, addresses."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from app.cli.listening import listen, url
from app.cli.serve import _check_workers
from app.settings import Settings
from tests.conftest import ADMIN_KEY, ROOT
from tests.processes import free_port, service, wait_until_ready


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "MINIST_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        ({}, 8000),
        ({"MINIST_PORT": "tcp://10.96.12.7:80"}, 8000),  # Kubernetes, for a Service called minist
        ({"MINIST_PORT": "udp://10.96.12.7:80", "PORT": "8080"}, 8080),
        ({"PORT": "8080"}, 8080),
        ({"PORT": ""}, 8000),
        ({"PORT": "8080", "MINIST_PORT": "9000"}, 9000),
        ({"MINIST_PORT": ""}, 8000),
        ({"MINIST_PORT": "9000\n"}, 9000),
    ],
)
def test_the_port_is_the_one_that_is_meant(
    variables: dict[str, str], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().port == port


def test_every_variable_may_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    without = Settings()
    for name in Settings.model_fields:
        monkeypatch.setenv(f"MINIST_{name.upper()}", " \n" if name == "api_key" else "")
    assert Settings() == without


def test_a_secret_that_ends_with_a_newline_is_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIST_API_KEY", f"{ADMIN_KEY}\n")
    key = Settings().api_key
    assert key is not None
    assert key.get_secret_value() == ADMIN_KEY


def test_a_port_in_use_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [sys.executable, "-m", "app", "serve", "--port", str(port)]
        environment = {**os.environ, "MINIST_HOME": str(tmp_path / "home")}
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: port {port} is in use")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("host", "start"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://127.0.0.1:"),
        ("::", "http://[::1]:"),
        ("localhost", "http://localhost:"),
    ],
)
def test_every_address_of_the_host_is_listened_on(host: str, start: str) -> None:
    sockets = listen(host, 0)
    port = sockets[0].getsockname()[1]
    try:
        assert url(host, sockets) == f"{start}{port}"
        for address in ("127.0.0.1", "::1") if host == "::" else ("127.0.0.1",):
            socket.create_connection((address, port), timeout=5).close()
        with pytest.raises(SystemExit, match=f"port {port} is in use"):
            listen("127.0.0.1", port)
    finally:
        for one in sockets:
            one.close()


def test_windows_has_one_worker_and_says_so() -> None:
    with pytest.raises(SystemExit, match="MINIST_WORKERS: on Windows one process answers"):
        _check_workers(Settings(workers=2), "nt")
    _check_workers(Settings(workers=1), "nt")
    _check_workers(Settings(workers=2), "posix")


def test_an_address_that_is_not_ours_is_one_line() -> None:
    with pytest.raises(SystemExit, match=r"error: MINIST_HOST: 192\.0\.2\.1 cannot be listened on"):
        listen("192.0.2.1", 0)


@pytest.mark.parametrize("name", ["a%20b", "a?b", "a#b", "a b", "%s"])
def test_the_home_may_have_any_name(name: str, tmp_path: Path, digits: dict[str, bytes]) -> None:
    home = tmp_path / name
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "app", "keys", "create"],
        cwd=ROOT,
        env={**os.environ, "MINIST_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (home / "minist.db").exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_uvicorn_on_its_own_serves_the_api(tmp_path: Path, digits: dict[str, bytes]) -> None:
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "MINIST_HOME": str(tmp_path), "MINIST_API_KEY": ADMIN_KEY},
            stdout=log,
            stderr=log,
            text=True,
        )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            wait_until_ready(process, client)
            assert client.post("/predict", files={"file": digits["7"]}).json()["label"] == "7"
    finally:
        process.terminate()
        assert process.wait(30) is not None


def test_both_families_are_served(tmp_path: Path, digits: dict[str, bytes]) -> None:
    with service(tmp_path, "api", "--workers", "2", MINIST_HOST="::") as (_, client):
        port = client.base_url.port
        said = (tmp_path / "service.log").read_text()
        assert re.search(rf"minist is at http://\[::1\]:{port} ", said)
        for address in ("127.0.0.1", "[::1]"):
            answer = httpx2.post(
                f"http://{address}:{port}/predict", files={"file": digits["7"]}, trust_env=False
            )
            assert answer.json()["label"] == "7"
