"""Many callers, one model: whatever waits is answered in one forward pass.

    submit (any number of images) -> queue -> batch (one model, MAX_BATCH_SIZE) -> each caller's own rows

A batch is taken as soon as the event loop has run what is ready, so a single request does not wait, and
under load the next batch gathers while one is computed. Requests with more images than fit go on in the next
batch, behind those that came meanwhile: no request waits for the whole of a large one. The forward pass runs in
the event loop (a thread was slower: `benchmarks/SERVING.md`).

Rows of tables are images of another shape. Many of them go through threads, which share a batch: torch's own
would wait for each other in each of the many small steps of such a model.

Heavy models have a lane of their own: one thread of low priority, small batches. They never hold up the loop.
"""

import asyncio
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

import torch

from app.errors import Overloaded
from app.telemetry.counters import Counters, Times
from models.inference import Forward

log = logging.getLogger("minist.batching")

MAX_BATCH_SIZE = 256  # images in one forward pass; larger ones fall out of the CPU's cache
MAX_BATCH_ROWS = 256  # of a table: each costs more, and the event loop waits for all
SMALL_BYTES = 64 * 1024  # of a request body: smaller ones have an eighth of the bytes for themselves
HEAVY_SECONDS = 0.25  # of a batch of a heavy model: what waits behind it waits no longer
MAX_HEAVY_SECONDS = 30.0  # of forward passes that may wait for the thread
NICENESS = 10  # of that thread
Rows = list[list[float]]  # one row per image: probabilities in class order, of a background its logit last


class Model(Protocol):
    """What a batch is made for: images that were submitted for the same object may share one."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def forward(self) -> Forward: ...  # the rows of a batch: see models.inference

    @property
    def input_shape(self) -> tuple[int, ...]: ...  # of an image, or of a row of a table

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def most(self) -> int: ...  # images in one forward pass

    @property
    def heavy_seconds(self) -> float: ...  # of a forward pass of one image; 0 for what the event loop can bear


@dataclass(slots=True, eq=False)
class PendingRequest:
    """Images that wait for their rows."""

    model: Model
    pixels: bytes | memoryview  # one image after the other; of a table, float32, one row after the other
    count: int
    answer: asyncio.Future[Rows]
    since: float
    times: Times | None = None  # where somebody wants to know them
    taken: int = 0
    rows: Rows = field(default_factory=list)


Slice = tuple[PendingRequest, int]  # whose, and how many of its images


class Held:
    """Bytes of one request's body, counted among those of all requests as they come, until `release`."""

    __slots__ = ("_batcher", "size")

    def __init__(self, batcher: "Batcher") -> None:
        self._batcher = batcher
        self.size = 0

    def add(self, size: int) -> None:
        """So many more have come. Raises Overloaded."""
        self._batcher.admit(size, self.size)
        self.size += size

    def expect(self, size: int) -> None:
        """So many have been announced; they are not counted before they come. Raises Overloaded."""
        self._batcher.expect(size, self.size)

    def release(self) -> None:
        self._batcher.release(self.size)
        self.size = 0


