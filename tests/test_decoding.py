"""The pool of decoder processes: they give what this process would, and nothing that a picture does spreads."""

import asyncio
import gc
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from PIL import Image

from app.errors import NotReady, Overloaded, WrongFields
from app.interpreter import module_command
from app.serving.decoding import pool as pool_module
from app.serving.decoding.announced import announced_in_body, announced_pixels
from app.serving.decoding.pool import DecoderPool
from app.serving.decoding.process import environment
from app.serving.decoding.wire import Decoded, Limits, Result, Task, pack_task
from app.telemetry.counters import Counters
from benchmarks.upload import FORM, form
from models.classifier import Classifier
from models.errors import CostlyImage, ImageError, NotAnImage
from models.preprocessing.decode import MAX_PIXELS, open_image
from models.preprocessing.preprocess import PreprocessMode
from models.preprocessing.several import read_digits
from tests.conftest import ROOT, WEIGHTS
from tests.hostile import progressive_scans
from tests.processes import alive, children, wait_for
from tests.samples import PICTURES, photograph

T = TypeVar("T")
linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, or stops processes by signals")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load(WEIGHTS / "digits.pth", torch.device("cpu"))


@pytest.fixture(scope="module")
def picture(digits: dict[str, bytes]) -> bytes:
    return photograph(digits["7"], (800, 600))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def sheet(side: int) -> bytes:
    """A bar on a square with alpha."""
    image = Image.new("RGBA", (side, side), (200, 200, 200, 255))
    image.paste((10, 10, 10, 255), (side // 3, side // 7, side * 3 // 7, side * 5 // 7))
    return encoded(image, compress_level=1)


@pytest.fixture(scope="module")
def large() -> bytes:
    """Above `pool.LARGE`: 0.3 s of a decoder."""
    return sheet(4_200)


@pytest.fixture(scope="module")
def huge() -> bytes:
    """49 million pixels: 1 s and 800 MB of a decoder."""
    return sheet(7_000)


@pytest.fixture(scope="module")
def task(classifier: Classifier) -> Callable[..., Task]:
    def make(data: bytes, mode: PreprocessMode = "auto", content_type: bytes = b"") -> Task:
        pixels = announced_in_body(content_type, data) if content_type else announced_pixels(data)
        return Task(classifier.card.picture, mode, data, content_type, pixels)

    return make


def in_pool(
    work: Callable[[DecoderPool], Awaitable[T]], decoders: int = 1, max_pixels: int = 10**9, **limits: float
) -> T:
    """What `work` returns with a pool whose decoders are ready; all of them are gone afterwards."""

    async def run() -> T:
        async with DecoderPool(Counters(), decoders, max_pixels, Limits(**limits)) as pool:  # type: ignore[arg-type]
            await eventually(lambda: len(pool.pids) == decoders)
            found = await work(pool)
            pids = pool.pids
        assert not any(map(alive, pids))
        assert pool.pixels == 0
        return found

    return asyncio.run(run())


async def eventually(what: Callable[[], object]) -> None:
    for _ in range(6_000):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def is_at_work(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "R"


def test_a_decoder_gives_what_this_process_would(classifier: Classifier, task: Callable[..., Task]) -> None:
    files = [path.read_bytes() for path in sorted(PICTURES.glob("*-0[0-2].*"))]
    assert len(files) > 20

    def here(data: bytes) -> Decoded | str:
        try:
            return Decoded(*read_digits(open_image(data), classifier.card.picture, "auto", "digit"))
        except ImageError as error:
            return error.detail

    found = in_pool(lambda pool: pool.decode([task(data) for data in files]), decoders=2)
    assert any(isinstance(one, Decoded) and one.candidates is not None for one in found)
    assert [one.detail if isinstance(one, ImageError) else one for one in found] == [
        here(data) for data in files
    ]


def test_errors_come_back_as_they_are(task: Callable[..., Task], picture: bytes) -> None:
    def work(pool: DecoderPool) -> Awaitable[list[Result]]:
        nothing = form("other", [picture])
        return pool.decode([task(b"no image"), task(picture), task(nothing, content_type=FORM.encode())])

    broken, whole, fieldless = in_pool(work)
    assert isinstance(broken, NotAnImage)
    assert "8 bytes" in broken.detail
    assert broken.hint
    assert isinstance(whole, Decoded)
    assert isinstance(fieldless, WrongFields)
    assert "'other'" in fieldless.detail


def test_a_form_is_read_by_the_decoder(task: Callable[..., Task], picture: bytes) -> None:
    body = form("file", [picture])
    alone, within = in_pool(lambda pool: pool.decode([task(picture), task(body, content_type=FORM.encode())]))
    assert alone == within


def test_the_mode_none_goes_along(task: Callable[..., Task], digits: dict[str, bytes], picture: bytes) -> None:
    exact, wrong = in_pool(lambda pool: pool.decode([task(digits["7"], "none"), task(picture, "none")]))
    assert isinstance(exact, Decoded)
    assert exact.info is None
    assert isinstance(wrong, ImageError)
    assert "800x600" in wrong.detail


def test_more_pixels_than_announced_are_refused(classifier: Classifier, picture: bytes) -> None:
    lie = Task(classifier.card.picture, "auto", picture, pixels=800 * 600 - 1)
    (found,) = in_pool(lambda pool: pool.decode([lie]))
    assert isinstance(found, ImageError)
    assert "more than it announces" in found.detail


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    ],
)
def test_each_format_announces_its_size(kind: str, options: dict[str, object]) -> None:
    data = encoded(Image.new("RGB", (123, 45)), kind, **options)
    assert announced_pixels(data) == 123 * 45
    body = form("file", [data])
    assert announced_in_body(FORM.encode(), body) == 123 * 45
    for end in range(0, 64, 3):  # cut anywhere
        assert 1 <= announced_pixels(data[:end]) <= MAX_PIXELS


def test_a_size_that_is_not_near_the_start_counts_as_the_largest() -> None:
    segments = b"\xff\xe1\x00\x02" * 1_000
    assert announced_pixels(b"\xff\xd8" + segments + encoded(Image.new("L", (9, 9)), "JPEG")[2:]) == MAX_PIXELS
    assert announced_in_body(FORM.encode(), form("note", [b"text"])) == MAX_PIXELS


def test_a_decoder_has_no_torch_and_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys, app.serving.decoding.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "fastapi", "sqlalchemy", "pydantic", "asyncio"} & set(done.stdout.split())
    monkeypatch.setenv("MINIST_API_KEY", "secret-of-the-operator")

    assert "MINIST_API_KEY" not in environment()


