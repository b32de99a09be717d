"""Jobs and versions under kill -9, frozen supervisors, full disks and load: real processes, real signals."""

import io
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import text

from app.home import Home
from app.jobs.executor import ChildProcess, Execution, Executor, RunDirectory
from app.jobs.queue import Queue
from app.jobs.supervisor import Limits
from app.settings import Settings
from app.store.database import Database
from tests.conftest import ROOT, SAMPLE
from tests.processes import (
    alive,
    children,
    free_port,
    resident_mib,
    service,
    supervisor_of,
    wait_for,
    workers_of,
)
from tests.samples import events
from training.recipes import RECIPES
from training.run import Run, train

pytestmark = pytest.mark.survival
on_both = pytest.mark.usefixtures("either_database")

OVERRIDES = {"epochs": 40, "batch_size": 8, "validation_images": 100}
JOB = {"model": "minist", "recipe": "mlp", "promote": "never", **OVERRIDES}
LEASE = "2"


@pytest.fixture
def either_database(database_url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes and homes of the test use SQLite, or a Postgres."""
    if database_url is not None:
        monkeypatch.setenv("MINIST_DATABASE_URL", database_url)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cpu: torch.device) -> dict[str, torch.Tensor]:
    """The weights that the job ends with when nobody disturbs it."""
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    config = RECIPES["mlp"].config(**OVERRIDES)
    train(Run.create(directory, config), SAMPLE, cpu, lambda event: None)
    return weights(directory)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(directory / "minist.pth", weights_only=True)
    return loaded


def assert_same(home: Path, job: dict[str, Any], undisturbed: dict[str, torch.Tensor]) -> None:
    """The version that came out has the very bits of the undisturbed run."""
    assert job["status"] == "succeeded", job
    found = weights(home / "models" / "minist" / str(job["version"]))
    assert found.keys() == undisturbed.keys()
    assert all(torch.equal(found[key], undisturbed[key]) for key in found)


def post(client: httpx2.Client, **changes: object) -> str:
    response = client.post("/train", json={**JOB, **changes})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def show(client: httpx2.Client, job_id: str) -> dict[str, Any]:
    body: dict[str, Any] = client.get(f"/train/{job_id}").json()
    return body


def ended(client: httpx2.Client, job_id: str, seconds: float = 180) -> dict[str, Any]:
    def terminal() -> dict[str, Any] | None:
        body = show(client, job_id)
        return body if body["status"] not in ("queued", "running") else None

    return wait_for(terminal, seconds)


def in_epoch(client: httpx2.Client, job_id: str, epoch: int) -> None:
    """Wait until so many epochs are complete; the next one is under way then."""
    wait_for(lambda: show(client, job_id)["epoch"] >= epoch)


def deleted(directory: Path) -> None:
    """Remove what a process writes into: what it adds between the last file and the directory itself, too."""
    while directory.exists():
        shutil.rmtree(directory, ignore_errors=True)


def told_once(client: httpx2.Client, job_id: str) -> None:
    """Every epoch was run to its end and told exactly once, in order, but for one that was being told."""
    epochs = [
        e["data"]["epoch"] for e in client.get(f"/train/{job_id}/metrics").json() if e["event"] == "epoch"
    ]
    assert sorted(set(epochs)) == list(range(1, 41))
    assert len(epochs) <= 40 + 3


@on_both
@pytest.mark.parametrize("victim", ["child", "supervisor"])
def test_a_killed_child_or_supervisor_costs_no_more_than_an_epoch(
    victim: str, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    with service(tmp_path, MINIST_LEASE_SECONDS=LEASE) as (process, client):
        job_id = post(client)
        in_epoch(client, job_id, 3)
        supervisor = supervisor_of(process)
        (child,) = children(supervisor)
        os.kill(child if victim == "child" else supervisor, signal.SIGKILL)
        job = ended(client, job_id)
        assert_same(tmp_path, job, undisturbed)
        assert job["attempts"] == 2
        told_once(client, job_id)


@on_both
def test_a_job_that_learns_corrections_learns_the_same_after_a_kill(
    tmp_path: Path, digits: dict[str, bytes]
) -> None:
    """Whatever happens to the corrections meanwhile."""
    with service(tmp_path, MINIST_FEEDBACK="true", MINIST_LEASE_SECONDS=LEASE) as (process, client):
        asked = client.post("/predict", params={"model": "minist"}, files={"file": digits["7"]})
        prediction = asked.json()["id"]
        said = {"prediction": prediction, "label": "1"}
        assert client.post("/feedback", json=said).status_code == 201
        calm = ended(client, post(client, feedback=True, epochs=10))
        job_id = post(client, feedback=True, epochs=10)
        in_epoch(client, job_id, 2)
        supervisor = supervisor_of(process)
        (child,) = children(supervisor)
        os.kill(child, signal.SIGKILL)
        assert client.delete("/feedback").status_code == 204
        job = ended(client, job_id)
        assert job["attempts"] == 2
        assert job["feedback"] == calm["feedback"] == {"used": 1, "right_before": 0, "right_after": 1}
        assert_same(tmp_path, job, weights(tmp_path / "models" / "minist" / str(calm["version"])))


@on_both
@pytest.mark.parametrize("victims", ["api", "all"])
def test_after_kill_and_restart_the_job_goes_on(
    victims: str, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    """The events go on, too: a client comes back with the last id that it saw, and misses nothing."""
    with service(tmp_path, MINIST_LEASE_SECONDS=LEASE) as (process, client):
        job_id = post(client)
        in_epoch(client, job_id, 3)
        supervisors = [supervisor_of(process)]
        tree = [process.pid, *supervisors, *(pid for parent in supervisors for pid in children(parent))]
        seen = client.get(f"/train/{job_id}/metrics").json()
        for pid in tree if victims == "all" else tree[:1]:
            os.kill(pid, signal.SIGKILL)
        process.wait()
        # whoever was not killed notices that nobody is there any more
        wait_for(lambda: not any(alive(pid) for pid in tree[1:]), 15)
    with service(tmp_path, MINIST_LEASE_SECONDS=LEASE) as (_, client):
        last = {"last-event-id": str(seen[-1]["id"])}
        with client.stream("GET", f"/train/{job_id}/events", headers=last, timeout=90) as stream:
            rest = events(stream.read().decode())
        assert rest[-1][2]["status"] == "succeeded"
        assert_same(tmp_path, show(client, job_id), undisturbed)
        told_once(client, job_id)


@on_both
def test_sigterm_puts_the_job_back_and_a_restart_goes_on_at_once(
    tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    with service(tmp_path) as (process, client):
        job_id = post(client)
        in_epoch(client, job_id, 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    with closing(Database(tmp_path, url=os.environ.get("MINIST_DATABASE_URL"))) as database:
        job = Queue(database).get(job_id)
    assert job is not None
    assert (job.status, job.attempts, job.crashes) == ("queued", 0, 0)
    with service(tmp_path) as (_, client):
        assert_same(tmp_path, ended(client, job_id), undisturbed)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    settings = Settings(home=tmp_path, data_dir=SAMPLE, device="cpu", lease_seconds=float(LEASE))
    home = Home.open(settings)
    yield home
    home.database.close()


@contextmanager
def worker(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "MINIST_HOME": str(home),
        "MINIST_DATA_DIR": str(SAMPLE),
        "MINIST_DEVICE": "cpu",
        "MINIST_LEASE_SECONDS": LEASE,
    }
    process = subprocess.Popen([sys.executable, "-m", "app", "serve", "worker"], cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def submit(home: Home, **overrides: object) -> str:
    config = RECIPES["mlp"].config(**{**OVERRIDES, **overrides})
    return home.queue.submit(config.model_dump(), "never", 20, None).id


def finished(home: Home, job_id: str) -> dict[str, Any] | None:
    job = home.queue.get(job_id)
    assert job is not None
    return vars(job) if job.status not in ("queued", "running") else None


@on_both
def test_two_supervisors_never_run_the_same_job(home: Home, tmp_path: Path) -> None:
    ids = [submit(home, epochs=2, seed=seed) for seed in range(6)]
    with worker(tmp_path), worker(tmp_path):
        jobs = [wait_for(partial(finished, home, job_id)) for job_id in ids]
    assert [(job["status"], job["attempts"], job["token"]) for job in jobs] == [("succeeded", 1, 1)] * 6
    assert sorted(job["version"] for job in jobs) == [2, 3, 4, 5, 6, 7]


def freeze(process: subprocess.Popen[bytes], home: Home) -> None:
    """SIGSTOP, at a moment when the process is not in the middle of a transaction.

    Frozen inside of one it would hold SQLite's only write lock until it wakes, or its job's row in Postgres
    for a while: nobody could take over.
    """

    def frozen() -> bool:
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: "State:\tT" in Path(f"/proc/{process.pid}/status").read_text())
        if in_transaction(home):
            process.send_signal(signal.SIGCONT)
            return False
        return True

    wait_for(frozen)


def in_transaction(home: Home) -> bool:
    """Whether anybody is."""
    if not home.database.in_home:
        with home.database.read() as connection:
            others = "datname = current_database() AND state LIKE 'idle in transaction%'"
            return bool(connection.scalar(text(f"SELECT count(*) FROM pg_stat_activity WHERE {others}")))
    with closing(sqlite3.connect(home.database.path, timeout=0, isolation_level=None)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
        except sqlite3.OperationalError:  # locked
            return True
    return False


@on_both
def test_a_frozen_supervisor_is_fenced_off_when_it_wakes(
    home: Home, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    """SIGSTOP past its lease; another one finishes the job; the first wakes and changes nothing."""
    job_id = submit(home)
    with worker(tmp_path) as frozen:
        wait_for(lambda: (home.queue.get(job_id).last or {}).get("epoch", 0) >= 3)  # type: ignore[union-attr]
        (child,) = children(frozen.pid)
        freeze(frozen, home)
        with worker(tmp_path):
            wait_for(lambda: not alive(child), 30)  # it hears no heartbeat any more
            wait_for(lambda: home.queue.get(job_id).attempts == 2, 30)  # type: ignore[union-attr]
            frozen.send_signal(signal.SIGCONT)
            job = wait_for(lambda: finished(home, job_id))
            time.sleep(1)
        assert_same(tmp_path, job, undisturbed)
        assert finished(home, job_id) == job
        statuses = [event.data["status"] for event in home.queue.events(job_id) if event.kind == "status"]
        assert statuses == ["queued", "running", "running", "succeeded"]
        assert children(frozen.pid) == []


@on_both
def test_cancelling_is_quick_and_the_last_epoch_can_be_resumed_from(
    tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    with service(tmp_path) as (process, client):
        job_id = post(client)
        in_epoch(client, job_id, 3)
        supervisor = supervisor_of(process)
        (child,) = children(supervisor)
        begun = time.monotonic()
        assert client.delete(f"/train/{job_id}").json()["status"] == "cancelled"
        wait_for(lambda: not alive(child), 5)
        assert time.monotonic() - begun < 1
        assert client.delete(f"/train/{job_id}").status_code == 409
        assert client.post(f"/train/{job_id}/resume").status_code == 202
        assert_same(tmp_path, ended(client, job_id), undisturbed)


class AbortingExecutor:
    """Runs a real process that dies of SIGABRT whatever the job."""

    def start(self, run: RunDirectory, lease: float) -> ChildProcess:
        return ChildProcess([sys.executable, "-c", "import os; os.abort()"], run)


def test_a_job_that_crashes_at_every_attempt_fails_and_the_next_is_run(home: Home) -> None:
    bad, good = submit(home), submit(home, epochs=1)
    crashing = home.supervisor()
    crashing.executor = AbortingExecutor()
    for _ in range(3):
        assert crashing.run_one()
    job = finished(home, bad)
    assert job is not None
    assert (job["status"], job["attempts"], job["exit_code"]) == ("failed", 3, -signal.SIGABRT)
    assert "SIGABRT" in job["error"]
    assert home.supervisor().run_one()
    done = finished(home, good)
    assert done is not None
    assert done["status"] == "succeeded"


def test_a_missing_data_set_fails_the_job_with_a_sentence(home: Home, tmp_path: Path) -> None:
    job_id = submit(home, dataset="fashion-mnist")  # the sample has only digits, and nothing can be downloaded
    home.supervisor().run_one()
    job = finished(home, job_id)
    assert job is not None
    if job["status"] == "succeeded":
        pytest.skip("the data set could be downloaded here")
    assert job["status"] == "failed"
    assert "data set 'fashion-mnist' is neither in" in job["error"]
    assert job["attempts"] == 1


def test_a_run_directory_that_is_deleted_fails_the_job_with_a_sentence(tmp_path: Path, digits: Any) -> None:
    with service(tmp_path) as (_, client):
        job_id = post(client, epochs=1000)
        in_epoch(client, job_id, 2)
        deleted(tmp_path / "runs" / job_id)
        job = ended(client, job_id)
        assert job["status"] == "failed"
        assert "run directory" in job["error"]
        assert "was deleted" in job["error"]
        assert client.post("/predict", files={"file": digits["7"]}).status_code == 200
        follower = post(client, epochs=1)
        assert ended(client, follower)["status"] == "succeeded"


def test_a_full_disk_fails_the_job_with_a_sentence(tmp_path: Path, digits: Any) -> None:
    """A real file system of 6 MB holds the run directories."""
    runs = tmp_path / "runs"
    runs.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(runs)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with service(tmp_path) as (_, client):
            job = ended(client, post(client))
            assert job["status"] == "failed"
            assert "the disk is full" in job["error"]
            assert client.get("/readyz").status_code == 200
            assert client.post("/predict", files={"file": digits["7"]}).status_code == 200
    finally:
        subprocess.run(["umount", "-l", str(runs)], check=True)


def test_two_workers_and_a_supervisor_writing_under_load_never_lock(tmp_path: Path) -> None:
    """Posts, cancellations, reads and a running job: no answer of 500, no word of a locked database."""
    statuses: list[int] = []

    def load(client: httpx2.Client, until: float) -> None:
        while time.monotonic() < until:
            posted = client.post("/train", json={**JOB, "epochs": 1})
            statuses.append(posted.status_code)
            if posted.status_code == 202:
                statuses.append(client.delete(f"/train/{posted.json()['id']}").status_code)
            statuses.append(client.get("/train").status_code)

    port = free_port()
    with service(tmp_path, "--workers", "2", port=port, MINIST_QUEUE_LIMIT="6") as (process, client):
        post(client, epochs=1000, batch_size=64)
        clients = [
            httpx2.Client(base_url=client.base_url, headers=client.headers, timeout=60, trust_env=False)
            for _ in range(8)
        ]
        until = time.monotonic() + 10
        threads = [threading.Thread(target=load, args=(each, until)) for each in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in clients:
            each.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    assert len(statuses) > 100
    assert set(statuses) <= {200, 202, 409, 429}, (tmp_path / "service.log").read_text()[-3000:]
    assert "locked" not in (tmp_path / "service.log").read_text()


@dataclass(frozen=True)
class Answer:
    """One prediction under load: when it was asked for, and what came."""

    asked: float
    status: int
    version: int
    probability: float


@on_both
def test_100_swaps_under_load_fail_no_request(tmp_path: Path, digits: Any) -> None:
    """Every answer is one version's or the other's, each swap is seen within a second, memory stays flat."""
    stop = threading.Event()
    answers: list[Answer] = []

    def ask(client: httpx2.Client, model: str = "minist") -> Answer:
        asked = time.monotonic()
        response = client.post("/predict", params={"model": model}, files={"file": digits["7"]})
        body = response.json()
        return Answer(asked, response.status_code, body["version"], round(body["probability"], 6))

    def load(client: httpx2.Client) -> None:
        while not stop.is_set():
            answers.append(ask(client))

    def settled(target: int, since: int) -> bool:
        newest = answers[since:][-16:]
        return len(newest) == 16 and all(answer.version == target for answer in newest)

    with service(tmp_path, "--workers", "2") as (process, client):
        assert ended(client, post(client, epochs=1))["version"] == 2
        expected = {(version, ask(client, f"minist@{version}").probability) for version in (1, 2)}
        workers = workers_of(process)
        clients = [httpx2.Client(base_url=client.base_url, timeout=30, trust_env=False) for _ in range(4)]
        threads = [threading.Thread(target=load, args=(each,)) for each in clients]
        for thread in threads:
            thread.start()
        sizes = []
        try:
            for swap in range(100):
                target = 2 - swap % 2
                client.put("/models/minist/aliases/production", json={"version": target}).raise_for_status()
                moved, since = time.monotonic(), len(answers)
                wait_for(partial(settled, target, since), 20)
                late = [a for a in answers[since:] if a.asked > moved + 1 and a.version != target]
                assert not late
                if swap in (30, 99):
                    sizes.append(sum(resident_mib(pid) for pid in workers))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            for each in clients:
                each.close()
    assert len(answers) > 1600
    assert {answer.status for answer in answers} == {200}
    assert {(answer.version, answer.probability) for answer in answers} == expected
    assert len(workers) == 2
    assert sizes[1] - sizes[0] < 20


def test_workers_whose_parent_is_killed_end_and_free_the_port(tmp_path: Path) -> None:
    port = free_port()
    with service(tmp_path, "--workers", "2", port=port) as (process, _):
        started = children(process.pid)
        assert len(started) == 3  # two workers and a supervisor
        process.kill()
        process.wait()
        wait_for(lambda: not any(alive(pid) for pid in started), 20)
    with service(tmp_path, port=port) as (_, client):
        assert client.get("/readyz").status_code == 200


def test_a_killed_worker_is_replaced_while_the_other_answers(tmp_path: Path, digits: Any) -> None:
    """SIGKILL: nobody but the killed worker's own clients notices; counters go on from where they were."""
    failed: list[float] = []
    wrong: list[object] = []
    ended = threading.Event()

    def ask(client: httpx2.Client) -> None:
        while not ended.is_set():
            try:
                answer = client.post("/predict", files={"file": digits["7"]})
                if answer.status_code != 200 or answer.json()["label"] != "7":
                    wrong.append(answer.text)
            except httpx2.TransportError:
                failed.append(time.monotonic())

    def answered(client: httpx2.Client) -> float:
        page = client.get("/metrics", headers={"connection": "close"}).text
        found = re.search(r'minist_requests_total{route="/predict",status="200"} (\S+)', page)
        return float(found[1]) if found else 0

    with service(tmp_path, "api", "--workers", "2") as (process, client):
        wait_for(lambda: len(workers_of(process)) == 2)
        clients = [httpx2.Client(base_url=client.base_url, timeout=30, trust_env=False) for _ in range(8)]
        threads = [threading.Thread(target=ask, args=(each,)) for each in clients]
        for thread in threads:
            thread.start()
        try:
            time.sleep(2)
            before, (victim, other) = answered(client), workers_of(process)
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
            wait_for(lambda: len(set(workers_of(process)) - {victim}) == 2, 30)
            seconds = time.monotonic() - killed
            time.sleep(1)
            assert answered(client) > before
        finally:
            ended.set()
            for thread in threads:
                thread.join()
            for each in clients:
                each.close()
        assert other in workers_of(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    assert seconds < 20  # half a second until it is missed, then the start of Python, torch and the models
    assert not wrong
    assert len(failed) <= len(clients)  # each of its connections breaks once
    assert all(moment < killed + 1 for moment in failed)


# -- state that survives anything ----------------------------------------------------------------------


def test_a_database_that_is_locked_for_two_leases_costs_a_job_nothing(
    tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    with service(tmp_path, MINIST_LEASE_SECONDS=LEASE) as (_, client):
        job_id = post(client)
        in_epoch(client, job_id, 3)
        lock = sqlite3.connect(tmp_path / "minist.db", timeout=60, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        time.sleep(2 * float(LEASE) + 1)
        lock.execute("ROLLBACK")
        lock.close()
        job = ended(client, job_id)
        assert_same(tmp_path, job, undisturbed)
        assert job["attempts"] == 1
        told_once(client, job_id)


def test_a_diverged_run_never_becomes_a_version(tmp_path: Path, digits: Any) -> None:
    with service(tmp_path) as (_, client):
        before = client.get("/models/minist/versions").json()
        job = ended(client, post(client, lr=100, epochs=2, promote="always"))
        assert job["status"] == "failed"
        assert job["version"] is None
        assert "NaN" not in client.get(f"/train/{job['id']}/metrics").text
        assert client.get("/models/minist/versions").json() == before
        answer = client.post("/predict", params={"model": "minist"}, files={"file": digits["7"]})
        assert answer.json()["version"] == 1


def damage(path: Path) -> None:
    """One bit."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_with_a_damaged_default_model_two_workers_start_and_answer(tmp_path: Path, digits: Any) -> None:
    home = Home.open(Settings(home=tmp_path, device="cpu"))
    for version in home.versions.snapshot().versions.values():
        if version.model != "digits":  # of that one the file that came with the service answers
            damage(version.weights)
    damage(tmp_path / "models" / "digits" / "1" / "digits.pth")
    home.database.close()
    with service(tmp_path, "api", "--workers", "2") as (process, client):
        assert client.post("/predict", files={"file": digits["7"]}).json()["label"] == "7"
        found = wait_for(lambda: client.get("/readyz").json()["degraded"])  # once all are loaded
        assert {one["name"]: one["serving"] for one in found}["digits"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    log = (tmp_path / "service.log").read_text()
    assert "version 1 of digits is damaged, and read from the files that came with the service" in log


def test_a_damaged_version_gives_way_says_so_and_is_served_again_when_it_is_whole(
    tmp_path: Path, digits: Any
) -> None:
    with service(tmp_path) as (_, client):
        assert ended(client, post(client, epochs=1, promote="always"))["version"] == 2
        assert ended(client, post(client, model="mine", epochs=1, promote="always"))["version"] == 1
    weights = [
        tmp_path / "models" / model / n / f"{model}.pth" for model, n in (("minist", "2"), ("mine", "1"))
    ]
    whole = [path.read_bytes() for path in weights]
    for path in weights:
        damage(path)
    with service(tmp_path, MINIST_DEFAULT_MODEL="minist") as (_, client):
        assert client.post("/predict", files={"file": digits["7"]}).json()["version"] == 1
        # asked for by name, what is damaged is neither unknown nor our error
        for name in ("minist@2", "mine", "mine@1"):
            answer = client.post("/predict", params={"model": name}, files={"file": digits["7"]})
            assert (answer.status_code, answer.json()["title"]) == (503, "Damaged model")
            assert int(answer.headers["retry-after"]) >= 1
        degraded = {
            (one["name"], one["version"]): one["serving"] for one in client.get("/readyz").json()["degraded"]
        }
        assert degraded == {("minist", 2): 1, ("mine", 1): None}
        assert 'minist_degraded{model="mine",version="1"} 1.0' in client.get("/metrics").text
        assert client.get("/models/minist/versions").status_code == 200
        for path, data in zip(weights, whole, strict=True):
            path.write_bytes(data)
        wait_for(lambda: not client.get("/readyz").json()["degraded"], 90)
        assert client.post("/predict", files={"file": digits["7"]}).json()["version"] == 2


def test_a_version_that_is_deleted_under_load_is_404_or_503(tmp_path: Path, digits: Any) -> None:
    """16 connections ask for versions that are deleted meanwhile: no 500, no broken connection."""
    with service(tmp_path) as (_, client):
        versions = [ended(client, post(client, epochs=1))["version"] for _ in range(3)]
        stop = threading.Event()
        statuses: dict[int, set[int]] = {version: set() for version in versions}
        broken: list[object] = []

        def ask(number: int) -> None:
            with httpx2.Client(base_url=client.base_url, timeout=60, trust_env=False) as mine:
                version = versions[number % len(versions)]
                while not stop.is_set():
                    try:
                        params = {"model": f"minist@{version}"}
                        answer = mine.post("/predict", params=params, files={"file": digits["7"]})
                        statuses[version].add(answer.status_code)
                    except httpx2.TransportError as error:
                        broken.append(error)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: all(200 in found for found in statuses.values()), 60)
            for version in versions:
                assert client.delete(f"/models/minist/versions/{version}").status_code == 204
            wait_for(lambda: all(404 in found for found in statuses.values()), 60)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert not broken
    assert set().union(*statuses.values()) <= {200, 404, 503}
    assert not list((tmp_path / "models" / "minist").glob(".deleted-*"))


def test_a_child_does_not_inherit_the_keys_of_the_service(tmp_path: Path) -> None:
    with service(tmp_path, OTEL_EXPORTER_OTLP_HEADERS="authorization=secret") as (process, client):
        in_epoch(client, post(client, epochs=1000), 1)
        supervisor = supervisor_of(process)
        (child,) = children(supervisor)
        environment = Path(f"/proc/{child}/environ").read_bytes()
        assert b"PATH=" in environment
        assert b"MINIST_" not in environment
        assert b"OTEL_" not in environment


class HesitantExecutor:
    """Finds no process at first, as when descriptors or memory are short; then starts real ones."""

    def __init__(self, executor: Executor, failures: int) -> None:
        self.executor = executor
        self.failures = failures

    def start(self, run: RunDirectory, lease: float) -> Execution:
        self.failures -= 1
        if self.failures >= 0:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return self.executor.start(run, lease)


def test_what_cannot_be_started_is_tried_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.supervisor.RETRY_SECONDS", 0.1)
    job_id = submit(home, epochs=1)
    supervisor = home.supervisor()
    supervisor.executor = HesitantExecutor(supervisor.executor, 4)
    for _ in range(4):
        assert supervisor.run_one()
        job = home.queue.get(job_id)
        assert job is not None
        assert (job.status, job.attempts, job.crashes) == ("queued", 0, 0)
        assert "Resource temporarily unavailable" in str(job.error)
    assert supervisor.run_one()
    done = finished(home, job_id)
    assert done is not None
    assert (done["status"], done["attempts"]) == ("succeeded", 1)


def test_a_job_has_so_many_hours_and_no_more(home: Home) -> None:
    job_id = submit(home, epochs=1000)
    supervisor = home.supervisor()
    supervisor.limits = Limits(lease=10, seconds=6)
    begun = time.monotonic()
    assert supervisor.run_one()
    assert time.monotonic() - begun >= 6
    done = finished(home, job_id)
    assert done is not None
    assert done["status"] == "failed"
    assert "MINIST_JOB_HOURS" in done["error"]


def test_a_supervisor_goes_on_after_what_nobody_foresaw(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.supervisor.RETRY_SECONDS", 0.1)
    job_id = submit(home, epochs=1)
    supervisor = home.supervisor()
    turns: list[int] = []

    def prune() -> None:
        turns.append(1)
        if len(turns) == 1:
            raise RuntimeError("nobody foresaw this")
        supervisor.stop()

    monkeypatch.setattr(supervisor.retention, "prune", prune)
    supervisor.run()
    assert len(turns) == 2
    assert finished(home, job_id) is not None


def photographs(count: int = 1500) -> bytes:
    """A zip of class folders that takes a few seconds to import."""
    noise = np.random.default_rng(0).integers(0, 255, (count, 48, 48, 3), np.uint8)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, pixels in enumerate(noise):
            one = io.BytesIO()
            Image.fromarray(pixels).resize((96, 96)).save(one, "PNG", compress_level=1)
            archive.writestr(f"{'ab'[number % 2]}/{number}.png", one.getvalue())
    return stream.getvalue()


def importing(client: httpx2.Client) -> dict[str, Any] | None:
    """The data set, once a part of it was read."""
    body: dict[str, Any] = client.get("/datasets/photos").json()
    assert body["status"] == "importing", body["error"]
    return body if body["progress"] else None


def import_ended(client: httpx2.Client, name: str = "photos") -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        body: dict[str, Any] = client.get(f"/datasets/{name}").json()
        return body if body["status"] != "importing" else None

    body = wait_for(ended)
    assert body["status"] == "ready", body["error"]
    return body


@on_both
@pytest.mark.parametrize("victim", ["child", "all"])
def test_an_import_that_is_killed_begins_anew_and_ends_alike(victim: str, tmp_path: Path) -> None:
    """Nothing half-read is left, and a data set that was ready stays as it was."""
    data = photographs()
    with service(tmp_path, MINIST_LEASE_SECONDS=LEASE) as (process, client):
        client.post("/datasets?name=calm", files={"file": data}).raise_for_status()
        calm = import_ended(client, "calm")
        client.post("/datasets?name=photos", files={"file": data}).raise_for_status()
        wait_for(lambda: importing(client))
        supervisor = supervisor_of(process)
        tree = [process.pid, supervisor, *children(supervisor)]
        (child,) = children(supervisor)
        for pid in [child] if victim == "child" else tree:
            os.kill(pid, signal.SIGKILL)
        if victim != "all":
            body = import_ended(client)
            attempts = client.get(f"/train/{body['job']}").json()["attempts"]
        else:
            process.wait()
    if victim == "all":
        wait_for(lambda: not any(alive(pid) for pid in tree[1:]), 15)
        with service(tmp_path, MINIST_LEASE_SECONDS=LEASE) as (_, client):
            body = import_ended(client)
            attempts = client.get(f"/train/{body['job']}").json()["attempts"]
            assert client.get("/datasets/calm").json()["digest"] == calm["digest"]
    assert (body["digest"], attempts) == (calm["digest"], 2)
    assert not list((tmp_path / "runs").glob("*/dataset"))
    assert not list((tmp_path / "datasets").glob(".incoming-*"))
    assert len(list((tmp_path / "datasets" / ".sources").iterdir())) == 1  # both came of one file


def test_an_import_does_not_wait_for_training(tmp_path: Path) -> None:
    with service(tmp_path) as (_, client):
        job_id = post(client, epochs=1000)
        in_epoch(client, job_id, 1)
        client.post("/datasets?name=photos", files={"file": photographs(60)}).raise_for_status()
        import_ended(client)
        assert show(client, job_id)["status"] == "running"
        client.delete(f"/train/{job_id}")


def test_an_import_is_limited_in_memory_disk_and_time(tmp_path: Path) -> None:
    large = io.BytesIO()
    zeros = io.BytesIO()
    np.savez_compressed(zeros, train_images=np.zeros((400_000, 1, 1), np.uint8), train_labels=np.zeros(400_000))
    with zipfile.ZipFile(large, "w", zipfile.ZIP_DEFLATED) as archive:
        for label in "ab":
            one = io.BytesIO()
            Image.new("RGB", (7000, 7000)).save(one, "PNG")
            archive.writestr(f"{label}/1.png", one.getvalue())
    memory, disk = str(300 * 2**20), str(40 * 2**20)
    with service(tmp_path, MINIST_IMPORT_MEMORY_BYTES=memory, MINIST_KEEP_DATASETS_BYTES=disk) as (_, client):
        client.post("/datasets?name=memory", files={"file": large.getvalue()}).raise_for_status()
        params = {"name": "disk", "size": "224"}
        client.post("/datasets", params=params, files={"file": zeros.getvalue()}).raise_for_status()

        def failed(name: str) -> str:
            return str(
                wait_for(lambda: client.get(f"/datasets/{name}").json()["error"]),
            )

        assert "MINIST_IMPORT_MEMORY_BYTES" in failed("memory")
        assert "MINIST_KEEP_DATASETS_BYTES" in failed("disk")
    with service(tmp_path, MINIST_IMPORT_MINUTES="0.02") as (_, client):
        client.post("/datasets?name=time", files={"file": photographs()}).raise_for_status()
        error = wait_for(lambda: client.get("/datasets/time").json()["error"])
        assert "MINIST_IMPORT_MINUTES" in error
    assert not list((tmp_path / "runs").glob("*/dataset"))
