"""Training in a Ray cluster: real nodes on this machine, real signals."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from app.jobs.executor import RayExecutor, RunDirectory
from app.jobs.supervisor import LATER_EXIT
from app.settings import Settings
from tests.conftest import SAMPLE
from tests.processes import alive, children, free_port, service, supervisor_of, wait_for
from tests.ray_cluster import RayCluster, needs_ray, running
from tests.samples import config
from tests.table_samples import CLASSES, mixed, spec_of_mixed, write_table
from tests.test_survival import LEASE, OVERRIDES, assert_same, ended, in_epoch, post, told_once, weights
from training.events import Epoch
from training.recipes import RECIPES
from training.remote import state
from training.remote.trainer import News, Order, RemoteTrainer, remove_abandoned
from training.run import Run, train
from training.supervision import LATER

GRID = {"epochs": 2, "batch_size": 50, "validation_images": 100, "search": {"lr": [0.02, 0.1]}}
CPU = torch.device("cpu")


def trained_at_once(directory: Path, **overrides: Any) -> Run:
    run = Run.create(directory, RECIPES["mlp"].config(**overrides))
    train(run, SAMPLE, CPU, lambda event: None)
    return run


# -- without a cluster ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "ray needs MINIST_STORE"),
        ({"store": "file:///tmp/store"}, "ray needs RAY_ADDRESS"),
        ({"store": "file:///tmp/store", "ray_address": "the head"}, "should match pattern"),
    ],
)
def test_ray_is_refused_without_what_it_needs(
    given: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ValidationError, match=told):
        Settings(executor="ray", **given)  # type: ignore[arg-type]


def test_the_address_is_read_from_rays_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head.example.org:10001")
    found = Settings(store="file:///tmp/store", executor="ray")
    assert found.ray_address == "ray://head.example.org:10001"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "trials/../x", "trials/a/x", "a/b", "trials/1/2/x", ".."])
def test_a_trainer_writes_nothing_but_files_of_the_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no file of a run"):
        state.write(RunDirectory(tmp_path), {name: b""})
    assert list(tmp_path.iterdir()) == []


def news_until_the_end(trainer: RemoteTrainer, epochs: int | None = None) -> Iterator[News]:
    """All, or until so many epochs are complete."""
    while True:
        news = trainer.news(1.0)
        yield news
        epochs = epochs and epochs - sum(isinstance(event, Epoch) for event in news.events)
        if news.ended or (epochs is not None and epochs <= 0):
            return


def test_what_one_trainer_began_another_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Each has a folder of its own, which goes with it."""
    run = Run.create(tmp_path / "run", config(epochs=4))
    for epochs in (2, None):
        order = Order(state.read_state(run.files), str(SAMPLE), "cpu")
        for news in news_until_the_end(RemoteTrainer(order, {}, run.config.dataset), epochs):
            state.write(run.files, news.files)
            assert news.failure is None
            if epochs:
                assert len(run.history()) >= sum(isinstance(event, Epoch) for event in news.events)
    alone = Run.create(tmp_path / "alone", config(epochs=4))
    train(alone, SAMPLE, CPU, lambda event: None)
    expected = {path.name for path in alone.directory.iterdir()}
    assert {path.name for path in run.directory.iterdir()} | {"lock"} == expected
    found, wanted = weights(run.directory), weights(alone.directory)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_a_trainer_says_why_it_failed(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config(dataset="mine@1"))
    order = Order(state.read_state(run.files), str(SAMPLE), "cpu")
    *_, last = news_until_the_end(RemoteTrainer(order, {}, run.config.dataset))
    assert last.failure is not None
    assert "mine@1" in last.failure


def test_folders_of_trainers_that_were_killed_are_removed(tmp_path: Path) -> None:
    for name in ("minist-ray-1-a", "minist-ray-2-b", "minist-ray-x-c", "other"):
        (tmp_path / name).mkdir()
    remove_abandoned(tmp_path, lambda pid: pid == 1)
    assert {path.name for path in tmp_path.iterdir()} == {"minist-ray-1-a", "minist-ray-x-c", "other"}