@linux
def test_a_decoder_that_is_killed_is_replaced_and_its_picture_tried_again(
    task: Callable[..., Task], large: bytes
) -> None:
    async def work(pool: DecoderPool) -> tuple[list[Result], int, int]:
        first = pool.pids[0]
        answer = asyncio.ensure_future(pool.decode([task(large)]))
        await eventually(lambda: is_at_work(first))
        os.kill(first, signal.SIGKILL)
        found = await answer
        return found, first, pool.pids[0]

    (found,), first, second = in_pool(work)
    assert isinstance(found, Decoded)
    assert first != second


@linux
def test_only_the_picture_that_kills_its_decoder_fails(task: Callable[..., Task], picture: bytes) -> None:
    """A stopped decoder stands for one that hangs: those that waited behind it get their answers."""

    async def work(pool: DecoderPool) -> tuple[list[Result], dict[str, int]]:
        os.kill(pool.pids[0], signal.SIGSTOP)
        small = encoded(Image.open(io.BytesIO(picture)).resize((100, 75)))
        found = await pool.decode([task(small) for _ in range(5)])
        return found, dict(pool.counters.decoders_lost)

    (stuck, *others), lost = in_pool(work, wall_seconds=0.5)
    assert isinstance(stuck, CostlyImage)
    assert len(others) == 4
    assert all(isinstance(other, Decoded) for other in others)
    assert lost == {"deadline": 1}


@linux
def test_a_picture_that_takes_too_much_time_of_the_cpu_is_refused(
    task: Callable[..., Task], picture: bytes
) -> None:
    slow = progressive_scans(7_000, 32)  # 2 s

    async def work(pool: DecoderPool) -> tuple[list[Result], dict[str, int], list[Result]]:
        found = await pool.decode([task(slow)])
        return found, dict(pool.counters.decoders_lost), await pool.decode([task(picture)])

    (found,), lost, (after,) = in_pool(work, cpu_seconds=0)
    assert isinstance(found, CostlyImage)
    assert "too long" in found.detail
    assert lost == {"CPU": 1}
    assert isinstance(after, Decoded)


@linux
def test_a_picture_that_takes_too_much_memory_is_refused_and_the_decoder_lives_on(
    task: Callable[..., Task], huge: bytes, picture: bytes
) -> None:
    async def work(pool: DecoderPool) -> tuple[list[Result], bool]:
        before = pool.pids
        return await pool.decode([task(huge), task(picture)]), pool.pids == before

    (found, after), same = in_pool(work, memory_bytes=300 * 1024 * 1024)
    assert isinstance(found, CostlyImage)
    assert "memory" in found.detail
    assert isinstance(after, Decoded)
    assert same


