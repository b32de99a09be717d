"""Whether anybody takes jobs, and who says so."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import update

from app.cli import main
from app.store.database import Database
from app.store.supervisors import SILENCE_SECONDS, Heartbeat, Supervisors
from app.store.tables import supervisors as table
from tests.conftest import ROOT
from tests.processes import service, wait_for

JOB = {"model": "mine", "recipe": "softmax-mnist", "epochs": 1, "validation_images": 100}


@pytest.fixture
def supervisors(tmp_path: Path) -> Supervisors:
    database = Database(tmp_path)
    database.migrate()
    return Supervisors(database)


def test_one_that_is_silent_is_taken_for_dead(supervisors: Supervisors) -> None:
    supervisors.beat("a")
    supervisors.beat("a")
    supervisors.beat("b")
    assert supervisors.count() == 2
    with supervisors.database.write() as connection:
        connection.execute(
            update(table).where(table.c.name == "a").values(seen_at=time.time() - SILENCE_SECONDS)
        )
    assert supervisors.count() == 1
    assert supervisors.count("elsewhere") == 0


def test_one_that_ends_is_forgotten_at_once(supervisors: Supervisors) -> None:
    with Heartbeat(supervisors, "a"):
        wait_for(lambda: supervisors.count() == 1)
    assert supervisors.count() == 0


def test_an_api_without_a_training_worker_says_so_until_there_is_one(tmp_path: Path) -> None:
    with service(tmp_path, "api") as (_, client):
        assert client.get("/readyz").json()["training_workers"] == 0
        assert client.get("/info").json()["training_workers"] == 0
        assert "minist_training_workers 0.0" in client.get("/metrics").text
        job = client.post("/train", json=JOB)
        assert job.status_code == 202
        assert "no training worker is running" in job.json()["warning"]
        assert client.get(f"/train/{job.json()['id']}").json()["warning"] == job.json()["warning"]
        environment = {**os.environ, "MINIST_HOME": str(tmp_path)}
        words = [sys.executable, "-m", "app", "serve", "worker"]
        worker = subprocess.Popen(words, cwd=ROOT, env=environment)
        try:
            wait_for(lambda: client.get("/readyz").json()["training_workers"] == 1)
            assert client.post("/train", json=JOB).json()["warning"] is None
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)
        wait_for(lambda: client.get("/readyz").json()["training_workers"] == 0)


def test_the_attached_worker_is_there_from_the_first_request(tmp_path: Path) -> None:
    with service(tmp_path) as (_, client):
        assert client.get("/readyz").json()["training_workers"] == 1
        assert client.post("/train", json=JOB).json()["warning"] is None


def test_health_tells_both_kinds_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with service(tmp_path, "api") as (_, client):
        monkeypatch.setenv("MINIST_HOME", str(tmp_path))
        monkeypatch.setenv("MINIST_PORT", str(client.base_url.port))
        assert main(["health"]) == 0
        assert main(["health", "worker"]) == 1
        assert "no training worker" in capsys.readouterr().err
        database = Database(tmp_path)
        with Heartbeat(Supervisors(database), "here"):
            wait_for(lambda: main(["health", "worker"]) == 0)
        database.close()
    assert main(["health"]) == 1
    assert re.search(r"port \d+: Connection refused", capsys.readouterr().err)
