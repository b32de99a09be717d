"""API processes on several machines: homes of their own, one database, one store, a balancer in front."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
import yaml

from app.home import Home
from app.settings import Settings
from app.store import locks
from app.store.audit import Change
from models.card import read_card
from tests.conftest import ADMIN, ADMIN_KEY, ROOT, SAMPLE, WEIGHTS
from tests.object_store import ObjectStore
from tests.postgres import Server
from tests.processes import free_port, wait_for

pytestmark = [pytest.mark.survival, pytest.mark.postgres, pytest.mark.objects]

SWAPS = 100
CLIENTS = 4


class Machine:
    """An API process with a home of its own, which can be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        home.mkdir()
        self.client = httpx2.Client(
            base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False, headers=ADMIN
        )
        self.start()

    def start(self) -> None:
        environment = {
            **os.environ, "MINIST_HOME": str(self.home), "MINIST_DATA_DIR": str(SAMPLE), "MINIST_DEVICE": "cpu",
            "MINIST_API_KEY": ADMIN_KEY, "MINIST_PORT": str(self.port), "MINIST_FEEDBACK": "true",
            "MINIST_TRUSTED_PROXIES": "127.0.0.1", "MINIST_DECODERS": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "app", "serve", "api"]
        with (self.home / "service.log").open("a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    @property
    def ready(self) -> bool:
        try:
            return self.process.poll() is None and self.client.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        self.client.close()


@pytest.fixture(scope="module")
def machines(
    postgres: Server,
    template: str,
    object_server: ObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Machine]]:
    """Three of them, ready to answer."""
    folder = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as ended:
        object_server.name(patch)
        object_server.start()
        patch.setenv("MINIST_DATABASE_URL", postgres.database(template))
        patch.setenv("MINIST_STORE", object_server.url())
        found = [Machine(folder / str(number)) for number in range(3)]
        for machine in found:
            ended.callback(machine.end)
        wait_for(lambda: all(machine.ready for machine in found))
        yield found


