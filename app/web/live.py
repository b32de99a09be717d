"""What happens now: measured once a second, by the process that is asked, and only while somebody looks.

    numbers of all processes -> sums, rates (app.telemetry.moments) -> a body (app.web.live_view) -> watchers

Nothing of it is on the way of a request, and what is shown is bounded: models, classes, requests and jobs.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from anyio import CapacityLimiter, to_thread
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.errors import Overloaded
from app.telemetry.metrics import Snapshot
from app.telemetry.moments import Totals, totals
from app.web.draining import Draining
from app.web.live_body import MomentBody

EVERY_SECONDS = 1.0
MOST_WATCHERS = 20  # of one process
RETRY_SECONDS = 30  # for one that is refused
KEPT_SECONDS = 300.0  # of numbers that nobody looks at: then "recent" begins anew


@dataclass(frozen=True)
class Sample:
    """Numbers of all processes, when they were read, by the monotonic clock."""

    at: float
    snapshots: list[Snapshot]
    totals: Totals

    @classmethod
    def of(cls, snapshots: list[Snapshot]) -> "Sample":
        return cls(time.monotonic(), snapshots, totals(snapshots))


@dataclass(slots=True, eq=False)
class Watcher:
    """A client that looks."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Live:
    """The watchers of one process. Used in its event loop."""

    def __init__(
        self,
        snapshots: Callable[[], list[Snapshot]],
        describe: Callable[[Sample, Sample, Sample], MomentBody],
        draining: Draining,
    ) -> None:
        """`describe` makes the body of the first sample, the one before and the present one; it may block."""
        self._snapshots = snapshots
        self._describe = describe
        self._draining = draining
        self._watchers: set[Watcher] = set()
        self._first: Sample | None = None
        self._before: Sample | None = None
        self._number = 0
        self._message = b""
        self._measuring = CapacityLimiter(1)

    def __len__(self) -> int:
        return len(self._watchers)

    def join(self) -> Watcher:
        """A new watcher, who has to `leave`. Raises Overloaded."""
        if len(self._watchers) >= MOST_WATCHERS:
            raise Overloaded(
                f"{len(self._watchers)} clients look at this process already",
                "close another page of it, or ask GET /live now and then",
                retry_after=RETRY_SECONDS,
            )
        watcher = Watcher()
        self._watchers.add(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    async def once(self) -> MomentBody:
        """What happens in the second from now on."""
        before = await self._sample()
        await asyncio.sleep(EVERY_SECONDS)
        now = await self._sample()
        return await to_thread.run_sync(self._describe, self._first or before, before, now)

    async def poll(self) -> None:
        """Measure and tell all watchers; a turn of work in the background."""
        if not self._watchers:
            if self._before is not None and time.monotonic() - self._before.at > KEPT_SECONDS:
                self._first = self._before = None
            return
        if not self._draining:
            await self._measure()
        for watcher in self._watchers:
            watcher.wake.set()

    async def _measure(self) -> None:
        now = await self._sample()
        first, before = self._first or now, self._before
        if before is None or now.at - before.at > KEPT_SECONDS:
            first, before = now, now
        body = await to_thread.run_sync(self._describe, first, before, now, limiter=self._measuring)
        self._first, self._before = first, now
        self._number += 1
        text = format_sse_event(data_str=body.model_dump_json(), event="live", id=str(self._number))
        self._message = text

    async def _sample(self) -> Sample:
        return await to_thread.run_sync(lambda: Sample.of(self._snapshots()), limiter=self._measuring)

    async def messages(self, watcher: Watcher) -> AsyncIterator[bytes]:
        """A server-sent event a second, until the service ends."""
        while not self._draining:
            await watcher.wake.wait()
            watcher.wake.clear()
            if not self._draining and self._message:
                yield self._message


class LiveStream(StreamingResponse):
    """The response to a watcher, who leaves when it ends."""

    def __init__(self, live: Live, watcher: Watcher) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(live.messages(watcher), media_type="text/event-stream", headers=headers)
        self._live, self._watcher = live, watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.leave(self._watcher)
