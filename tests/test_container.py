"""The image and the compose file, built and run by a real engine."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from socket import MSG_PEEK

import httpx2
import pytest

import app
from tests.conftest import ADMIN, ADMIN_KEY, ROOT, SAMPLE
from tests.processes import run_job

pytestmark = [pytest.mark.container, pytest.mark.timeout(1800)]  # the first build installs torch

LAB = ROOT.parent / "shared" / "tools" / "image-lab"
IMAGE = "minist:test"
BUILD = ("build", "--progress=plain", "--build-arg=TORCH_INDEX=")
HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
COMPOSE = ("compose", "--project-name=minist-test", f"--project-directory={ROOT}")
INIT = shutil.which("docker-init") is not None  # an engine of image-lab comes without it


@pytest.fixture(scope="module")
def engine() -> None:
    """Plain `docker` works; the tests are skipped where none can be had."""
    if LAB.exists():
        up = subprocess.run([LAB, "up"], capture_output=True, text=True)
        if up.returncode == 69:
            pytest.skip(up.stderr.strip())
        assert up.returncode == 0, up.stderr
    elif not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no Docker engine answers here")


@pytest.fixture(scope="module")
def image(engine: None) -> Iterator[str]:
    docker(*BUILD, f"--tag={IMAGE}", str(ROOT))
    yield IMAGE
    docker("image", "rm", IMAGE)


@pytest.fixture(scope="module")
def start(image: str) -> Iterator[Callable[..., str]]:
    """Starts the service with no more rights than it needs; answers the container's id once it is healthy."""
    started: list[str] = []

    def run(*options: str, port: int = 8000) -> str:
        options = options or HARDENED
        container = docker("run", "--detach", f"--publish=127.0.0.1::{port}", *options, image)
        started.append(container)
        wait_until(lambda: state(container, ".Health.Status") == "healthy", container)
        return container

    yield run
    for container in started:
        docker("rm", "--force", "--volumes", container)


@pytest.fixture(scope="module")
def container(start: Callable[[], str]) -> str:
    """One that the tests share: they leave it running."""
    return start()


def test_predict_answers_for_an_image(container: str, digits: dict[str, bytes]) -> None:
    """A seven is seen as a seven through the published port."""
    assert label(digits["7"], docker("port", container, "8000")) == "7"


def test_the_health_check_asks_the_service(container: str) -> None:
    """It has made the container healthy, and its command fails where nobody answers."""
    assert state(container, ".Health.Status") == "healthy"
    kind, *command = json.loads(docker("inspect", "--format={{json .Config.Healthcheck.Test}}", container))
    assert kind == "CMD"
    docker("exec", container, *command)
    with pytest.raises(AssertionError, match="Connection refused"):
        docker("exec", "--env=MINIST_PORT=1", container, *command)


def test_any_user_of_group_0_may_run_it_on_any_port(
    start: Callable[..., str], digits: dict[str, bytes]
) -> None:
    """As OpenShift does; with the variable that Kubernetes sets for a Service of this name."""
    variables = (
        "--env=PORT=9000",
        "--env=MINIST_PORT=tcp://10.96.12.7:80",
        f"--env=MINIST_API_KEY={ADMIN_KEY}",
    )
    data = f"--volume={SAMPLE}:/data/datasets:ro"
    container = start("--user=12345:0", *variables, data, *HARDENED, port=9000)
    address = docker("port", container, "9000")
    assert label(digits["7"], address) == "7"
    with httpx2.Client(base_url=f"http://{address}", headers=ADMIN, trust_env=False, timeout=60) as client:
        run_job(client)


def test_it_runs_without_a_temporary_folder(start: Callable[..., str], digits: dict[str, bytes]) -> None:
    container = start("--read-only", "--cap-drop=ALL")
    assert label(digits["7"], docker("port", container, "8000")) == "7"


