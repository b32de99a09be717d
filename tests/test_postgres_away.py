"""A Postgres that is killed, comes back, or is not there yet, under a service that goes on."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

from tests.conftest import ADMIN, ADMIN_KEY, ROOT, SAMPLE
from tests.postgres import PASSWORD, Server
from tests.processes import free_port, service, wait_for
from tests.test_survival import (
    assert_same,
    ended,
    in_epoch,
    post,
    told_once,
    undisturbed,
)

__all__ = ["undisturbed"]  # a fixture

pytestmark = [pytest.mark.survival, pytest.mark.postgres]


@pytest.fixture
def url(postgres: Server, template: str) -> Iterator[str]:
    yield postgres.database(template)
    postgres.start()  # if it was left killed


def has_no_password(home: Path) -> bool:
    return PASSWORD not in (home / "service.log").read_text()


def test_a_server_that_is_killed_costs_a_job_nothing_and_requests_a_503(
    postgres: Server,
    url: str,
    tmp_path: Path,
    digits: dict[str, bytes],
    undisturbed: dict[str, torch.Tensor],
) -> None:
    """Predictions with a key go on, all others are told when to come back, and nothing has to be restarted."""
    predictions: Counter[int] = Counter()
    others: list[httpx2.Response] = []
    stop = threading.Event()
    variables: dict[str, Any] = {
        "MINIST_DATABASE_URL": url,
        "MINIST_OPEN_PREDICT": "false",
        "MINIST_FEEDBACK": "true",
    }
    with service(tmp_path, **variables) as (process, client):

        def predict() -> None:
            while not stop.wait(0.02):
                predictions[client.post("/predict", files={"file": digits["7"]}).status_code] += 1

        def ask() -> None:
            while not stop.wait(0.05):
                others.append(client.get("/train"))

        job_id = post(client)
        in_epoch(client, job_id, 2)
        threads = [threading.Thread(target=work) for work in (predict, ask)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        postgres.kill()
        time.sleep(4)
        ready = client.get("/readyz")
        live = client.get("/livez")
        refused = client.post("/train", json={"model": "minist"})
        postgres.start()
        job = ended(client, job_id)
        wait_for(lambda: client.get("/readyz").json()["warnings"] == [], 30)
        stop.set()
        for thread in threads:
            thread.join()
        assert_same(tmp_path, job, undisturbed)
        assert (job["attempts"], job["status"]) == (1, "succeeded")
        told_once(client, job_id)
        assert process.poll() is None
    assert set(predictions) == {200}
    assert predictions[200] > 20
    assert (ready.status_code, live.status_code) == (200, 200)
    assert "the database does not answer" in " ".join(ready.json()["warnings"])
    statuses = Counter(response.status_code for response in others)
    assert set(statuses) == {200, 503}
    for response in (refused, *others):
        if response.status_code == 503:
            assert response.headers["retry-after"]
            assert response.json()["title"] == "Storage trouble"
            assert "127.0.0.1" not in response.text
    assert has_no_password(tmp_path)


def test_a_service_that_is_up_before_its_database_waits_and_is_not_ready(
    postgres: Server, url: str, tmp_path: Path
) -> None:
    postgres.kill()
    port = free_port()
    environment = {
        **os.environ, "MINIST_HOME": str(tmp_path), "MINIST_DATA_DIR": str(SAMPLE), "MINIST_API_KEY": ADMIN_KEY,
        "MINIST_DATABASE_URL": url, "MINIST_DEVICE": "cpu", "MINIST_PORT": str(port),
    }  # fmt: skip
    command = [sys.executable, "-m", "app", "serve"]
    with (tmp_path / "service.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, headers=ADMIN) as client:

            def status_of(path: str, method: str = "GET") -> int | None:
                try:
                    return client.request(method, path).status_code
                except httpx2.TransportError:
                    return None

            wait_for(lambda: status_of("/readyz") == 503, 60)
            told = client.get("/readyz")
            assert told.headers["retry-after"]
            assert "waits for its database" in told.json()["detail"]
            assert [status_of("/livez"), status_of("/", "HEAD"), status_of("/predict", "POST")] == [
                200,
                503,
                503,
            ]
            postgres.start()
            wait_for(lambda: status_of("/readyz") == 200, 60)
            wait_for(lambda: client.get("/readyz").json()["training_workers"] == 1, 60)
    finally:
        process.terminate()
        process.wait(30)
    assert "waiting for it" in (tmp_path / "service.log").read_text()
    assert has_no_password(tmp_path)


def test_two_supervisors_of_different_homes_share_the_jobs(url: str, tmp_path: Path) -> None:
    """And an alias that is moved in one is served by the other within two seconds."""
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        home.mkdir()
    variables: dict[str, Any] = {"MINIST_DATABASE_URL": url}
    with service(homes[0], **variables) as (_, one), service(homes[1], **variables) as (_, two):
        ids = [post(client, epochs=3, seed=seed) for seed in range(2) for client in (one, two)]
        jobs = [ended(one, job_id) for job_id in ids]
        assert [(job["status"], job["attempts"]) for job in jobs] == [("succeeded", 1)] * 4
        assert sorted(job["version"] for job in jobs) == [2, 3, 4, 5]
        trained = [{path.name for path in (home / "models" / "minist").glob("[2-9]")} for home in homes]
        assert trained[0] | trained[1] == {"2", "3", "4", "5"}
        assert all(trained)
        mine = min(trained[1])
        moved = two.put("/models/minist/aliases/canary", json={"version": int(mine)})
        assert moved.status_code < 300, moved.text
        begun = time.monotonic()

        def seen() -> bool:
            versions = one.get("/models/minist/versions").json()
            return any("canary" in json.dumps(version) for version in versions)

        wait_for(seen, 2)
        assert time.monotonic() - begun < 2
