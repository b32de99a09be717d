"""What a job asks for, and which machine takes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.cpus import memory
from app.jobs.leases import LeaseWatch
from app.jobs.machine import Machine, spelled
from app.jobs.queue import Queue
from app.main import create_app
from app.settings import Settings
from app.store.database import Database
from app.store.supervisors import Heartbeat, Supervisors
from tests.conftest import ADMIN, ADMIN_KEY, SAMPLE
from tests.processes import service, wait_for
from tests.samples import is_problem

GIB = 1024**3
SMALL = Machine(2, 8 * GIB, 0)
LARGE = Machine(64, 512 * GIB, 2)
JOB = {"model": "mine", "recipe": "softmax-mnist", "epochs": 1, "validation_images": 100}


def submit(queue: Queue, model: str, **resources: int) -> str:
    config = {"name": model, "recipe": "mlp", **({"resources": resources} if resources else {})}
    return queue.submit(config, "never", 20, None).id


def taken_over(queue: Queue, machine: Machine) -> set[str]:
    """By a supervisor that has looked at silent claims for longer than a lease."""
    now, found = [1000.0], set()
    watch = LeaseWatch(10, lambda: now[0])
    for _ in range(9):
        job = queue.claim(watch, machine=machine)
        found |= {job.id} if job else set()
        now[0] += 2
    return found


@pytest.mark.parametrize("resources", [{"cpus": 3}, {"memory_bytes": 9 * GIB}, {"gpus": 1}])
def test_a_job_that_cannot_run_here_is_left_to_a_machine_where_it_can(
    database: Database, resources: dict[str, int]
) -> None:
    """Those that come after it do not wait for it."""
    queue = Queue(database)
    demanding = submit(queue, "demanding", **resources)
    fitting = submit(queue, "fitting", cpus=2, memory_bytes=8 * GIB)
    plain = submit(queue, "plain")
    found = [queue.claim(machine=SMALL) for _ in range(3)]
    assert [job and job.id for job in found] == [fitting, plain, None]
    job = queue.claim(machine=LARGE)
    assert job is not None
    assert job.id == demanding
    assert demanding not in taken_over(queue, SMALL)  # when its claimant has died
    assert demanding in taken_over(queue, LARGE)


def test_a_supervisor_of_a_cluster_takes_every_job(database: Database) -> None:
    queue = Queue(database)
    submit(queue, "demanding", cpus=256)
    assert queue.claim() is not None


def test_a_machine_has_what_its_container_has(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1073741824\n")
    assert memory(tmp_path) == GIB
    (tmp_path / "memory.max").write_text("max\n")
    whole = memory(tmp_path)
    assert whole is None or whole > GIB
    here = Machine.here(1)
    assert (here.cpus >= 1, here.gpus) == (True, 1)
    assert here.holds(None)
    assert here.holds({"cpus": None, "memory_bytes": 0, "gpus": 1})
    assert not here.holds({"gpus": 2})


def test_resources_are_spelled_for_people() -> None:
    assert spelled({"cpus": 2, "memory_bytes": 4 * GIB, "gpus": 1}) == "2 CPUs, 4.0 GiB of memory and 1 GPU"
    assert spelled({"cpus": 1, "memory_bytes": None, "gpus": 0}) == "1 CPU"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, data_dir=SAMPLE, device="cpu", api_key=SecretStr(ADMIN_KEY))


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=ADMIN) as client:
        yield client


def test_a_job_that_waits_for_a_larger_machine_says_so(api: TestClient, tmp_path: Path) -> None:
    request = {**JOB, "resources": {"cpus": 48, "gpus": 1}}
    url = api.post("/train", json=request).headers["location"]
    supervisors = Supervisors(Database(tmp_path))
    with Heartbeat(supervisors, "small", vars(SMALL)):
        wait_for(lambda: supervisors.count() == 1)
        body = api.get(url).json()
        assert body["warning"] == (
            "no training worker has the 48 CPUs and 1 GPU that the job asks for: it waits until one is started "
            "on a machine that has. Those that run have 2 CPUs and 8.0 GiB of memory"
        )
        assert body["config"]["resources"] == {"cpus": 48, "memory_bytes": 0, "gpus": 1}
        assert body["config"]["threads"] == 48
        assert api.post("/train", json={**JOB, "resources": {"cpus": 2}}).json()["warning"] is None
        with Heartbeat(supervisors, "large", vars(LARGE)):
            wait_for(lambda: api.get(url).json()["warning"] is None)
        with Heartbeat(supervisors, "cluster"):
            wait_for(lambda: api.get(url).json()["warning"] is None)
    supervisors.database.close()


@pytest.mark.parametrize(
    "resources",
    [{"cpus": 0}, {"cpus": 257}, {"memory_bytes": -1}, {"gpus": 2}, {"disk": 1}, {"cpus": "all"}, []],
)
def test_resources_that_there_are_not_are_refused(api: TestClient, resources: object) -> None:
    is_problem(api.post("/train", json={**JOB, "resources": resources}), 422, "Invalid request")


@pytest.mark.survival
def test_a_worker_runs_what_fits_and_leaves_the_rest(tmp_path: Path) -> None:
    with service(tmp_path) as (_, client):
        large = client.post("/train", json={**JOB, "resources": {"memory_bytes": 2**50}})
        small = client.post("/train", json={**JOB, "resources": {"cpus": 1, "memory_bytes": GIB}}).headers[
            "location"
        ]
        job = wait_for(lambda: (found := client.get(small).json())["status"] == "succeeded" and found)
        assert job["config"]["threads"] == 1
        left = client.get(large.headers["location"]).json()
        assert (left["status"], "no training worker has the 1048576.0 GiB" in left["warning"]) == (
            "queued",
            True,
        )