def test_who_may_not_write_is_told_in_one_line(image: str) -> None:
    done = subprocess.run(
        ["docker", "run", "--rm", "--user=12345:12345", image], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert (
        done.stderr == "error: MINIST_HOME /data cannot be written (Permission denied): name another folder\n"
    )


def test_it_says_what_it_is_made_of(image: str) -> None:
    """An inventory in CycloneDX's form, with the versions of constraints.txt."""
    inventory = json.loads(docker("run", "--rm", image, "cat", "/usr/share/doc/minist/sbom.cdx.json"))
    found = {f"{part['name'].lower()}=={part['version']}" for part in inventory["components"]}
    pinned = {line.lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert inventory["bomFormat"] == "CycloneDX"
    for name in ("starlette", "sqlalchemy", "pillow", "numpy"):
        assert {line for line in pinned if line.startswith(f"{name}==")} <= found
    assert docker("run", "--rm", image, "minist", "--version") == f"minist {app.__version__}"


def test_the_service_is_not_root(container: str) -> None:
    """Neither its real nor any other of its user ids is."""
    assert re.search(r"^Uid:(\s+10001){4}$", docker("exec", container, "cat", "/proc/1/status"), re.MULTILINE)


def test_only_data_can_be_written(image: str) -> None:
    """Code and packages belong to root, even where the root file system is not read-only."""
    found = ("find", "/srv", "/opt", "/usr", "/data", "-xdev", "-writable", "-not", "-type", "l")
    assert docker("run", "--rm", image, *found) == "/data"


def test_a_model_is_trained_in_the_image(image: str) -> None:
    """The run directory under /data gets its checkpoint and pictures, with the same few rights."""
    data = f"--volume={SAMPLE}:/data/datasets:ro"
    words = ("--recipe", "softmax-mnist", "--epochs", "1", "--validation-images", "100", "--out", "/data/run")
    told = docker("run", "--rm", *HARDENED, data, image, "python", "-m", "training", *words)
    assert "wrote /data/run/softmax-mnist.pth, its card, pictures and /data/run/report.html" in told


def test_a_request_in_flight_is_answered_after_sigterm(
    start: Callable[[], str], digits: dict[str, bytes]
) -> None:
    """The signal comes in the middle of its body; then the container ends with status 0."""
    container = start()
    host, port = docker("port", container, "8000").split(":")
    png = digits["7"]
    connection = HTTPConnection(host, int(port), timeout=30)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", str(len(png)))
    connection.putheader("Expect", "100-continue")
    connection.endheaders(png[:50])
    connection.sock.recv(1, MSG_PEEK)  # "100 Continue": the endpoint waits for the body

    docker("kill", "--signal=TERM", container)
    wait_until(lambda: "Shutting down" in logs(container), container)
    connection.send(png[50:])
    response = connection.getresponse()
    answer = json.load(response)
    connection.close()

    assert (response.status, answer["label"]) == (200, "7")
    assert docker("wait", container) == "0", logs(container)


def test_a_change_of_code_installs_nothing_anew(image: str, tmp_path: Path) -> None:
    """All that pip did, and its copy in the last stage, is taken from the build before.

    Nor does a change of pyproject.toml that leaves the dependencies alone.
    """
    for name in ("app", "minist_client", "models", "training"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "constraints.txt", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    with (tmp_path / "app" / "__init__.py").open("a") as source:
        source.write(f"# {time.time()}\n")
    with (tmp_path / "pyproject.toml").open("a") as project:
        project.write(f"# {time.time()}\n")

    log = docker(*BUILD, "--output=type=cacheonly", str(tmp_path))

    steps: dict[str, str] = dict(re.findall(r"^#(\d+) (\[.+)$", log, re.MULTILINE))
    cached = set(re.findall(r"^#(\d+) CACHED$", log, re.MULTILINE))
    slow = {number for number, step in steps.items() if "pip" in step or "/opt/venv" in step}
    code = {number for number, step in steps.items() if "COPY app" in step}
    assert len(slow) >= 3
    assert slow <= cached, log
    assert not code & cached, log


def test_compose_brings_the_service_up(image: str, digits: dict[str, bytes], tmp_path: Path) -> None:
    """One command builds it, waits until it is healthy and publishes it; another leaves nothing behind."""
    (tmp_path / "no-init.yaml").write_text("services: {api: {init: false}, worker: {init: false}}")
    files = (ROOT / "compose.yaml", *(() if INIT else (tmp_path / "no-init.yaml",)))
    compose = (*COMPOSE, *(f"--file={file}" for file in files))
    variables = {"MINIST_PUBLISH": "127.0.0.1:0", "TORCH_INDEX": "", "MINIST_API_KEY": ADMIN_KEY}
    try:
        docker(*compose, "up", "--build", "--wait", **variables)
        address = docker(*compose, "port", "api", "8000", **variables)
        assert label(digits["7"], address) == "7"
        for service in ("api", "worker"):
            assert limits(docker(*compose, "ps", "--quiet", service, **variables)) == LIMITS[service]
        # the worker, a container of its own, takes what the API accepted; there are no data to train on
        with httpx2.Client(base_url=f"http://{address}", headers=ADMIN, trust_env=False) as client:
            job = (
                client.post("/train", json={"model": "minist", "recipe": "mlp"}).raise_for_status().json()["id"]
            )
            until = time.monotonic() + 120
            while (shown := client.get(f"/train/{job}").json())["status"] in ("queued", "running"):
                assert time.monotonic() < until
                time.sleep(0.2)
        assert "data set 'mnist' is neither in" in shown["error"]
    finally:
        docker(*compose, "down", "--volumes", "--rmi=local", **variables)


GIB = 2**30
LIMITS = {"api": (2 * GIB, 10**9, 256, INIT, "10m"), "worker": (4 * GIB, 10**9, 256, INIT, "10m")}


def limits(container: str) -> tuple[object, ...]:
    """Bytes, billionths of a CPU, processes, whether an init reaps them, bytes of a log file."""
    host = json.loads(docker("inspect", "--format={{json .HostConfig}}", container))
    assert state(container, ".Health.Status") == "healthy"
    return (
        host["Memory"],
        host["NanoCpus"],
        host["PidsLimit"],
        host["Init"],
        host["LogConfig"]["Config"]["max-size"],
    )


def docker(*words: str, **variables: str) -> str:
    """What a docker command says: its result, or its progress where that is all."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, env=os.environ | variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip() or done.stderr


def state(container: str, field: str) -> str:
    return docker("inspect", f"--format={{{{.State{field}}}}}", container)


def logs(container: str) -> str:
    done = subprocess.run(["docker", "logs", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.decode()


def wait_until(happened: Callable[[], bool], container: str) -> None:
    until = time.monotonic() + 60
    while not happened():
        assert state(container, ".Running") == "true", logs(container)
        assert time.monotonic() < until, logs(container)
        time.sleep(0.1)


def label(png: bytes, address: str) -> str:
    """What the service at that address sees in an image."""
    kind = {"content-type": "image/png"}
    answer = httpx2.post(f"http://{address}/predict", content=png, headers=kind, trust_env=False)
    found: str = answer.raise_for_status().json()["label"]
    return found
