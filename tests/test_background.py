"""Work in the background that fails: it goes on, and `/readyz` tells."""

import asyncio
import gc
from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.web import background
from app.web.background import Background
from tests.processes import wait_for
from tests.samples import is_problem


def test_work_that_predictions_can_do_without_is_a_warning() -> None:
    now = 0.0

    failed = asyncio.Queue[None]()

    async def work() -> None:
        failed.put_nowait(None)
        raise OSError("the disk is full")

    async def main() -> None:
        nonlocal now
        running = Background(clock=lambda: now)
        running.repeat("comparing", 0.001, work, spare=True)
        for _ in range(2):
            await failed.get()
        now = 60.0
        ((name, error),) = running.states
        assert name == "comparing"
        assert (error or "").endswith("times in a row: the disk is full (OSError)")
        assert running.trouble is None
        assert [said.partition(" has failed ")[0] for said in running.warnings] == ["comparing"]
        await running.end()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_work_that_keeps_failing_is_trouble_until_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    broken = False
    turns = asyncio.Queue[None]()

    async def work() -> None:
        turns.put_nowait(None)
        if broken:
            raise ValueError("no\nluck")

    async def several() -> None:
        while not turns.empty():
            turns.get_nowait()
        for _ in range(5):
            await turns.get()

    async def main() -> None:
        nonlocal now, broken
        running = Background(clock=lambda: now)
        running.repeat("counting", 0.001, work)
        await several()
        assert running.trouble is None
        broken = True
        await several()
        assert running.trouble is None  # some failures in a moment, such as of a locked database
        now = 3.0
        await several()
        assert running.trouble is not None
        assert running.trouble.startswith("counting has failed ")
        assert running.trouble.endswith("times in a row: no luck (ValueError)")
        broken = False
        await several()
        assert running.trouble is None
        await running.end()

    asyncio.run(asyncio.wait_for(main(), 30))
    assert [record.getMessage() for record in caplog.records] == [
        "counting: no luck (ValueError)",
        "counting works again",
    ]


def test_a_rare_failure_that_lasts_is_trouble_too() -> None:
    failures = background.Failures(since=0.0, count=1)
    assert not failures.is_trouble(9.0)
    assert failures.is_trouble(10.0)


def test_work_that_has_ended_is_trouble() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        running = Background()
        running.repeat("counting", 0.001, cancelled)
        await asyncio.sleep(0.01)
        assert running.trouble == "counting has stopped"

    asyncio.run(main())


def test_readyz_names_the_work_that_fails(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A DatabaseError of some seconds: aliases were not followed any more, and readyz said 200."""

    def broken() -> bool:
        raise DatabaseError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(background, "FAILING_SECONDS", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(client.app_state["services"].registry, "refresh", broken)
        wait_for(lambda: client.get("/readyz").status_code == 503)
        body = is_problem(client.get("/readyz"), 503, "Not ready")
        assert "following the aliases has failed" in str(body["detail"])
        assert "disk I/O error" in str(body["detail"])
        assert client.get("/livez").status_code == 200
    wait_for(lambda: client.get("/readyz").status_code == 200)


def test_models_are_no_work_for_the_garbage_collector(tmp_path: Path) -> None:
    """Also those that are loaded after the start: to traverse them stopped all requests for 100 ms."""
    with TestClient(create_app(Settings(home=tmp_path, device="cpu"))) as client:
        registry = client.app_state["services"].registry

        def all_kept() -> bool:
            models = {id(served.classifier.model) for served in registry.models}
            return len(models) > 5 and not any(id(one) in models for one in gc.get_objects())

        assert wait_for(all_kept)
