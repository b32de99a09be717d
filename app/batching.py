"""Many callers, one model: whatever waits is answered in one forward pass.

    submit (any number of images) -> queue -> batch of at most CAP images of one model -> each caller's own rows

A batch is taken as soon as the event loop has run what is ready, so a lone request waits for nobody, and
under load the next batch gathers while one is computed. Requests with more images than fit go on in the next
batch, behind those that came meanwhile: nobody waits for the whole of a large one. The forward pass runs in
the event loop (a thread was slower: `benchmarks/SERVING.md`).
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch

from app.counts import Counts
from app.problems import Overloaded
from models.inference import Forward

log = logging.getLogger("minist.batching")

CAP = 256  # images in one forward pass; larger ones fall out of the CPU's cache
Rows = list[list[float]]  # probabilities in class order, one row per image


class Model(Protocol):
    """What a batch is made for: images that were submitted for the same object may share one."""

    @property
    def forward(self) -> Forward: ...  # the rows of a batch: see models.inference

    @property
    def input_shape(self) -> tuple[int, int, int]: ...


@dataclass(slots=True, eq=False)
class Asked:
    """Images that wait for their rows."""

    model: Model
    pixels: bytes | memoryview  # uint8, one image after the other
    count: int
    answer: asyncio.Future[Rows]
    since: float
    taken: int = 0
    rows: Rows = field(default_factory=list)


Piece = tuple[Asked, int]  # whose, and how many of its images


class Batcher:
    """The queue of one process. Everything happens in its event loop."""

    def __init__(self, counts: Counts, max_images: int, max_bytes: int, bulk_threads: int = 1) -> None:
        """`bulk_threads` are torch's for the batches of requests that fill more than one."""
        self.counts = counts
        self.bulk_threads = bulk_threads
        self.max_images = max_images
        self.max_bytes = max_bytes
        self.images = 0  # that wait
        self.bytes = 0  # of request bodies that were admitted and are not answered
        self.rate = 5_000.0  # images per second of forward passes, a moving average
        self._waiting: deque[Asked] = deque()
        self._scheduled = False

    # -- by whoever asks ---------------------------------------------------------------------------

    def submit(self, model: Model, pixels: bytes | memoryview, count: int) -> asyncio.Future[Rows]:
        """A row per image, in order; cancelling the future takes images that still wait out of the queue.

        Raises Overloaded where too many images wait; a request that finds nobody waiting is always let in.
        """
        if self.images and self.images + count > self.max_images:
            raise self._overloaded("images", f"{self.images:,} images wait already")
        loop = asyncio.get_running_loop()
        asked = Asked(model, pixels, count, loop.create_future(), time.perf_counter())
        self._waiting.append(asked)
        self.images += count
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._run)
        return asked.answer

    def hold(self, size: int) -> None:
        """Admit a request body of that many bytes; `release` it when it is answered. Raises Overloaded."""
        if self.bytes and self.bytes + size > self.max_bytes:
            raise self._overloaded("bytes", f"{self.bytes:,} bytes of requests are being worked on")
        self.bytes += size

    def release(self, size: int) -> None:
        self.bytes -= size

    @property
    def saturated(self) -> bool:
        """Whether the next request of some size would be refused."""
        return self.images >= self.max_images or self.bytes >= self.max_bytes

    @property
    def crowded(self) -> bool:
        """Whether what is submitted now has to wait for more than one batch."""
        return self.images > CAP

    def retry_after(self) -> int:
        """Seconds after which what waits now should be answered, by the rate of late."""
        return max(1, math.ceil(self.images / self.rate))

    def _overloaded(self, reason: str, detail: str) -> Overloaded:
        self.counts.refused[reason] += 1
        seconds = self.retry_after()
        return Overloaded(
            f"{detail}, no more are taken in now",
            f"try again in {seconds} s, or ask another instance",
            {"retry-after": str(seconds)},
        )

    # -- in the event loop -------------------------------------------------------------------------

    def _run(self) -> None:
        self._scheduled = False
        pieces = self._take()
        if pieces:
            self._answer(pieces)
        if self._waiting:  # after the loop has looked for new requests
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _take(self) -> list[Piece]:
        """At most CAP images of the model whose turn it is, oldest first."""
        pieces: list[Piece] = []
        room = CAP
        others: list[Asked] = []  # of other models; they keep their places
        unfinished: list[Asked] = []
        while self._waiting and room:
            asked = self._waiting.popleft()
            if asked.answer.done():  # nobody waits for it any more
                self._forget(asked)
            elif pieces and asked.model is not pieces[0][0].model:
                others.append(asked)
            else:
                number = min(room, asked.count - asked.taken)
                pieces.append((asked, number))
                room -= number
                if asked.taken + number < asked.count:
                    unfinished.append(asked)
        self._waiting.extendleft(reversed(others))
        self._waiting.extend(unfinished)
        return pieces

    def _forget(self, asked: Asked) -> None:
        self.images -= asked.count - asked.taken
        self.counts.gone += asked.count - asked.taken

    def _answer(self, pieces: list[Piece]) -> None:
        begun = time.perf_counter()
        queue = self.counts.seconds["queue"]
        for asked, _ in pieces:
            if not asked.taken:
                queue.observe(begun - asked.since)
        try:
            rows = self._forward(pieces)
        except Exception as error:
            self._answer_alone(pieces, error)
            return
        taken = time.perf_counter() - begun
        self.counts.seconds["forward"].observe(taken)
        self.counts.batches.observe(len(rows))
        self.rate += 0.05 * (len(rows) / taken - self.rate)
        at = 0
        for asked, number in pieces:
            self._hand_over(asked, rows[at : at + number])
            at += number

    def _forward(self, pieces: list[Piece]) -> Rows:
        model = pieces[0][0].model
        shape = model.input_shape
        size = math.prod(shape)
        parts = [
            asked.pixels
            if number == asked.count
            else memoryview(asked.pixels)[asked.taken * size : (asked.taken + number) * size]
            for asked, number in pieces
        ]
        pixels = torch.frombuffer(bytearray().join(parts), dtype=torch.uint8)
        with self._threads(pieces[0][0].count):
            rows: Rows = model.forward(pixels.view(-1, *shape)).tolist()
        return rows

    @contextmanager
    def _threads(self, count: int) -> Iterator[None]:
        """A large request may have all CPUs of this worker; small ones are answered sooner by one."""
        usual = torch.get_num_threads()
        if count <= CAP or self.bulk_threads <= usual:
            yield
            return
        torch.set_num_threads(self.bulk_threads)
        try:
            yield
        finally:
            torch.set_num_threads(usual)

    def _answer_alone(self, pieces: list[Piece], error: Exception) -> None:
        """A batch failed: whoever is not the reason gets an answer all the same."""
        if len(pieces) == 1:
            asked, _ = pieces[0]
            self.images -= asked.count - asked.taken
            asked.taken = asked.count
            if asked in self._waiting:
                self._waiting.remove(asked)
            if not asked.answer.done():
                asked.answer.set_exception(error)
            return
        log.error("a batch failed, its requests are tried alone: %s", error)
        for piece in pieces:
            self._answer([piece])

    def _hand_over(self, asked: Asked, rows: Rows) -> None:
        asked.taken += len(rows)
        self.images -= len(rows)
        if asked.answer.done():
            return
        asked.rows = asked.rows + rows if asked.rows else rows
        if asked.taken == asked.count:
            asked.answer.set_result(asked.rows)