def test_a_run_that_learns_corrections_stays_on_this_machine(tmp_path: Path) -> None:
    """No cluster is asked: there is none at that address."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(config(epochs=1).model_dump_json())
    run.corrections.write_text('{"before": null, "weights": {}, "corrections": []}')
    child = RayExecutor(SAMPLE, "cpu", tmp_path, "127.0.0.1:1").start(run, lease=60)
    try:
        assert child.exit_code(wait=True) in (0, 1)
        assert "Ray" not in run.log.read_text()
    finally:
        child.kill()


# -- on a cluster --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with running() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights that the job ends with on this machine when nobody disturbs it."""
    return weights(trained_at_once(tmp_path_factory.mktemp("undisturbed") / "run", **OVERRIDES).directory)


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a service that trains in the cluster."""
    monkeypatch.setenv("MINIST_STORE", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MINIST_EXECUTOR", "ray")
    monkeypatch.setenv("MINIST_LEASE_SECONDS", LEASE)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_cluster_that_is_not_there_is_tried_later(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    run = Run.create(tmp_path / "run", config(epochs=1))
    child = RayExecutor(SAMPLE, "cpu", tmp_path, f"127.0.0.1:{free_port()}").start(run.files, lease=60)
    try:
        assert child.exit_code(wait=True) == LATER_EXIT == LATER
    finally:
        child.kill()
    assert "does not answer: Connection refused" in run.files.log.read_text()


def notes(client: Any, job_id: str) -> str:
    found = client.get(f"/train/{job_id}/metrics").json()
    return " ".join(event["data"]["text"] for event in found if event["event"] == "note")


on_cluster = [needs_ray, pytest.mark.survival]


class TestOnACluster:
    pytestmark = on_cluster

    def test_when_the_node_that_trains_is_lost_another_goes_on(
        self, cluster: RayCluster, deployment: Path, undisturbed: dict[str, torch.Tensor]
    ) -> None:
        """From the last epoch, to the same weights; the job does not even notice."""
        with service(deployment, RAY_ADDRESS=cluster.address) as (_, client):
            job_id = post(client)
            in_epoch(client, job_id, 3)
            cluster.lose_the_node_that_trains()
            job = ended(client, job_id)
            assert_same(deployment, job, undisturbed)
            assert job["attempts"] == 1
            assert "another one goes on" in notes(client, job_id)
            told_once(client, job_id)
        cluster.add_node()

    @pytest.mark.parametrize("victim", ["driver", "supervisor"])
    def test_when_the_driver_or_its_supervisor_dies_the_next_goes_on(
        self, victim: str, cluster: RayCluster, deployment: Path, undisturbed: dict[str, torch.Tensor]
    ) -> None:
        """What trained for the one before has ended: nothing is trained twice at a time."""
        with service(deployment, RAY_ADDRESS=cluster.address) as (process, client):
            job_id = post(client)
            in_epoch(client, job_id, 3)
            (trainer,) = cluster.trainers()
            supervisor = supervisor_of(process)
            (driver,) = children(supervisor)
            os.kill(driver if victim == "driver" else supervisor, signal.SIGKILL)
            wait_for(lambda: not alive(trainer), 30)
            job = ended(client, job_id)
            assert_same(deployment, job, undisturbed)
            assert job["attempts"] == 2
            told_once(client, job_id)
            wait_for(lambda: not cluster.trainers(), 30)

    def test_trials_of_a_search_run_side_by_side_with_the_same_result(
        self, cluster: RayCluster, deployment: Path, tmp_path: Path
    ) -> None:
        here = trained_at_once(tmp_path / "here", **GRID)
        with service(deployment, RAY_ADDRESS=cluster.address) as (_, client):
            request = {"model": "minist", "recipe": "mlp", "promote": "never", **GRID}
            job_id = client.post("/train", json=request).json()["id"]
            most = 0
            while client.get(f"/train/{job_id}").json()["status"] in ("queued", "running"):
                most = max(most, len(cluster.trainers()))
            job = ended(client, job_id)
            assert_same(deployment, job, weights(here.directory))
            search = here.search()
            assert search is not None
            assert [trial["loss"] for trial in job["search"]["ended"]] == [
                trial.loss for trial in search.trials
            ]
            assert (job["search"]["best"], job["epochs"], most) == (search.chosen, 4, 2)

    def test_a_data_set_of_ones_own_is_sent_to_the_node(self, cluster: RayCluster, tmp_path: Path) -> None:
        rows, labels = mixed(200)
        write_table(tmp_path / "datasets" / "mine" / "1", spec_of_mixed(), rows, labels, CLASSES)
        wanted = RECIPES["softmax"].config(dataset="mine@1", name="minist")
        runs = [Run.create(tmp_path / place, wanted) for place in ("here", "there")]
        train(runs[0], SAMPLE, CPU, lambda event: None, datasets_dir=tmp_path / "datasets")
        child = RayExecutor(SAMPLE, "cpu", tmp_path / "datasets", cluster.address).start(
            runs[1].files, lease=60
        )
        try:
            assert child.exit_code(wait=True) == 0, runs[1].files.log.read_text()
        finally:
            child.kill()
        here, there = (weights(run.directory) for run in runs)
        assert all(torch.equal(there[name], tensor) for name, tensor in here.items())

    def test_without_the_token_nobody_trains(
        self, cluster: RayCluster, deployment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", "another-token-0123456789")
        run = Run.create(tmp_path / "run", config(epochs=1))
        child = RayExecutor(SAMPLE, "cpu", tmp_path, cluster.address).start(
            RunDirectory(run.directory), lease=60
        )
        try:
            assert child.exit_code(wait=True) != 0
        finally:
            child.kill()
        assert not run.history()


class TestWithoutAHead:
    pytestmark = on_cluster

    def test_a_job_waits_for_a_cluster_that_is_gone(
        self, deployment: Path, undisturbed: dict[str, torch.Tensor]
    ) -> None:
        """It is not failed for good, and says what it waits for; then it goes on where it was."""
        with running() as cluster, service(deployment, RAY_ADDRESS=cluster.address) as (_, client):
            job_id = post(client)
            in_epoch(client, job_id, 3)
            cluster.stop()

            def waits() -> bool:
                job = client.get(f"/train/{job_id}").json()
                return "Ray cluster" in (job["error"] or "") and "tried again" in job["error"]

            wait_for(waits, 90)
            cluster.start(nodes=1)
            job = ended(client, job_id)
            assert_same(deployment, job, undisturbed)
            assert job["epoch"] == 40
            told_once(client, job_id)