@linux
def test_what_is_given_up_keeps_its_place_until_its_decoder_is_free(
    task: Callable[..., Task], large: bytes
) -> None:
    async def work(pool: DecoderPool) -> None:
        (stuck,) = pool.pids
        answer = asyncio.ensure_future(pool.decode([task(large), task(large)]))
        await eventually(lambda: is_at_work(stuck))
        os.kill(stuck, signal.SIGSTOP)
        answer.cancel()
        await asyncio.sleep(0.1)
        assert not answer.done()
        assert pool.pixels == 2 * 4200 * 4200
        with pytest.raises(asyncio.CancelledError):
            await answer
        assert not alive(stuck)
        assert pool.pixels == 0
        await eventually(lambda: pool.pids)

    in_pool(work)


def test_what_would_be_too_many_pixels_is_refused_at_once(task: Callable[..., Task], large: bytes) -> None:
    async def work(pool: DecoderPool) -> tuple[Exception | None, dict[str, int]]:
        first = asyncio.ensure_future(pool.decode([task(large)]))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as raised:
            await pool.decode([task(large)])
        await first
        return raised.value, dict(pool.counters.refused)

    error, refused = in_pool(work, max_pixels=20_000_000)
    assert isinstance(error, Overloaded)
    assert error.retry_after is not None
    assert error.retry_after >= 1
    assert refused == {"pixels": 1}


def test_a_single_picture_does_not_wait_for_a_whole_batch(task: Callable[..., Task], picture: bytes) -> None:
    async def work(pool: DecoderPool) -> list[str]:
        order: list[str] = []

        async def ask(name: str, count: int) -> None:
            await pool.decode([task(picture)] * count)
            order.append(name)

        await asyncio.gather(ask("batch", 100), ask("one", 1), ask("other", 1))
        return order

    assert in_pool(work) == ["one", "other", "batch"]


def test_very_large_pictures_leave_one_decoder_free(
    task: Callable[..., Task], large: bytes, picture: bytes
) -> None:
    async def work(pool: DecoderPool) -> list[str]:
        order: list[str] = []

        async def ask(name: str, data: bytes) -> None:
            await pool.decode([task(data)])
            order.append(name)

        await asyncio.gather(
            *(ask("large", large) for _ in range(4)), *(ask("usual", picture) for _ in range(8))
        )
        return order

    assert in_pool(work, decoders=2)[:8] == ["usual"] * 8


@linux
def test_a_damaged_picture_leaves_nothing_in_memory(task: Callable[..., Task], huge: bytes) -> None:
    """Neither in its decoder nor, by a reference cycle through an exception, here."""

    async def work(pool: DecoderPool) -> tuple[int, int]:
        (pid,) = pool.pids
        before = resident(pid) + resident(os.getpid())
        for _ in range(3):
            (found,) = await pool.decode([task(huge[:-100_000])])
            assert isinstance(found, ImageError)
        return before, resident(pid) + resident(os.getpid())

    gc.disable()
    try:
        before, after = in_pool(work)
    finally:
        gc.enable()
    assert after - before < 100 * 1024 * 1024


def resident(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@linux
def test_decoders_end_with_a_service_that_is_killed() -> None:
    script = """if True:
        import asyncio
        from app.serving.decoding.pool import DecoderPool
        from app.telemetry.counters import Counters
        async def run():
            async with DecoderPool(Counters(), 2, 10**9):
                await asyncio.sleep(600)
        asyncio.run(run())"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    try:
        decoders = wait_for(lambda: found if len(found := children(process.pid)) == 2 else None)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not any(map(alive, decoders)))


@linux
def test_a_decoder_ignores_the_signals_of_a_terminal_and_of_a_service_manager() -> None:
    command = module_command("app.serving.decoding.worker", "5", str(1024**3))
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.read(5)  # ready
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    assert process.poll() is None
    process.stdin.close()
    process.stdout.close()
    assert process.wait(60) == 0


@linux
def test_a_decoder_whose_service_was_killed_ends_without_a_traceback(
    task: Callable[..., Task], picture: bytes
) -> None:
    command = module_command("app.serving.decoding.worker", "5", str(1024**3))
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(5)  # ready
    process.stdout.close()
    process.stdin.write(pack_task(task(picture)))
    process.stdin.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_pool_that_cannot_start_a_decoder_says_so(
    task: Callable[..., Task], picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.interpreter.sys.executable", "/nowhere/python")
    monkeypatch.setattr(pool_module, "RESTART_SECONDS", 0.01)

    async def run() -> None:
        async with DecoderPool(Counters(), 1, 10**9) as pool:
            await asyncio.sleep(0.1)
            with pytest.raises(NotReady):
                await pool.decode([task(picture)])

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.03, 0.1, 0.2, 0.4])
def test_a_pool_that_ends_while_it_starts_leaves_nothing(seconds: float) -> None:
    """No process, and no pipe that a ResourceWarning (an error here) would tell of."""

    async def run() -> None:
        async with DecoderPool(Counters(), 2, 10**9):
            await asyncio.sleep(seconds)

    before = children(os.getpid())
    asyncio.run(run())
    gc.collect()
    if sys.platform == "linux":
        assert children(os.getpid()) == before
