"""Who follows the events of jobs: one poller of the database for all of them in this process.

    poll, a few times a second: what is new in the table of events -> recent events of each followed job,
    encoded once -> its followers, some at a time, so that predictions go in between

A follower reads the database itself only for what was before it came, or when it has fallen behind.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.errors import Overloaded
from app.jobs.job import TERMINAL, Event
from app.jobs.queue import Queue
from app.telemetry.counters import Counters
from app.web.draining import Draining
from app.web.schemas import to_json

POLL_SECONDS = 0.25
KEEPALIVE_SECONDS = 15
RETRY_SECONDS = 10  # for a client that is refused
PAGE = 500  # events that are read from the database at a time
KEPT = 200  # recent events of a job
JOBS_AT_ONCE = 100  # in one query
AT_ONCE = 20  # followers that are woken before others have their turn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """An event on the wire; `last`: the job has ended."""

    id: int
    text: bytes
    last: bool

    @classmethod
    def of(cls, event: Event) -> "Message":
        text = format_sse_event(data_str=to_json(event.data).decode(), event=event.kind, id=str(event.id))
        return cls(event.id, text, event.kind == "status" and event.data["status"] in TERMINAL)


@dataclass(slots=True, eq=False)
class Follower:
    """One client; `after` is the last event that it has."""

    job: str
    after: int
    sent: float  # when, on the monotonic clock
    wake: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class Followed:
    """A job with its followers, and all of its events after `floor`, up to the one `seen` last."""

    floor: int
    seen: int
    recent: deque[Message] = field(default_factory=deque)
    followers: set[Follower] = field(default_factory=set)

    def add(self, message: Message) -> None:
        self.recent.append(message)
        if len(self.recent) > KEPT:
            self.floor = self.recent.popleft().id

    @property
    def newest(self) -> int:
        return self.recent[-1].id if self.recent else 0


class Followers:
    """All of one process. Used in its event loop."""

    def __init__(self, queue: Queue, counters: Counters, limit: int, draining: Draining) -> None:
        self.limit = limit
        self._queue = queue
        self._counters = counters
        self._draining = draining
        self._jobs: dict[str, Followed] = {}
        self._number = 0
        self._reads = CapacityLimiter(4)

    def __len__(self) -> int:
        return self._number

    async def join(self, job: str, after: int) -> Follower:
        """A new follower, who has to `leave`. Raises Overloaded."""
        if self._number >= self.limit:
            self._counters.refused["followers"] += 1
            raise Overloaded(
                f"{self._number:,} clients follow jobs, no more are taken in now",
                f"ask GET /train/{job} now and then",
                retry_after=RETRY_SECONDS,
            )
        self._number += 1
        try:
            newest = 0 if job in self._jobs else await self.read(self._queue.newest_event, job)
        except BaseException:
            self._number -= 1
            raise
        follower = Follower(job, after, time.monotonic())
        self._jobs.setdefault(job, Followed(newest, newest)).followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        self._number -= 1
        followed = self._jobs[follower.job]
        followed.followers.discard(follower)
        if not followed.followers:
            del self._jobs[follower.job]

    async def read(self, work: Callable[..., T], *arguments: Any) -> T:
        """`work` in one of a few threads that only followers have."""
        return await to_thread.run_sync(work, *arguments, limiter=self._reads)

    async def poll(self) -> None:
        """Read what is new, and wake those whom it concerns."""
        if self._draining:
            await self._wake()
            return
        jobs = [*self._jobs]
        for at in range(0, len(jobs), JOBS_AT_ONCE):
            while await self._read(jobs[at : at + JOBS_AT_ONCE]) == PAGE:
                await self._wake()
        if jobs:
            await self._wake()

    async def _read(self, jobs: list[str]) -> int:
        """Take in a page of new events of these jobs; how many."""
        seen = {job: self._jobs[job].seen for job in jobs if job in self._jobs}
        found = await self.read(self._queue.events_after, seen, PAGE) if seen else []
        for job, event in found:
            followed = self._jobs.get(job)
            if followed is not None and event.id > followed.seen:
                followed.seen = event.id
                followed.add(Message.of(event))
        return len(found)

    async def _wake(self) -> None:
        silent = time.monotonic() - KEEPALIVE_SECONDS
        everyone = bool(self._draining)
        due = [
            follower
            for followed in self._jobs.values()
            for follower in followed.followers
            if everyone or follower.after < followed.newest or follower.sent < silent
        ]
        for at in range(0, len(due), AT_ONCE):
            for follower in due[at : at + AT_ONCE]:
                follower.wake.set()
            await asyncio.sleep(0)

    async def messages(self, follower: Follower) -> AsyncIterator[bytes]:
        """Events as they come, until the newest is a terminal status (a resumed job has older ones)."""
        found = await self._stored(follower)
        last = False
        while not self._draining:
            if found:
                last, follower.sent = found[-1].last, time.monotonic()
                yield b"".join(message.text for message in found)
            elif time.monotonic() - follower.sent > KEEPALIVE_SECONDS:
                follower.sent = time.monotonic()
                yield b": keep-alive\n\n"
            if len(found) < PAGE:
                if last:
                    return
                await follower.wake.wait()
                follower.wake.clear()
            found = await self._next(follower)

    async def _next(self, follower: Follower) -> list[Message]:
        followed = self._jobs[follower.job]
        if follower.after < followed.floor:
            return await self._stored(follower)
        found = [message for message in followed.recent if message.id > follower.after]
        follower.after = max(follower.after, followed.newest)
        return found

    async def _stored(self, follower: Follower) -> list[Message]:
        seen = self._jobs[follower.job].seen  # all events of the job up to this one are in the database now
        events = await self.read(self._queue.events, follower.job, follower.after, PAGE)
        whole = len(events) < PAGE
        follower.after = max(seen if whole else 0, events[-1].id if events else follower.after)
        return [Message.of(event) for event in events]


class EventStream(StreamingResponse):
    """The response to a follower, who leaves when it ends."""

    def __init__(self, followers: Followers, follower: Follower) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(followers.messages(follower), media_type="text/event-stream", headers=headers)
        self._followers = followers
        self._follower = follower

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._followers.leave(self._follower)
