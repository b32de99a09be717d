"""The row-aware batcher: many callers of mixed sizes, each with exactly its own rows."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from app.errors import Overloaded
from app.serving.batching import HEAVY_SECONDS, MAX_BATCH_SIZE, MAX_HEAVY_SECONDS, Batcher, Held, Rows
from app.telemetry.counters import Counters, Times

SHAPE = (1, 2, 2)


@dataclass
class Echo:
    """A model whose rows tell which pixels it was given; it remembers the sizes of its batches."""

    sign: float = 1.0
    input_shape: tuple[int, ...] = SHAPE
    dtype: torch.dtype = torch.uint8
    most: int = MAX_BATCH_SIZE
    batches: list[int] = field(default_factory=list)
    heavy_seconds: float = 0.0
    poison: int | None = None  # a first pixel on which it fails
    name: str = "echo"
    version: int = 1

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        if self.poison is not None and (images[:, 0, 0, 0] == self.poison).any():
            raise RuntimeError("poisoned")
        return self.sign * images.flatten(1).double()


def batcher(max_images: int = 1_000_000, max_bytes: int = 1_000_000) -> Batcher:
    return Batcher(Counters(), max_images, max_bytes)


def pixels(caller: int, count: int) -> bytes:
    """Every image is another one: its caller and its number, in four pixels."""
    return b"".join(bytes((caller % 256, caller // 256, i % 256, i // 256)) for i in range(count))


def rows(caller: int, count: int, sign: float = 1.0) -> Rows:
    data = pixels(caller, count)
    return [[sign * value for value in data[i : i + 4]] for i in range(0, len(data), 4)]


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    asyncio.run(main())


Caller = tuple[int, int, int, bool]  # images, model, loop turns before it comes, whether it goes again
CALLERS = st.lists(
    st.tuples(
        st.one_of(st.just(1), st.integers(1, 8), st.integers(MAX_BATCH_SIZE - 2, 3 * MAX_BATCH_SIZE)),
        st.integers(0, 2),
        st.integers(0, 4),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(callers=CALLERS)
def test_each_caller_gets_exactly_its_own_rows(callers: list[Caller]) -> None:
    """Whatever the sizes, the models, the moments; also while others give up."""
    models = [Echo(1.0), Echo(-1.0), Echo(2.0, heavy_seconds=0.0001)]
    queue = batcher()

    async def ask(number: int, caller: Caller) -> None:
        count, model, turns, goes = caller
        for _ in range(turns):
            await asyncio.sleep(0)
        answer = queue.submit(models[model], pixels(number, count), count)
        if goes:
            await asyncio.sleep(0)
            answer.cancel()
        else:
            assert await answer == rows(number, count, models[model].sign)

    async def work() -> None:
        await asyncio.gather(*(ask(number, caller) for number, caller in enumerate(callers)))
        for _ in range(1000):  # what was given up leaves the queue, too
            if queue.images:
                await asyncio.sleep(0.001)

    run(work)
    assert queue.images == 0
    assert all(size <= MAX_BATCH_SIZE for model in models for size in model.batches)


@dataclass
class Slow(Echo):
    """A large model: a forward pass ends when it may."""

    heavy_seconds: float = 0.1
    name: str = "slow"
    version: int = 1
    may_end: threading.Event = field(default_factory=threading.Event)

    def forward(self, images: Tensor) -> Tensor:
        assert self.may_end.wait(10)
        return super().forward(images)


def test_large_models_do_not_hold_up_the_others() -> None:
    slow, quick, queue = Slow(), Echo(), batcher()

    async def work() -> None:
        waiting = [queue.submit(slow, pixels(number, 2), 2) for number in range(3)]
        await asyncio.sleep(0.01)  # the first of them is in its forward pass
        for number in range(50):
            answer = queue.submit(quick, pixels(number, 1), 1)
            await asyncio.sleep(0)
            assert answer.done()
        assert not any(one.done() for one in waiting)
        slow.may_end.set()
        assert await asyncio.gather(*waiting) == [rows(number, 2) for number in range(3)]

    run(work)
    assert all(size * slow.heavy_seconds <= HEAVY_SECONDS for size in slow.batches)


def test_no_more_is_taken_in_than_a_large_model_does_in_half_a_minute() -> None:
    slow, quick, queue = Slow(heavy_seconds=1.0), Echo(), batcher()

    async def work() -> None:
        most = int(MAX_HEAVY_SECONDS)
        waiting = [queue.submit(slow, pixels(number, 1), 1) for number in range(most + 1)]
        with pytest.raises(Overloaded, match="wait for large models") as refused:
            queue.submit(slow, pixels(0, 1), 1)
        assert (refused.value.retry_after or 0) >= most
        assert await queue.submit(quick, pixels(1, 1), 1) == rows(1, 1)
        slow.may_end.set()
        await asyncio.gather(*waiting)

    run(work)


def test_a_lone_request_waits_for_nobody() -> None:
    model = Echo()

    async def work() -> None:
        answer = batcher().submit(model, pixels(1, 1), 1)
        await asyncio.sleep(0)  # one turn of the loop, no timer
        assert answer.done()

    run(work)
    assert model.batches == [1]


def test_what_waits_shares_one_pass() -> None:
    model = Echo()

    async def work() -> None:
        queue = batcher()
        answers = [queue.submit(model, pixels(n, 1), 1) for n in range(64)]
        assert await asyncio.gather(*answers) == [rows(n, 1) for n in range(64)]

    run(work)
    assert model.batches == [64]


def test_a_small_request_does_not_wait_for_the_whole_of_a_large_one() -> None:
    model = Echo()
    order: list[str] = []

    async def work() -> None:
        queue = batcher()
        large = queue.submit(model, pixels(1, 10 * MAX_BATCH_SIZE), 10 * MAX_BATCH_SIZE)
        small = queue.submit(model, pixels(2, 1), 1)
        large.add_done_callback(lambda _: order.append("large"))
        small.add_done_callback(lambda _: order.append("small"))
        assert await large == rows(1, 10 * MAX_BATCH_SIZE)
        assert await small == rows(2, 1)

    run(work)
    assert order == ["small", "large"]


def test_a_request_that_breaks_the_model_fails_alone() -> None:
    async def work() -> None:
        queue = batcher()
        model = Echo(poison=7)
        answers = [queue.submit(model, pixels(n, 3), 3) for n in (6, 7, 8)]
        six, seven, eight = await asyncio.gather(*answers, return_exceptions=True)
        assert (six, eight) == (rows(6, 3), rows(8, 3))
        assert isinstance(seven, RuntimeError)
        assert queue.images == 0

    run(work)


def test_rows_of_clients_that_have_gone_never_reach_the_model() -> None:
    model = Echo()

    async def work() -> None:
        queue = batcher()
        queue.submit(model, pixels(1, 5), 5).cancel()
        await queue.submit(model, pixels(2, 1), 1)
        assert queue.counters.gone == 5

    run(work)
    assert model.batches == [1]


def test_the_queue_is_bounded_in_images_and_tells_when_to_come_again() -> None:
    async def work() -> None:
        queue = batcher(max_images=100)
        queue.rate = 20.0
        first = queue.submit(Echo(), pixels(1, 90), 90)
        with pytest.raises(Overloaded) as refused:
            queue.submit(Echo(), pixels(2, 11), 11)
        assert refused.value.retry_after == 5
        assert "90 images" in refused.value.detail
        assert len(await first) == 90
        lone = queue.submit(Echo(), pixels(3, 200), 200)  # nobody waits: let in, however large
        assert queue.saturated
        assert len(await lone) == 200

    run(work)


def test_the_queue_is_bounded_in_bytes() -> None:
    queue = batcher(max_bytes=100)
    queue.admit(150)
    with pytest.raises(Overloaded, match="150 bytes"):
        queue.admit(1)
    assert queue.saturated
    queue.release(150)
    queue.admit(1)


def test_small_bodies_have_a_share_of_their_own() -> None:
    queue = batcher(max_bytes=1024 * 1024)
    large, small = Held(queue), Held(queue)
    small.add(1)
    for _ in range(6):
        large.add(128 * 1024)
    with pytest.raises(Overloaded):
        large.add(128 * 1024)
    with pytest.raises(Overloaded):
        small.expect(128 * 1024)
    small.add(64 * 1024 - 1)
    large.add(64 * 1024)
    other = Held(queue)
    other.add(64 * 1024)
    with pytest.raises(Overloaded):  # it is not small any more
        small.add(1)
    assert not queue.saturated
    for held in (large, small, other):
        held.release()
    assert queue.bytes == 0


def test_a_body_that_is_alone_may_have_any_size() -> None:
    queue = batcher(max_bytes=100)
    lone = Held(queue)
    for _ in range(3):
        lone.add(90)
    with pytest.raises(Overloaded):
        Held(queue).add(1)


def test_the_rate_follows_what_is_measured() -> None:
    async def work() -> None:
        queue = batcher()
        before = queue.rate
        await queue.submit(Echo(), pixels(1, MAX_BATCH_SIZE), MAX_BATCH_SIZE)
        assert queue.rate != before
        assert queue.counters.batches.counts[-2] == 1
        assert queue.counters.seconds["forward"].sum > 0

    run(work)


def test_the_queue_works_on_tensors_of_the_right_shape() -> None:
    shapes: list[torch.Size] = []

    class Model(Echo):
        def forward(self, images: Tensor) -> Tensor:
            shapes.append(images.shape)
            return images.flatten(1).double()

    async def work() -> None:
        await batcher().submit(Model(), memoryview(pixels(1, 3)), 3)

    run(work)
    assert shapes == [torch.Size((3, *SHAPE))]


def test_many_rows_of_tables_come_back_in_order_from_threads_of_their_own() -> None:
    """Two large requests and a small one, of which one gives up; a row that fails fails its request alone."""

    @dataclass
    class RowEcho(Echo):
        def forward(self, images: Tensor) -> Tensor:
            self.batches.append(threading.get_ident())
            if (images == -1).any():
                raise RuntimeError("poisoned")
            return images.double()

    async def work() -> None:
        queue = Batcher(Counters(), 1_000_000, 1_000_000, bulk_threads=2)
        model = RowEcho(input_shape=(2,), dtype=torch.float32)
        values = torch.arange(4000, dtype=torch.float32).view(-1, 2)
        poisoned = values.clone()
        poisoned[1999] = -1
        large = [queue.submit(model, part.numpy().tobytes(), 2000) for part in (values, values + 0.5, poisoned)]
        large[1].cancel()
        small = await queue.submit(model, values[:3].numpy().tobytes(), 3)
        assert small == values[:3].tolist()
        assert await large[0] == values.tolist()
        with pytest.raises(RuntimeError, match="poisoned"):
            await large[2]
        assert queue.images == 0
        assert len(set(model.batches)) == 3

    run(work)


def test_rows_of_tables_are_float32() -> None:
    async def work() -> None:
        values = torch.tensor([[1.5, -2.0], [0.25, 3.0], [7.0, float("inf")]])
        model = Echo(input_shape=(2,), dtype=torch.float32)
        found = await batcher().submit(model, values.numpy().tobytes(), 3)
        assert found == values.tolist()

    run(work)


@dataclass
class Threads(Echo):
    """Its rows tell how many threads torch had."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.full((len(images), 1), float(torch.get_num_threads()), dtype=torch.float64)


