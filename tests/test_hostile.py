"""Input that is small to send and costly to read: its cost is bounded, and nobody else waits for it.

Bounds are CPU seconds and bytes, so that a busy machine changes nothing. The event loop is never stopped: what
one of its callbacks takes of the CPU is measured for each example.
"""

import asyncio
import contextlib
import gc
import gzip
import io
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx2
import numpy as np
import pytest
from starlette.testclient import TestClient

from app.errors import RequestError
from app.serving.decoding.pool import DecoderPool
from app.web.dependencies import Services
from app.web.prediction import MAX_BATCH_PIXELS
from benchmarks.upload import FORM, form
from models.errors import ImageError
from tests import hostile
from tests.hostile import (
    FORM_OF_SEMICOLONS,
    bmp_rle,
    bmp_rle_of_short_rows,
    exif_segments,
    fill_bytes,
    form_of_semicolons,
    jpeg,
    png_chunk,
    png_of_chunks,
    png_of_rows,
    progressive_scans,
    rgba16,
)
from tests.processes import alive, children, cpu_seconds, service, settled_mib, wait_for
from tests.samples import PNG, is_problem, photograph

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what a process has used")

LOOP_SECONDS = 0.1  # of the CPU, in one callback of the event loop
APP = Path(__file__).parent.parent / "app"
MIB = 1024 * 1024
MULTIPART = {"content-type": FORM}
NPY = {"content-type": "application/x-npy"}


@dataclass
class Cost:
    """What a while has cost, in CPU seconds."""

    loop: float = 0.0  # the longest callback of the event loop
    api: float = 0.0  # this process; a test's own work included
    decoders: float = 0.0  # those that were there at the start and at the end


def services(client: TestClient) -> Services:
    found: Services = client.app_state["services"]
    return found


def peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def measured(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cost]:
    """The cost of what happens meanwhile. Callbacks are timed by their thread's own CPU clock."""
    cost = Cost()
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        begun = time.thread_time()
        run(handle)
        cost.loop = max(cost.loop, time.thread_time() - begun)

    pool = services(client).decoders
    before = {pid: cpu_seconds(pid) for pid in ready(pool)}
    begun = time.process_time()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", timed)
        yield cost
    cost.api = time.process_time() - begun
    cost.decoders = sum(cpu_seconds(pid) - used for pid, used in before.items())


def ready(pool: DecoderPool) -> list[int]:
    """The decoders, once all of them are there."""
    return wait_for(lambda: pool.pids if len(pool.pids) == pool.size else None)