@contextmanager
def balanced(machines: list[Machine], folder: Path) -> Iterator[str]:
    """The URL of nginx with the configuration that we ship, but for names and places."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    text, port = (ROOT / "deploy" / "nginx.conf").read_text(), free_port()
    for number, machine in enumerate(machines, 1):
        text = text.replace(f"api-{number}:8000", f"127.0.0.1:{machine.port}")
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = text.replace("listen 8000", f"listen 127.0.0.1:{port}").replace("http {", f"http {{ {paths}")
    (folder / "nginx.conf").write_text(f"daemon off; pid {folder}/pid; error_log {folder}/error.log; {text}")
    process = subprocess.Popen([program, "-e", f"{folder}/start.log", "-c", f"{folder}/nginx.conf"])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_the_example_names_settings_that_there_are_and_machines_that_there_are() -> None:
    example = yaml.safe_load((ROOT / "deploy" / "cluster.yaml").read_text())["services"]
    for name in example["api-1"]["environment"]:
        assert name.startswith("AWS_") or name.removeprefix("MINIST_").lower() in Settings.model_fields
    asked = set(re.findall(r"server ([\w-]+):8000", (ROOT / "deploy" / "nginx.conf").read_text()))
    assert asked == {name for name, one in example.items() if "api" in one.get("command", ())}


def point(client: httpx2.Client, version: int) -> None:
    said = {"version": version}
    client.put("/models/minist/aliases/production", json=said).raise_for_status()


def served(machine: Machine, digit: bytes) -> int:
    response = machine.client.post("/predict?model=minist", files={"file": digit})
    return int(response.raise_for_status().json()["version"])


@pytest.fixture(scope="module")
def two_versions(machines: list[Machine], tmp_path_factory: pytest.TempPathFactory) -> None:
    """`minist` has a second version, published by a fourth machine."""
    home = Home.open(Settings(home=tmp_path_factory.mktemp("fourth")))
    files = [WEIGHTS / "minist.json", WEIGHTS / "minist.pth"]
    with (
        home.versions.staged("minist", files) as staged,
        home.database.write(locks.VERSIONS) as connection,
    ):
        change = Change("the tests", "publish", "minist", "")
        assert home.versions.add(connection, staged, read_card(files[0]), None, change) == 2
    home.database.close()


@dataclass
class Load:
    """What clients of the balancer have met."""

    url: str
    digit: bytes
    stop: threading.Event = field(default_factory=threading.Event)
    answers: Counter[str] = field(default_factory=Counter)

    def predict(self) -> None:
        with httpx2.Client(base_url=self.url, timeout=30, trust_env=False) as client:
            while not self.stop.wait(0.01):
                try:
                    response = client.post("/predict?model=minist", files={"file": self.digit})
                    known = response.status_code == 200 and response.json()["label"] == "7"
                    self.answers["right" if known else f"{response.status_code} {response.text[:200]}"] += 1
                except httpx2.TransportError as error:
                    self.answers[repr(error)] += 1


def kill_in_turn(machines: list[Machine], killed: list[Machine], stop: threading.Event) -> None:
    """Kill one a second, and start it again as an orchestrator does."""
    while not stop.wait(1):
        if sum(machine.ready for machine in machines) == len(machines):
            victim = machines[len(killed) % len(machines)]
            victim.kill()
            victim.start()
            killed.append(victim)


def test_100_swaps_under_load_while_machines_die_fail_no_request(
    machines: list[Machine], two_versions: None, tmp_path: Path, digits: dict[str, bytes]
) -> None:
    stop, killed = threading.Event(), list[Machine]()
    with balanced(machines, tmp_path) as url, ThreadPoolExecutor(CLIENTS + 1) as pool:
        load = Load(url, digits["7"])
        with httpx2.Client(base_url=url, timeout=30, trust_env=False, headers=ADMIN) as admin:
            clients = [pool.submit(load.predict) for _ in range(CLIENTS)]
            killer = pool.submit(kill_in_turn, machines, killed, stop)
            swaps = 0
            while swaps < SWAPS or (len(killed) < 2 and swaps < 5 * SWAPS):
                swaps += 1
                point(admin, 1 + swaps % 2)
                time.sleep(0.1)
        stop.set()
        load.stop.set()
        for work in (killer, *clients):
            work.result()
    assert set(load.answers) == {"right"}
    assert load.answers["right"] > SWAPS
    assert len(killed) >= 2


def test_a_moved_alias_is_served_by_all_within_two_seconds(
    machines: list[Machine], two_versions: None, digits: dict[str, bytes]
) -> None:
    wait_for(lambda: all(machine.ready for machine in machines))
    for version in (1, 2, 1, 2):
        point(machines[version].client, version)
        moved = time.monotonic()
        wait_for(lambda wanted=version: all(served(one, digits["7"]) == wanted for one in machines), 10)  # type: ignore[misc]
        assert time.monotonic() - moved < 2


def test_whichever_machine_is_asked_knows_keys_corrections_and_jobs(
    machines: list[Machine], digits: dict[str, bytes]
) -> None:
    wait_for(lambda: all(machine.ready for machine in machines))
    one, two, three = (machine.client for machine in machines)
    asked = one.post("/predict?model=minist", files={"file": digits["7"]}).json()["id"]
    said = {"prediction": asked, "label": "1"}
    wait_for(lambda: two.post("/feedback", json=said).status_code == 201, 10)
    assert three.get("/feedback").json()["items"][0]["label"] == "1"
    job = one.post("/train", json={"model": "minist", "recipe": "mlp", "epochs": 1}).raise_for_status().json()
    with two.stream("GET", f"/train/{job['id']}/events") as stream:
        lines = stream.iter_lines()
        assert "event: status" in [next(lines), next(lines), next(lines)]
        three.delete(f"/train/{job['id']}").raise_for_status()
        assert any("cancelled" in line for line in lines)
