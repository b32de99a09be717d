"""Homes that are lost, machines that die and a store that is killed: real processes, a real S3 server."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

from app.store.objects import Objects
from tests.conftest import ADMIN_KEY, ROOT, SAMPLE, WEIGHTS
from tests.object_store import SECRET, ObjectStore
from tests.own import archive
from tests.postgres import Server
from tests.processes import children, service, supervisor_of, wait_for
from tests.test_survival import LEASE, OVERRIDES, assert_same, ended, import_ended, in_epoch, post, weights
from training.recipes import RECIPES
from training.run import Run, train

pytestmark = [pytest.mark.survival, pytest.mark.postgres, pytest.mark.objects]

FEW = {**OVERRIDES, "epochs": 12}
SHORT = {"recipe": "softmax-mnist", "epochs": 1, "validation_images": 100}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cpu: torch.device) -> dict[str, torch.Tensor]:
    """The weights that the job ends with when nobody disturbs it."""
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    train(Run.create(directory, RECIPES["mlp"].config(**FEW)), SAMPLE, cpu, lambda event: None)
    return weights(directory)


@pytest.fixture(autouse=True)
def deployment(
    postgres: Server, template: str, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One database and one store for all processes of a test."""
    monkeypatch.setenv("MINIST_DATABASE_URL", postgres.database(template))
    monkeypatch.setenv("MINIST_STORE", object_store.url())
    monkeypatch.setenv("MINIST_LEASE_SECONDS", LEASE)
    monkeypatch.setenv("MINIST_FEEDBACK", "true")


@contextmanager
def worker(home: Path) -> Iterator[None]:
    """A training worker on a machine of its own."""
    command = [sys.executable, "-m", "app", "serve", "worker"]
    environment = {
        **os.environ,
        "MINIST_HOME": str(home),
        "MINIST_DATA_DIR": str(SAMPLE),
        "MINIST_DEVICE": "cpu",
    }
    with (home / "service.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def done(client: httpx2.Client, request: dict[str, Any]) -> dict[str, Any]:
    """The job of a request, once it has succeeded."""
    response = client.post("/train", json=request)
    assert response.status_code == 202, response.text
    job = ended(client, response.json()["id"])
    assert job["status"] == "succeeded", job["error"]
    return job


def kill_all(process: subprocess.Popen[str]) -> None:
    """As a power cut of the machine."""
    supervisor = supervisor_of(process)
    for pid in (process.pid, supervisor, *children(supervisor)):
        os.kill(pid, signal.SIGKILL)


def test_a_machine_that_is_lost_costs_nothing(tmp_path: Path, undisturbed: dict[str, torch.Tensor]) -> None:
    """Empty homes with the same database and store serve all, show all, and go on learning: an API's, and a
    worker's on another machine."""
    zipped = archive(tmp_path / "arrows.zip", ("left", "right"), 30, mode="L")
    with zipfile.ZipFile(zipped) as file:
        arrow = {"file": file.read("left/0.png")}
    request = {**SHORT, "model": "arrows", "dataset": "arrows", "promote": "always", "validation_images": 6}
    with service(folder(tmp_path / "a")) as (process, client):
        client.post("/datasets?name=arrows", files={"file": zipped.read_bytes()}).raise_for_status()
        import_ended(client, "arrows")
        assert done(client, request)["version"] == 1
        before = client.post("/predict?model=arrows", files=arrow).json()["probabilities"]
        samples = client.get("/datasets/arrows/samples").json()
        job_id = post(client, **FEW)
        in_epoch(client, job_id, 4)
        kill_all(process)
    shutil.rmtree(tmp_path / "a")
    with worker(folder(tmp_path / "c")), service(folder(tmp_path / "b"), "api") as (_, client):
        answer = client.post("/predict?model=arrows", files=arrow).json()
        assert answer["probabilities"] == before
        assert client.get("/datasets/arrows/samples").json() == samples
        assert client.get("/models/arrows/versions/1/confusion").status_code == 200
        resumed = ended(client, job_id)
        assert_same(tmp_path / "c", resumed, undisturbed)
        epochs = [e for e in client.get(f"/train/{job_id}/metrics").json() if e["event"] == "epoch"]
        assert (resumed["attempts"], len(epochs) <= 12 + 3) == (2, True)  # it did not begin anew
        said = {"prediction": answer["id"], "label": "right"}
        assert client.post("/feedback", json=said).status_code == 201
        tuned = {"model": "arrows", "recipe": "fine-tune", "epochs": 1, "promote": "always", "feedback": True}
        job = done(client, tuned)
        assert job["feedback"]["used"] == 1
        files = {file["name"]: file["url"] for file in client.get(f"/train/{job['id']}/artifacts").json()}
        assert client.get(files["report.html"]).status_code == 200
        uploaded = client.post("/models/mine/versions", files={"file": (WEIGHTS / "minist.pth").read_bytes()})
        assert uploaded.status_code in (201, 202), uploaded.text
        wait_for(lambda: client.get("/models/mine/versions").status_code == 200, 60)
        assert client.delete("/datasets/arrows@1?force=true").status_code == 204
        logs = "".join((tmp_path / home / "service.log").read_text() for home in "bc")
    assert not any(secret in logs for secret in (SECRET, ADMIN_KEY))
    assert not any("datasets/" in key for key, _ in Objects(os.environ["MINIST_STORE"]).sizes())


def test_a_store_that_is_killed_costs_neither_an_answer_nor_a_result(
    object_store: ObjectStore, tmp_path: Path, digits: dict[str, bytes], undisturbed: dict[str, torch.Tensor]
) -> None:
    statuses: Counter[int] = Counter()
    stop = threading.Event()
    with service(folder(tmp_path / "a")) as (_, client):

        def predict() -> None:
            while not stop.wait(0.05):
                statuses[client.post("/predict", files={"file": digits["7"]}).status_code] += 1

        thread = threading.Thread(target=predict)
        thread.start()
        done(client, {"model": "minist", **SHORT, "promote": "never"})
        shutil.rmtree(tmp_path / "a" / "models" / "minist" / "2")
        job_id = post(client, **FEW)
        in_epoch(client, job_id, 2)
        object_store.kill()
        refused = client.post("/predict?model=minist@2", files={"file": digits["7"]})
        in_epoch(client, job_id, 12)
        wait_for(lambda: "waits for the store" in (tmp_path / "a" / "service.log").read_text())
        waiting = client.get(f"/train/{job_id}").json()
        ready = client.get("/readyz")
        object_store.start()
        job = ended(client, job_id)
        stop.set()
        thread.join()
        again = wait_for(lambda: _answer(client, digits["7"]))
    assert (refused.status_code, refused.json()["title"]) == (503, "Storage trouble")
    assert refused.headers["retry-after"]
    assert "127.0.0.1" not in refused.text
    assert (waiting["status"], ready.status_code) == ("running", 200)
    assert_same(tmp_path / "a", job, undisturbed)
    assert job["attempts"] == 1
    assert again["version"] == 2
    assert set(statuses) == {200}


def _answer(client: httpx2.Client, digit: bytes) -> dict[str, Any] | None:
    response = client.post("/predict?model=minist@2", files={"file": digit})
    return response.json() if response.status_code == 200 else None