def test_the_clock_sees_a_loop_that_is_stopped(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stop() -> None:
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass

    assert client.portal is not None
    with measured(client, monkeypatch) as cost:
        client.portal.call(stop)
    assert cost.loop >= 0.2


# -- one picture ---------------------------------------------------------------------------------------

PICTURES: dict[str, Callable[[], bytes]] = {
    "PNG of 320,000 tiny chunks": lambda: png_of_chunks(b"tEXt", 320_000),
    "PNG of empty IDATs": lambda: png_of_chunks(b"IDAT", 300_000),
    "PNG of private chunks": lambda: png_of_chunks(b"prVt", 300_000),
    "PNG of zTXt with an empty keyword": lambda: png_of_chunks(b"zTXt", 40_000),
    "PNG of zTXt that are bombs": lambda: png_of_chunks(b"zTXt", 100, b"a\0\0" + hostile.deflated(8 * MIB)),
    "PNG of one iCCP that is a bomb": lambda: png_of_chunks(b"iCCP", 1, b"a\0\0" + hostile.deflated(200 * MIB)),
    "16 MB of tiny chunks": lambda: png_of_chunks(b"tEXt", 1_380_000),
    "PNG, plain but for 300 chunks": lambda: hostile.png(png_chunk(b"tEXt", b"") * 300),
    "JPEG fill bytes": lambda: fill_bytes(4_000_000),
    "JPEG of EXIF segments": lambda: exif_segments(20_000),
    "JPEG of comments": lambda: hostile.jpeg_of_segments(b"\xff\xfe\0\x02", 900_000),
    "JPEG of restart markers": lambda: jpeg()[:-2] + b"\xff\xd0" * 2_000_000 + b"\xff\xd9",
    "progressive JPEG of 200 scans": lambda: progressive_scans(7_000, 200),
    "progressive JPEG of 90 scans": lambda: progressive_scans(7_000, 90),
    "BMP RLE of 4 MB": lambda: bmp_rle(7_000, 7_000, b"\x02\x01" * 2_000_000),
    "BMP RLE of one short row": lambda: bmp_rle_of_short_rows(50_000_000),
    "a row of 50,000,000 pixels": lambda: png_of_rows(50_000_000, 1),
    "a column of 5,000,000 pixels": lambda: png_of_rows(1, 5_000_000),
    "7000x7000 of 16 bits and alpha": lambda: rgba16(7_000),
    "GIF of many frames": lambda: hostile.gif_of_frames(30_000),
    "not an image": lambda: b"\0" * 16_000_000,
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_costs_little_and_stops_nobody(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    body = form("file", [PICTURES[name]()])
    assert len(body) <= 16 * MIB
    with measured(client, monkeypatch) as cost:
        response = client.post("/predict", content=body, headers=MULTIPART)
    assert response.status_code in (200, 422), response.text
    assert cost.loop < LOOP_SECONDS
    assert cost.api < 1
    assert cost.decoders < 8  # a picture may take 5, and then another decoder is started
    is_answered(client)


def is_answered(client: TestClient) -> None:
    """An honest photograph gets its answer still."""
    digit = Path(__file__).parent.parent / "examples" / "7.png"
    response = client.post("/predict", content=photograph(digit.read_bytes(), (800, 600)), headers=PNG)
    assert response.json()["label"] == "7"


def test_no_picture_leaves_anything_in_memory(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors too: through a reference cycle each kept its picture, 422 MiB of a blank one."""
    blank, damaged = rgba16(7_000), png_of_rows(7_000, 7_000)[:-1_000]
    pool = services(client).decoders
    client.post("/predict", content=blank, headers=PNG)
    before = resident_bytes(os.getpid())
    gc.disable()
    try:
        for _ in range(4):
            for data in (blank, damaged, bytes(16_000_000)):
                assert client.post("/predict", content=data, headers=PNG).status_code == 422
        after = resident_bytes(os.getpid())
    finally:
        gc.enable()
    assert after - before < 64 * MIB
    assert all(resident_bytes(pid) < 150 * MIB for pid in ready(pool))
    assert all(peak_bytes(pid) < pool.limits.memory_bytes for pid in pool.pids)


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/predict", bytes(100_000), PNG),
        ("/predict", b"{" * 100_000, {"content-type": "application/json"}),
        ("/predict", bytes(100_000), {"content-type": "multipart/form-data; boundary=x"}),
        ("/predict", bytes(100_000), {**PNG, "content-encoding": "gzip"}),
        ("/predict?explain=true", bytes(100_000), PNG),
        ("/predict?model=nobody", bytes(100_000), PNG),
        ("/predict/batch", bytes(100_000), {"content-type": "application/x-npy"}),
    ],
)
def test_what_was_refused_does_not_wait_for_the_garbage_collector(
    client: TestClient, path: str, body: bytes, headers: dict[str, str]
) -> None:
    """An exception that its own frames refer to kept the body: 60 MiB more with each 30 of 2 MiB."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        assert 400 <= client.post(path, content=body, headers=headers).status_code < 500
        gc.collect()
        frames = [one.f_code for one in gc.garbage if isinstance(one, FrameType)]
        assert not [code for code in frames if Path(code.co_filename).is_relative_to(APP)]
        assert not [one for one in gc.garbage if isinstance(one, RequestError | ImageError)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


# -- batches -------------------------------------------------------------------------------------------


def test_many_wide_batches_wait_for_the_decoders_and_nobody_for_them(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, digits: dict[str, bytes]
) -> None:
    """45 batches of 52 kB in all stopped `/readyz` for 14 s: each was decoded in a thread of its own."""
    batch = form("files", [png_of_rows(5_000_000, 1)])
    before = threading.active_count()
    with measured(client, monkeypatch) as cost, ThreadPoolExecutor(45) as senders:
        sent = [
            senders.submit(client.post, "/predict/batch", content=batch, headers=MULTIPART) for _ in range(45)
        ]
        for _ in range(10):
            assert client.post("/predict", content=digits["7"], headers=PNG).json()["label"] == "7"
            assert client.get("/readyz").status_code in (200, 503)
        threads = threading.active_count()
        answers = [one.result() for one in sent]
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert threads - before <= 45 + 20  # senders, and few of ours
    assert cost.loop < 2 * LOOP_SECONDS  # of 65 requests


def test_twelve_batches_of_the_costliest_pixels(client: TestClient) -> None:
    """4.7 MB in all took 12.6 GB: now at most a picture for each decoder is there at a time."""
    pool = services(client).decoders
    batch = form("files", [rgba16(7_000)])
    before = resident_bytes(os.getpid())
    with ThreadPoolExecutor(12) as senders:
        answers = list(
            senders.map(
                lambda _: client.post("/predict/batch", content=batch, headers=MULTIPART),
                range(12),
            )
        )
    assert {answer.status_code for answer in answers} <= {200, 503, 504}
    assert all(peak_bytes(pid) < pool.limits.memory_bytes for pid in ready(pool))
    assert resident_bytes(os.getpid()) - before < 200 * MIB


def test_a_batch_has_one_budget_of_pixels(client: TestClient, digits: dict[str, bytes]) -> None:
    side = 7_000
    fit = MAX_BATCH_PIXELS // (side * side)
    files = [digits["7"], *[png_of_rows(side, side)[:2_000]] * (fit + 2), digits["7"]]
    answers = client.post("/predict/batch", content=form("files", files), headers=MULTIPART).json()
    titles = [answer.get("title", "") for answer in answers]
    assert titles[0] == titles[-1] == ""  # plain ones do not count
    assert titles.count("Image too large") == 2
    assert titles[-3:-1] == ["Image too large"] * 2
    assert "fewer images" in answers[-2]["hint"]


# -- forms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "field"), [("/predict", "file"), ("/predict/batch", "files")])
def test_a_form_of_semicolons(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, field: str
) -> None:
    """3,500 parts with 4,000 semicolons each stopped the loop for 10 s."""
    body = form_of_semicolons(*FORM_OF_SEMICOLONS, field)
    with measured(client, monkeypatch) as cost:
        response = client.post(path, content=body, headers=MULTIPART)
    assert response.status_code == 400
    assert cost.loop < LOOP_SECONDS
    assert cost.api + cost.decoders < 2


def test_a_single_prediction_takes_few_parts(client: TestClient, digits: dict[str, bytes]) -> None:
    options = {"model": "digits", "preprocess": "auto", "explain": "false"}
    assert client.post("/predict", data=options, files={"file": digits["7"]}).json()["label"] == "7"
    response = client.post("/predict", files=[("file", digits["7"])] * 17)
    assert "16 parts" in str(is_problem(response, 400, "Malformed form")["detail"])


@pytest.mark.parametrize("kind", [f"{FORM}; " + 'x="' * 20_000, FORM + ";" * 60_000, "a" * 60_000])
def test_a_long_content_type(client: TestClient, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for path in ("/predict", "/predict/batch"):
        with measured(client, monkeypatch) as cost:
            response = client.post(path, content=bytes(10_000), headers={"content-type": kind})
        assert response.status_code in (400, 415)
        assert cost.loop < LOOP_SECONDS


def test_arrays_whose_header_is_a_trap(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros((1, 28, 28), np.uint8))
    nested = b"\x93NUMPY\x02\0" + (9_000).to_bytes(4, "little") + b"(" * 9_000
    endless = b"\x93NUMPY\x02\0" + b"\xff\xff\xff\x7f" + b"{" * 60_000
    for body in (nested, endless, b"\x93NUMPY\x02\0\xff\xff\xff\xff", stream.getvalue()[:-1]):
        with measured(client, monkeypatch) as cost:
            response = client.post("/predict/batch", content=body, headers=NPY)
        is_problem(response, 422, "Wrong array")
        assert cost.loop < LOOP_SECONDS


# -- tensors as JSON -----------------------------------------------------------------------------------


def numbers_as_v2(count: int) -> bytes:
    data = ", ".join(["0.1234"] * (count * 784))
    tensor = f'{{"name": "input", "datatype": "FP32", "shape": [{count}, 1, 28, 28], "data": [{data}]}}'
    return f'{{"inputs": [{tensor}]}}'.encode()


def numbers_as_v1(count: int) -> bytes:
    row = f"[{','.join(['0.1234'] * 28)}]"
    image = f"[{','.join([row] * 28)}]"
    return f'{{"instances": [{",".join([image] * count)}]}}'.encode()


@pytest.mark.parametrize(
    ("path", "numbers"),
    [
        ("/v2/models/softmax-mnist/infer", numbers_as_v2),
        ("/v1/models/softmax-mnist:predict", numbers_as_v1),
    ],
)
def test_16_mib_of_numbers_are_read_beside_the_event_loop(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, numbers: Callable[[int], bytes]
) -> None:
    """A parser of JSON would hold the interpreter's lock for a second: in a thread, too."""
    body = numbers(2_700)
    assert len(body) > 14 * MIB
    with measured(client, monkeypatch) as cost:
        response = client.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 200, response.text
    assert cost.decoders > 0.1  # it was read there
    assert cost.loop < LOOP_SECONDS
    assert cost.api < 1


# -- a process -----------------------------------------------------------------------------------------


@pytest.mark.survival
def test_after_a_deadline_no_more_decoders_than_before_and_none_after_sigterm(tmp_path: Path) -> None:
    """14 threads decoded on instead of 2, with 1.9 GB, and the process lived 45 s after SIGTERM."""
    slow = progressive_scans(7_000, 32)
    with service(tmp_path, "api", MINIST_REQUEST_TIMEOUT="1", MINIST_DECODERS="2") as (process, client):
        decoders = wait_for(lambda: found if len(found := children(process.pid)) == 2 else None)

        def send(_: int) -> int:
            with contextlib.suppress(httpx2.TransportError):
                return client.post("/predict", content=slow, headers=PNG).status_code
            return 0

        with ThreadPoolExecutor(8) as senders:
            statuses = list(senders.map(send, range(16)))
        assert set(statuses) <= {422, 503, 504}
        assert 504 in statuses
        assert len(children(process.pid)) <= 2
        assert sum(map(resident_bytes, children(process.pid))) < 2 * 200 * MIB + 2 * 1_536 * MIB
        with ThreadPoolExecutor(4) as senders:
            futures = [senders.submit(send, number) for number in range(4)]
            time.sleep(0.3)
            used = cpu_seconds(process.pid)
            decoders = sorted({*decoders, *children(process.pid)})
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            for future in futures:
                future.result()
        assert process.returncode == 0
        assert not any(map(alive, decoders))
        assert used < 60


UPLOAD = 8 * MIB - 1


def unfinished_upload(port: int, chunked: bool) -> bytes | socket.socket:
    """Send all of a batch but its last byte: the answer, or the connection where none comes."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {UPLOAD}"
    head = f"POST /predict/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-idx\r\n{length}"
    start = b"%x\r\n" % UPLOAD if chunked else b""
    connection.sendall(head.encode() + b"\r\n\r\n" + start + bytes(UPLOAD - 1))
    connection.settimeout(2)
    try:
        answer = connection.recv(4096)
    except TimeoutError:
        return connection
    connection.close()
    return answer


@pytest.mark.survival
def test_bodies_are_counted_as_they_come(tmp_path: Path, digits: dict[str, bytes]) -> None:
    """40 of 64 MiB less one byte took 1.65 GB: bodies counted when they were whole."""
    with (
        service(tmp_path, "api", MINIST_MAX_WAITING_BYTES=str(32 * MIB)) as (process, client),
        ThreadPoolExecutor(40) as senders,
    ):
        settled_mib(process.pid)
        before = peak_bytes(process.pid)
        port = client.base_url.port or 80
        uploads = [senders.submit(unfinished_upload, port, number % 2 == 0) for number in range(40)]
        while not all(upload.done() for upload in uploads):
            assert client.post("/predict", content=digits["7"], headers=PNG).json()["label"] == "7"
        ends = [upload.result() for upload in uploads]
        refused = [end for end in ends if isinstance(end, bytes)]
        held = [end for end in ends if not isinstance(end, bytes)]
        assert all(answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer for answer in refused)
        assert 1 <= len(held) <= 3  # an eighth is for small bodies
        assert peak_bytes(process.pid) - before < 64 * MIB
        while len(held) < 3:
            end = unfinished_upload(port, False)
            assert not isinstance(end, bytes)
            held.append(end)
        is_problem(client.post("/predict/batch", content=bytes(UPLOAD), headers=NPY), 503, "Overloaded")
        assert client.get("/readyz").status_code == 200
        for connection in held:
            connection.close()
        wait_for(lambda: "\nminist_waiting_bytes 0.0\n" in client.get("/metrics").text)


@pytest.mark.parametrize("name", ["zeros", "digit"])
def test_what_is_unpacked_counts(
    client: TestClient, digits: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    batcher = services(client).batcher
    packed = gzip.compress(bytes(4 * MIB) if name == "zeros" else digits["7"])
    headers = {**PNG, "content-encoding": "gzip"}
    monkeypatch.setattr(batcher, "max_bytes", 1 * MIB)
    batcher.admit(1)
    try:
        answer = client.post("/predict", content=packed, headers=headers)
    finally:
        batcher.release(1)
    assert answer.status_code == (503 if name == "zeros" else 200)
    assert batcher.bytes == 0
