"""The decoders of one API worker, and the queue in front of them. Everything happens in the event loop.

    decode (one body or many files) -> Job -> in turns -> a decoder each -> the results, in order

A turn is one picture, or some small ones together. Each decoder has a task that starts it, gives it turns, and
replaces it when it dies.
"""

import asyncio
import logging
import math
import signal
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from app.errors import NotReady, Overloaded, WrongTable, WrongTensor
from app.serving.decoding.process import Decoder
from app.serving.decoding.wire import AnyTask, Limits, Result, TableTask, TensorTask
from app.telemetry.counters import Counters
from models.errors import BrokenImage, CostlyImage

log = logging.getLogger("minist.decoding")

LARGE = 16_000_000  # pixels: a picture with more may not have all decoders
SMALL_PIXELS, SMALL_BYTES, SMALL_FILES = 256 * 256, 32 * 1024, 32  # together in one turn
GRACE_SECONDS = 0.5  # for a decoder to finish a picture whose client has gone: starting another takes 0.2
RESTART_SECONDS = 1  # after a decoder that could not be started
DEFAULT = Limits()
_CPU_LIMIT = -int(getattr(signal, "SIGXCPU", 0)) or None


@dataclass(slots=True, eq=False)
class Job:
    """The pictures of one request."""

    tasks: Sequence[AnyTask]
    todo: deque[int]  # indices of the tasks that no decoder has
    done: asyncio.Future[None]
    results: list[Result | None]
    left: int  # tasks without a result
    turns: "set[Turn]" = field(default_factory=set)
    retried: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, tasks: Sequence[AnyTask]) -> "Job":
        done = asyncio.get_running_loop().create_future()
        return cls(tasks, deque(range(len(tasks))), done, [None] * len(tasks), len(tasks))

    def answer(self, index: int, result: Result) -> None:
        self.results[index] = result
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class Turn:
    """Tasks of one job that a decoder has."""

    job: Job
    indices: deque[int]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    limit: asyncio.Timeout | None = None
    hurried: bool = False  # its client has gone

    @property
    def is_large(self) -> bool:
        return self.job.tasks[self.indices[0]].pixels > LARGE

    def extend(self, seconds: float) -> None:
        if self.limit is not None and not self.hurried:
            self.limit.reschedule(asyncio.get_running_loop().time() + seconds)

    def hurry(self) -> None:
        self.extend(GRACE_SECONDS)
        self.hurried = True