class Batcher:
    """The queue of one process. Everything happens in its event loop."""

    def __init__(self, counters: Counters, max_images: int, max_bytes: int, bulk_threads: int = 1) -> None:
        """`bulk_threads` are torch's for the batches of requests that fill more than one."""
        self.counters = counters
        self.bulk_threads = bulk_threads
        self.max_images = max_images
        self.max_bytes = max_bytes
        self.images = 0  # that wait
        self.bytes = 0  # of request bodies that were admitted and are not answered
        self.rate = 5_000.0  # images per second of forward passes, a moving average
        self._waiting: deque[PendingRequest] = deque()
        self._scheduled = False
        self._heavy: deque[PendingRequest] = deque()
        self._lane: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "heavy", lower_priority)
        self._many: deque[PendingRequest] = deque()
        self._lane_of_many: asyncio.Task[None] | None = None
        self._threads_of_many = ThreadPoolExecutor(bulk_threads, "rows", torch.set_num_threads, (1,))

    # -- by requests -------------------------------------------------------------------------------

    def submit(
        self, model: Model, pixels: bytes | memoryview, count: int, times: Times | None = None
    ) -> asyncio.Future[Rows]:
        """A row per image, in order; cancelling the future takes images that still wait out of the queue.

        `times` are filled in until the rows are there.
        Raises Overloaded where too many images wait; with an empty queue a request is always admitted.
        """
        if self.images and self.images + count > self.max_images:
            raise self._overloaded("images", f"{self.images:,} images wait already")
        loop = asyncio.get_running_loop()
        pending = PendingRequest(model, pixels, count, loop.create_future(), time.perf_counter(), times)
        if model.heavy_seconds:
            return self._submit_heavy(pending)
        if count > model.most and model.dtype.is_floating_point:
            return self._submit_many(pending)
        self._waiting.append(pending)
        self.images += count
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._run)
        return pending.answer

    def _submit_heavy(self, pending: PendingRequest) -> asyncio.Future[Rows]:
        if self._heavy and self._heavy_waiting() > MAX_HEAVY_SECONDS:
            raise self._overloaded("images", f"{len(self._heavy):,} requests wait for large models")
        self._heavy.append(pending)
        self.images += pending.count
        if self._lane is None or self._lane.done():
            self._lane = asyncio.get_running_loop().create_task(self._run_heavy())
        return pending.answer

    def _submit_many(self, pending: PendingRequest) -> asyncio.Future[Rows]:
        self._many.append(pending)
        self.images += pending.count
        if self._lane_of_many is None or self._lane_of_many.done():
            self._lane_of_many = asyncio.get_running_loop().create_task(self._run_many())
        return pending.answer

    def _heavy_waiting(self) -> float:
        """Seconds of forward passes in front of a new request."""
        return sum((one.count - one.taken) * one.model.heavy_seconds for one in self._heavy)

    def admit(self, size: int, held: int = 0) -> None:
        """Admit so many bytes of a request body, of which `held` are admitted; `release` them all when it is
        answered. Raises Overloaded, but never for a request that is alone."""
        self.expect(size, held)
        self.bytes += size

    def expect(self, size: int, held: int = 0) -> None:
        """Raises Overloaded where so many bytes would not be admitted now."""
        if self.bytes + size > self.max_bytes * 7 // 8 and self.bytes > held:
            large = held + size > SMALL_BYTES
            if large or self.bytes + size > self.max_bytes:
                raise self._overloaded("bytes", f"{self.bytes:,} bytes of requests are being worked on")

    def release(self, size: int) -> None:
        self.bytes -= size

    @property
    def saturated(self) -> bool:
        """Whether the next request would be refused, however small."""
        return self.images >= self.max_images or self.bytes >= self.max_bytes

    @property
    def backlogged(self) -> bool:
        """Whether what is submitted now has to wait for more than one batch."""
        return self.images > MAX_BATCH_SIZE

    def retry_after(self) -> int:
        """Seconds after which what waits now should be answered, by the rate of late."""
        return max(1, math.ceil(self.images / self.rate + self._heavy_waiting()))

    def _overloaded(self, reason: str, detail: str) -> Overloaded:
        self.counters.refused[reason] += 1
        seconds = self.retry_after()
        return Overloaded(
            f"{detail}, no more are taken in now",
            f"try again in {seconds} s, or ask another instance",
            retry_after=seconds,
        )

    # -- in the event loop -------------------------------------------------------------------------

    def _run(self) -> None:
        self._scheduled = False
        slices = self._take(self._waiting, self._waiting[0].model.most if self._waiting else 0)
        if slices:
            self._answer(slices)
        if self._waiting:  # after the loop has looked for new requests
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    async def _run_heavy(self) -> None:
        """Until none waits: a batch after the other, in the thread."""
        while self._heavy:
            seconds = self._heavy[0].model.heavy_seconds
            slices = self._take(self._heavy, max(1, min(MAX_BATCH_SIZE, int(HEAVY_SECONDS / seconds))))
            if slices:
                await self._answer_elsewhere(slices, self._in_heavy_thread)

    async def _run_many(self) -> None:
        """The same with many rows, in as many threads as there are."""
        while self._many:
            slices = self._take(self._many, self._many[0].model.most * self.bulk_threads)
            if slices:
                await self._answer_elsewhere(slices, self._in_threads)

    async def _in_heavy_thread(self, slices: list[Slice]) -> Rows:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._forward, slices)

    async def _in_threads(self, slices: list[Slice]) -> Rows:
        """Each has its part of a batch."""
        loop, forward = asyncio.get_running_loop(), slices[0][0].model.forward

        def answer(part: torch.Tensor) -> Rows:
            rows: Rows = forward(part).tolist()
            return rows

        parts = _joined(slices).chunk(self.bulk_threads)
        answering = (loop.run_in_executor(self._threads_of_many, answer, part) for part in parts)
        found = await asyncio.gather(*answering)
        return [row for rows in found for row in rows]

    async def _answer_elsewhere(
        self, slices: list[Slice], forward: Callable[[list[Slice]], Awaitable[Rows]]
    ) -> None:
        begun = self._begin(slices)
        try:
            rows = await forward(slices)
        except Exception as error:
            if len(slices) == 1:
                self._fail(slices[0][0], error)
                return
            log.error("a batch failed, its requests are tried alone: %s", error)
            for piece in slices:
                await self._answer_elsewhere([piece], forward)
            return
        self._deliver(slices, rows, time.perf_counter() - begun)

    def _take(self, waiting: deque[PendingRequest], room: int) -> list[Slice]:
        """At most so many images of the model whose turn it is, oldest first."""
        slices: list[Slice] = []
        others: list[PendingRequest] = []  # of other models; they keep their places
        unfinished: list[PendingRequest] = []
        while waiting and room:
            pending = waiting.popleft()
            if pending.answer.done():  # its client has gone
                self._forget(pending)
            elif slices and pending.model is not slices[0][0].model:
                others.append(pending)
            else:
                number = min(room, pending.count - pending.taken)
                slices.append((pending, number))
                room -= number
                if pending.taken + number < pending.count:
                    unfinished.append(pending)
        waiting.extendleft(reversed(others))
        waiting.extend(unfinished)
        return slices

    def _forget(self, pending: PendingRequest) -> None:
        self.images -= pending.count - pending.taken
        self.counters.gone += pending.count - pending.taken

    def _answer(self, slices: list[Slice]) -> None:
        begun = self._begin(slices)
        try:
            rows = self._forward(slices)
        except Exception as error:
            self._answer_alone(slices, error)
            return
        taken = time.perf_counter() - begun
        self.rate += 0.05 * (len(rows) / taken - self.rate)
        self._deliver(slices, rows, taken)

    def _begin(self, slices: list[Slice]) -> float:
        begun = time.perf_counter()
        queue = self.counters.seconds["queue"]
        for pending, _ in slices:
            if not pending.taken:
                queue.observe(begun - pending.since)
                if pending.times is not None:
                    pending.times.queue = begun - pending.since
        return begun

    def _deliver(self, slices: list[Slice], rows: Rows, seconds: float) -> None:
        self.counters.seconds["forward"].observe(seconds)
        self.counters.batches.observe(len(rows))
        model = slices[0][0].model
        self.counters.executions[model.name, model.version] += 1
        at = 0
        for pending, number in slices:
            if pending.times is not None:
                pending.times.forward += seconds
            self._hand_over(pending, rows[at : at + number])
            at += number

    def _forward(self, slices: list[Slice]) -> Rows:
        images = _joined(slices)
        with self._threads(slices[0][0].count):
            rows: Rows = slices[0][0].model.forward(images).tolist()
        return rows

    @contextmanager
    def _threads(self, count: int) -> Iterator[None]:
        """A large request may have all CPUs of this worker; small ones are answered sooner by one."""
        usual = torch.get_num_threads()
        if count <= MAX_BATCH_SIZE or self.bulk_threads <= usual:
            yield
            return
        torch.set_num_threads(self.bulk_threads)
        try:
            yield
        finally:
            torch.set_num_threads(usual)

    def _answer_alone(self, slices: list[Slice], error: Exception) -> None:
        """A batch failed: its requests are tried alone, so that only the faulty one fails."""
        if len(slices) == 1:
            self._fail(slices[0][0], error)
            return
        log.error("a batch failed, its requests are tried alone: %s", error)
        for piece in slices:
            self._answer([piece])

    def _fail(self, pending: PendingRequest, error: Exception) -> None:
        self.images -= pending.count - pending.taken
        self.counters.failed[pending.model.name, pending.model.version] += 1
        pending.taken = pending.count
        for waiting in (self._waiting, self._heavy, self._many):
            if pending in waiting:
                waiting.remove(pending)
        if not pending.answer.done():
            pending.answer.set_exception(error)

    def _hand_over(self, pending: PendingRequest, rows: Rows) -> None:
        pending.taken += len(rows)
        self.images -= len(rows)
        if pending.answer.done():
            return
        pending.rows = pending.rows + rows if pending.rows else rows
        if pending.taken == pending.count:
            pending.answer.set_result(pending.rows)


def _joined(slices: list[Slice]) -> torch.Tensor:
    """All that was taken, one after the other: [N, ..]."""
    model = slices[0][0].model
    shape = model.input_shape
    size = math.prod(shape) * model.dtype.itemsize
    parts = [
        pending.pixels
        if number == pending.count
        else memoryview(pending.pixels)[pending.taken * size : (pending.taken + number) * size]
        for pending, number in slices
    ]
    return torch.frombuffer(bytearray().join(parts), dtype=model.dtype).view(-1, *shape)


def lower_priority() -> None:
    """Of the thread that calls; Linux has priorities of threads."""
    with suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