def test_only_a_large_request_has_all_threads_and_only_for_its_batches() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    queue = Batcher(Counters(), 1_000_000, 1_000_000, bulk_threads=2)

    async def ask() -> None:
        for count, threads in ((1, 1), (MAX_BATCH_SIZE, 1), (MAX_BATCH_SIZE + 1, 2), (1, 1)):
            found = await queue.submit(Threads(), pixels(1, count), count)
            assert found == [[threads]] * count
            assert torch.get_num_threads() == 1

    try:
        run(ask)
    finally:
        torch.set_num_threads(before)


def test_a_request_knows_how_long_it_waited_and_was_computed() -> None:
    """It waits at least as long as the batches in front of it take; one of two batches has the time of both."""

    async def work() -> None:
        queue, first, second, no_one = batcher(), Times(), Times(), Times()
        large = queue.submit(Echo(), pixels(1, MAX_BATCH_SIZE + 1), MAX_BATCH_SIZE + 1, first)
        small = queue.submit(Echo(-1.0), pixels(2, 1), 1, second)
        gone = queue.submit(Echo(), pixels(3, 1), 1, no_one)
        gone.cancel()
        await asyncio.gather(large, small)
        forward = queue.counters.seconds["forward"].sum
        assert first.forward + second.forward == pytest.approx(forward)
        assert 0 < first.queue < second.queue < forward + second.queue
        assert (no_one.queue, no_one.forward) == (0.0, 0.0)

    run(work)


def test_requests_that_share_a_batch_have_its_whole_time() -> None:
    async def work() -> None:
        queue, model, times = batcher(), Echo(), [Times() for _ in range(5)]
        await asyncio.gather(*(queue.submit(model, pixels(n, 2), 2, one) for n, one in enumerate(times)))
        assert model.batches == [10]
        assert {one.forward for one in times} == {queue.counters.seconds["forward"].sum}

    run(work)
