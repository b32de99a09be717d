"""Clients that follow the events of jobs: all see everything, in order, and together cost little."""

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.errors import Overloaded
from app.jobs.job import Job
from app.jobs.queue import Queue
from app.store.database import Database
from app.telemetry.counters import Counters
from app.web import followers as module
from app.web.draining import Draining
from app.web.followers import Follower, Followers
from tests.processes import cpu_seconds, service
from tests.samples import PNG, events

CONFIG = {"name": "minist", "recipe": "mlp", "epochs": 3}


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    database = Database(tmp_path)
    database.migrate()
    yield Queue(database)
    database.close()


def new_job(queue: Queue) -> str:
    return queue.submit(CONFIG, "never", limit=20, idempotency_key=None).id


def start(queue: Queue) -> Job:
    job = queue.claim()
    assert job is not None
    return job


def steps(queue: Queue, job: Job, number: int) -> None:
    for step in range(number):
        queue.step(job, {"step": step})


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 60))


def of(queue: Queue, limit: int = 10) -> Followers:
    return Followers(queue, Counters(), limit, Draining())


async def read_all(followers: Followers, follower: Follower) -> list[tuple[str, int, dict[str, object]]]:
    return events(b"".join([text async for text in followers.messages(follower)]).decode())


async def until_done(followers: Followers, task: asyncio.Future[Any]) -> None:
    while not task.done():
        await followers.poll()
        await asyncio.sleep(0.001)


def test_every_follower_sees_every_event_once_in_order(queue: Queue) -> None:
    """One came before the first step, one in between, one has seen some; one follows another job."""
    job, other = new_job(queue), new_job(queue)
    started = start(queue)

    async def work() -> None:
        followers = of(queue)
        early = asyncio.ensure_future(read_all(followers, await followers.join(job, 0)))
        await asyncio.sleep(0.05)
        steps(queue, started, 5)
        await followers.poll()
        seen = queue.events(job)[3].id
        late = asyncio.ensure_future(read_all(followers, await followers.join(job, 0)))
        back = asyncio.ensure_future(read_all(followers, await followers.join(job, seen)))
        strange = asyncio.ensure_future(read_all(followers, await followers.join(other, 0)))
        await followers.poll()
        await asyncio.sleep(0.05)
        steps(queue, started, 5)
        queue.cancel(job)
        queue.cancel(other)
        everything = asyncio.ensure_future(asyncio.gather(early, late, back, strange))
        await until_done(followers, everything)
        stored = [event.id for event in queue.events(job)]
        assert [id for _, id, _ in early.result()] == [id for _, id, _ in late.result()] == stored
        assert [id for _, id, _ in back.result()] == [id for id in stored if id > seen]
        assert [data["status"] for _, _, data in strange.result()] == ["queued", "cancelled"]

    run(work)


def test_who_falls_behind_misses_nothing(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not read, while more happens than is kept, or than is read at a time."""
    monkeypatch.setattr(module, "KEPT", 20)
    monkeypatch.setattr(module, "PAGE", 15)
    job = new_job(queue)
    started = start(queue)

    async def work() -> None:
        followers = of(queue)
        follower = await followers.join(job, 0)
        stream = followers.messages(follower)
        found = [await anext(stream)]
        for _ in range(2):
            steps(queue, started, 40)
            await followers.poll()
            found.append(await anext(stream))
        queue.cancel(job)
        await followers.poll()
        found += [text async for text in stream]
        assert [id for _, id, _ in events(b"".join(found).decode())] == [one.id for one in queue.events(job)]

    run(work)


def test_a_follower_hears_something_also_when_nothing_happens(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEPALIVE_SECONDS", 0.05)
    job = new_job(queue)

    async def work() -> None:
        followers = of(queue)
        stream = followers.messages(await followers.join(job, 0))
        await anext(stream)
        silence = asyncio.ensure_future(anext(stream))
        await until_done(followers, silence)
        assert silence.result() == b": keep-alive\n\n"

    run(work)


def test_followers_are_counted_and_more_are_refused(queue: Queue) -> None:
    job = new_job(queue)

    async def work() -> None:
        followers = of(queue, limit=2)
        first, second = await followers.join(job, 0), await followers.join("other", 0)
        with pytest.raises(Overloaded, match="2 clients follow jobs") as refused:
            await followers.join(job, 0)
        assert refused.value.retry_after
        followers.leave(first)
        followers.leave(await followers.join(job, 0))
        followers.leave(second)
        assert len(followers) == 0

    run(work)


def test_streams_end_when_the_service_does(queue: Queue) -> None:
    job = new_job(queue)

    async def work() -> None:
        draining = Draining()
        followers = Followers(queue, Counters(), 10, draining)
        streams = [asyncio.ensure_future(read_all(followers, await followers.join(job, 0))) for _ in range(5)]
        await asyncio.sleep(0.05)
        draining.begun = True
        queue.database.close()
        await followers.poll()
        assert [len(found) for found in await asyncio.gather(*streams)] == [1] * 5

    run(work)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what a process has used")
def test_hundreds_of_followers_cost_little_and_hold_up_nobody(tmp_path: Path, digits: dict[str, bytes]) -> None:
    """500 took a whole processor, each with its own question to the database four times a second."""
    with service(tmp_path, "api", MINIST_MAX_FOLLOWERS="300") as (process, client), ExitStack() as stack:
        job = client.post("/train", json={"model": "minist", "recipe": "mlp"}).json()["id"]

        def follow() -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", client.base_url.port or 80), timeout=60)
            connection.sendall(f"GET /train/{job}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            return stack.enter_context(connection)

        connections = [follow() for _ in range(300)]
        assert all(b"queued" in read_until(connection, b"\n\n") for connection in connections)
        refused = client.get(f"/train/{job}/events")
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        begun = cpu_seconds(process.pid)
        time.sleep(3)
        assert cpu_seconds(process.pid) - begun < 1.5  # measured: 0.15, and before 3
        assert client.post("/predict", content=digits["7"], headers=PNG).json()["label"] == "7"
        client.delete(f"/train/{job}").raise_for_status()
        assert all(b"cancelled" in read_until(connection, b"cancelled") for connection in connections)
        stack.close()
        assert is_let_in(client, job)


def read_until(connection: socket.socket, end: bytes) -> bytes:
    found = b""
    while end not in found:
        part = connection.recv(65536)
        assert part
        found += part
    return found


def is_let_in(client: httpx2.Client, job: str) -> bool:
    """The places of those who have left are free."""
    with client.stream("GET", f"/train/{job}/events") as response:
        return response.status_code == 200
