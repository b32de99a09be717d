"""What happens now: sums of processes, rates, and who may watch."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from app.errors import Overloaded
from app.telemetry.counters import Answers, Counters
from app.telemetry.metrics import Processes
from app.telemetry.moments import between, quantile, totals
from app.web.draining import Draining
from app.web.live import MOST_WATCHERS, Live
from tests.conftest import ADMIN
from tests.processes import service, wait_for
from tests.samples import PNG, events, is_problem


def counters(*answers: tuple[int, float]) -> Counters:
    found = Counters()
    counted = found.answers_of("digits", 1, ("a", "b"))
    for index, probability in answers:
        counted.count(index, probability)
    return found


def test_answers_are_counted_by_class_and_by_how_sure_they_are() -> None:
    answers = Answers(2)
    for index, probability in ((0, 0.3), (1, 0.5), (1, 0.9991), (1, 1.0)):
        answers.count(index, probability)
    assert answers.labels == [1, 3]
    assert answers.confidence == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2]


def test_processes_add_up_and_rates_are_of_what_was_added() -> None:
    one, two = counters((0, 0.4)), counters((1, 0.99), (1, 0.99))
    before = totals([one.snapshot(0, 0), two.snapshot(0, 0)])
    assert before.answered["digits", 1].labels == {"a": 1, "b": 2}
    one.answers["digits", 1, ("a", "b")].count(0, 0.7)
    one.failed["digits", 1] += 1
    one.failed["other", 2] += 1
    for seconds in (0.010, 0.010, 0.010, 1.0):
        one.requests["/predict", 200] += 1
        one.latencies.observe(seconds)
    one.batches.observe(3)
    now = totals([one.snapshot(0, 0), two.snapshot(0, 0)])
    moment = between(before, now, 2.0)
    assert (moment.requests_per_second, moment.images_per_second) == (2.0, 0.5)
    assert moment.p50 == pytest.approx(0.010, rel=0.2)
    assert moment.p99 == pytest.approx(1.0, rel=0.2)
    assert moment.batches == {"4": 1}
    assert (now.answered["digits", 1].failed, now.answered["other", 2].count) == (1, 0)


def test_a_quantile_lies_in_its_bin() -> None:
    assert quantile((1.0, 2.0, 3.0), [0, 10, 0, 0], 0.5) == 1.5
    assert quantile((1.0, 2.0), [0, 0, 5], 0.5) == 2.0
    assert quantile((1.0,), [0, 0], 0.5) is None


def test_numbers_are_read_by_a_thread_while_requests_come() -> None:
    """A deque must not change while it is iterated."""
    found, ending = Counters(), threading.Event()

    def serve() -> None:
        while not ending.is_set():
            found.latest_requests.append((time.time(), "GET", "/models", 200, 0.1, b"id"))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for _ in range(300):
            json.dumps(found.snapshot(0, 0))
    finally:
        ending.set()
        thread.join()


# -- the service -------------------------------------------------------------------------------------


@pytest.fixture
def seen(client: TestClient, digits: dict[str, bytes]) -> dict[str, Any]:
    for label in "77":
        client.post("/predict", content=digits[label], headers={**PNG, "x-request-id": "mine-7"})
    client.post("/predict", content=b"junk", headers=PNG)
    client.get("/models/nobody")
    found: dict[str, Any] = client.get("/live", headers=ADMIN).raise_for_status().json()
    return found


def test_an_operator_sees_what_happens(seen: dict[str, Any], client: TestClient) -> None:
    (mine, *_) = (one for one in seen["models"] if (one["model"], one["version"]) == ("digits", 1))
    assert mine["serving"]
    assert mine["answers"] >= 2
    assert mine["labels"]["7"] > 0
    test = client.get("/models/digits").json()["metrics"]["test"]
    assert mine["expected_labels"]["7"] == pytest.approx(
        test["answered"]["labels"]["7"] / test["images"], abs=1e-4
    )
    assert sum(mine["expected_confidence"]) == pytest.approx(1, abs=1e-3)
    titles = {(one["status"], one["title"]) for one in seen["problems"]}
    assert {(422, "Not an image"), (404, "Unknown model")} <= titles
    asked = [one for one in seen["requests"] if one["id"] == "mine-7"]
    assert (asked[0]["route"], asked[0]["label"], asked[0]["version"]) == ("/predict", "7", 1)
    assert seen["workers"][0]["pid"] == os.getpid()
    assert seen["database"]["kind"] == "SQLite"
    assert seen["database"]["bytes"] > 0
    assert 0 < seen["disk"]["free"] < seen["disk"]["total"]
    assert {"following the aliases", "saving the numbers of this process"} <= {
        one["name"] for one in seen["tasks"]
    }
    assert all(one["error"] is None for one in seen["tasks"])


def test_nothing_of_a_picture_and_no_probe_is_among_the_requests(seen: dict[str, Any]) -> None:
    assert not {one["route"] for one in seen["requests"]} & {"/livez", "/metrics", "/live"}
    assert {*seen["requests"][0]} == {
        *("at", "id", "method", "route", "status", "ms", "model", "version", "label", "probability")
    }


@pytest.mark.parametrize("path", ["/live", "/live/events"])
def test_only_an_admin_may_watch(client: TestClient, path: str) -> None:
    is_problem(client.get(path), 401, "Unauthorized")
    key = client.app_state["services"].authenticator.keys.create("reader", ["predict", "train"])
    is_problem(client.get(path, headers={"x-api-key": key}), 403, "Forbidden")


def test_watchers_are_bounded_and_get_an_event_each_second() -> None:
    async def work() -> None:
        live = Live(lambda: [counters().snapshot(0, 0)], lambda *_: Body(), Draining())  # type: ignore[arg-type]
        await live.poll()
        assert live._before is None  # nobody looks, nothing is measured
        watchers = [live.join() for _ in range(MOST_WATCHERS)]
        with pytest.raises(Overloaded):
            live.join()
        await live.poll()
        texts = [await anext(live.messages(watcher)) for watcher in watchers[:2]]
        assert texts[0] == texts[1] == b'event: live\ndata: {"a":1}\nid: 1\n\n'
        live.leave(watchers[0])
        live.join()

    class Body:
        def model_dump_json(self) -> str:
            return '{"a":1}'

    asyncio.run(asyncio.wait_for(work(), 20))


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with service(tmp_path_factory.mktemp("live"), "api", "--workers", "2") as (process, client):
        yield client
        process.terminate()
        assert process.wait(20) == 0  # also with somebody who watches


def test_two_workers_are_seen_as_one(two_workers: httpx2.Client, digits: dict[str, bytes]) -> None:
    client, fresh = two_workers, {"connection": "close"}
    for _ in range(20):
        client.post("/predict", content=digits["7"], headers={**PNG, **fresh}).raise_for_status()

    def everything() -> dict[str, Any] | None:
        body: dict[str, Any] = client.get("/live", headers=fresh).json()
        return body if len(body["workers"]) == 2 and body["models"][0]["answers"] == 20 else None

    body = wait_for(everything, 30)
    assert len({worker["pid"] for worker in body["workers"]}) == 2
    assert body["models"][0]["labels"]["7"] == 1
    assert sum(one["route"] == "/predict" for one in body["requests"]) == 20


def test_a_stream_tells_what_was_asked_meanwhile(two_workers: httpx2.Client, digits: dict[str, bytes]) -> None:
    client = two_workers
    with client.stream("GET", "/live/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = ""
        for part in stream.iter_text():
            text += part
            found: list[Any] = [data for *_, data in events(text)] if text.endswith("\n\n") else []
            if len(found) == 1:
                client.post("/predict", content=digits["3"], headers=PNG).raise_for_status()
            if found and found[-1]["models"][0]["recent"]:
                break
    assert found[-1]["models"][0]["labels"]["3"] > 0
    assert found[-1]["seconds"] == pytest.approx(1, abs=0.9)


def test_the_numbers_of_a_process_that_has_ended_stay_but_it_is_no_worker(tmp_path: Path) -> None:
    ended = {**counters((0, 0.9)).snapshot(0, 0), "process": {"pid": 7, "cpu": 1.0, "memory": 1, "at": 1.0}}
    path = tmp_path / "ended.json"
    path.write_text(json.dumps(ended))
    os.utime(path, (0, 0))
    found = Processes(tmp_path, lambda: counters((1, 0.9)).snapshot(0, 0)).all()
    assert totals(found).answered["digits", 1].count == 2
    assert [one.get("process") for one in found] == [None, None]