class DecoderPool:
    """`async with DecoderPool(..) as pool: await pool.decode(tasks)`."""

    def __init__(self, counters: Counters, decoders: int, max_pixels: int, limits: Limits = DEFAULT) -> None:
        """So many processes; `max_pixels` may wait, or be decoded, at a time."""
        self.counters = counters
        self.size = decoders
        self.max_pixels = max_pixels
        self.limits = limits
        self.pixels = 0  # of all that was admitted and is not done
        self.rate = 50e6  # pixels per second of one decoder, a moving average
        self._waiting: deque[Job] = deque()
        self._large = 0  # decoders that have a large picture
        self._wake = asyncio.Event()
        self._broken = False  # the last decoder could not be started
        self._decoders: set[Decoder] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "DecoderPool":
        """Start the decoders, without waiting until they are ready."""
        self._tasks = [asyncio.create_task(self._keep_decoder()) for _ in range(self.size)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the decoders, whatever they do."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def pids(self) -> list[int]:
        """Of the decoders that are ready."""
        return [decoder.pid for decoder in self._decoders]

    async def decode(self, tasks: Sequence[AnyTask]) -> list[Result]:
        """The result of each task, in order. Raises Overloaded or NotReady.

        Where the caller is cancelled, this returns when no decoder is at work for it any more.
        """
        if not tasks:
            return []
        pixels = sum(task.pixels for task in tasks)
        self._admit(pixels)
        job = Job.of(tasks)
        self._waiting.append(job)
        self._wake.set()
        try:
            await job.done
        except asyncio.CancelledError:
            await self._give_up(job)
            raise
        finally:
            self.pixels -= pixels
        return [result for result in job.results if result is not None]

    # -- the queue ---------------------------------------------------------------------------------

    def _admit(self, pixels: int) -> None:
        if self._broken and not self._decoders:
            raise NotReady("no decoder of images can be started", "the operator finds the reason in the log")
        if self.pixels and self.pixels + pixels > self.max_pixels:
            self.counters.refused["pixels"] += 1
            seconds = max(1, math.ceil(self.pixels / (self.rate * self.size)))
            raise Overloaded(
                f"pictures of {self.pixels:,} pixels are waiting, no more are taken in now",
                f"try again in {seconds} s, or ask another instance",
                seconds,
            )
        self.pixels += pixels

    async def _give_up(self, job: Job) -> None:
        job.todo.clear()
        with suppress(ValueError):
            self._waiting.remove(job)
        turns = list(job.turns)
        for turn in turns:
            turn.hurry()
        for turn in turns:
            await turn.ended.wait()

    async def _next_turn(self) -> Turn:
        while (turn := self._take()) is None:
            self._wake.clear()
            await self._wake.wait()
        return turn

    def _take(self) -> Turn | None:
        """Of the job whose turn it is; a job whose next picture is large waits until one may be taken."""
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            large = job.tasks[job.todo[0]].pixels > LARGE
            if large and self._large >= max(1, self.size - 1):
                self._waiting.append(job)
                continue
            turn = Turn(job, _some(job))
            self._large += large
            job.turns.add(turn)
            if job.todo:
                self._waiting.append(job)
            return turn
        return None

    # -- a decoder ---------------------------------------------------------------------------------

    async def _keep_decoder(self) -> None:
        while True:
            try:
                decoder = await Decoder.start(self.limits)
            except (OSError, EOFError, TimeoutError) as error:
                log.error("a decoder of images cannot be started: %s", error or type(error).__name__)
                self._broken = True
                await asyncio.sleep(RESTART_SECONDS)
                continue
            self._broken = False
            self._decoders.add(decoder)
            try:
                while await self._work(decoder, await self._next_turn()):
                    pass
            finally:
                self._decoders.discard(decoder)
                await decoder.kill()

    async def _work(self, decoder: Decoder, turn: Turn) -> bool:
        """Let a decoder have a turn; whether it lives on."""
        large, begun = turn.is_large, time.perf_counter()
        pixels = sum(turn.job.tasks[index].pixels for index in turn.indices)
        try:
            async with asyncio.timeout(self.limits.wall_seconds) as turn.limit:
                decoder.send([turn.job.tasks[index] for index in turn.indices])
                await self._collect(decoder, turn)
        except (EOFError, OSError, TimeoutError) as error:
            code = await decoder.kill()
            self._blame(turn, code, isinstance(error, TimeoutError))
            return False
        finally:
            self._large -= large
            turn.job.turns.discard(turn)
            turn.ended.set()
            if self._waiting:
                self._wake.set()
        self.rate += 0.05 * (pixels / (time.perf_counter() - begun) - self.rate)
        return True

    async def _collect(self, decoder: Decoder, turn: Turn) -> None:
        while turn.indices:
            index = turn.indices[0]
            result = await decoder.result(turn.job.tasks[index])
            turn.indices.popleft()
            turn.job.answer(index, result)
            turn.extend(self.limits.wall_seconds)

    def _blame(self, turn: Turn, code: int, late: bool) -> None:
        """A decoder died on the first of what it had; the rest is sent again.

        The first too, once, where no limit was met: something else may have killed the decoder.
        """
        job, index = turn.job, turn.indices[0]
        reason = (
            "given up" if turn.hurried else "deadline" if late else "CPU" if code == _CPU_LIMIT else "crash"
        )
        self.counters.decoders_lost[reason] += 1
        log.warning("a decoder is replaced (%s, exit status %d)", reason, code)
        if turn.hurried:
            return
        if reason == "crash" and index not in job.retried:
            job.retried.add(index)
        else:
            turn.indices.popleft()
            job.answer(index, _given_up(job.tasks[index], reason == "crash"))
        if turn.indices:
            job.todo.extendleft(reversed(turn.indices))
            if job not in self._waiting:
                self._waiting.appendleft(job)


def _given_up(task: AnyTask, crashed: bool) -> Result:
    if isinstance(task, TableTask):
        how = "cannot be read: its decoder ended" if crashed else "takes too long to read"
        return WrongTable(f"the table {how}", "send it as CSV, fewer rows at a time")
    if isinstance(task, TensorTask):
        how = "cannot be read: their decoder ended" if crashed else "take too long to read"
        return WrongTensor(f"the tensors {how}", "send them as raw bytes (binary_data_size), fewer at a time")
    if crashed:
        return BrokenImage("the image cannot be decoded: its decoder ended", "save it again, as PNG")
    return CostlyImage("the image takes too long to decode", "scale it down, or save it as PNG")


def _some(job: Job) -> deque[int]:
    """The next picture of a job, with those behind it as long as all are small together."""
    indices = deque([job.todo.popleft()])
    pixels, size = job.tasks[indices[0]].pixels, len(job.tasks[indices[0]].body)
    while job.todo and len(indices) < SMALL_FILES:
        task = job.tasks[job.todo[0]]
        pixels, size = pixels + task.pixels, size + len(task.body)
        if pixels > SMALL_PIXELS or size > SMALL_BYTES:
            break
        indices.append(job.todo.popleft())
    return indices
