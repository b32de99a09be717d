"""Many requests, good and hostile, to a real service of two workers: nothing grows, nothing falls over.

15,000 here, in about half a minute; `SOAK=100000 pytest tests/test_soak.py` takes some minutes.
"""

import asyncio
import io
import itertools
import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import uvloop
from PIL import Image

from benchmarks.upload import BOUNDARY
from tests.conftest import ADMIN_KEY, ROOT
from tests.hostile import (
    bmp_rle_of_short_rows,
    deflated,
    form_of_semicolons,
    gif_of_frames,
    png_of_chunks,
    png_of_rows,
    progressive_scans,
    rgba16,
)
from tests.processes import resident_mib, service, settled_mib, wait_for, workers_of
from tests.samples import png_header

REQUESTS = int(os.environ.get("SOAK", "15000"))
CONNECTIONS = 32
ROUNDS = 10
ALONE = 3_000  # good requests without any others, to compare with
ATTACKS = REQUESTS // 5_000  # costly pictures in a round
SLOWER = 5  # times the p99 of good requests may be beside the hostile ones
PNG = "image/png"
FORM = "multipart/form-data; boundary=abc"


@dataclass(frozen=True)
class Kind:
    """A request as bytes, and what may come back."""

    name: str
    weight: int
    raw: bytes
    statuses: frozenset[int]
    labels: tuple[str, ...] = ()  # of a good answer, in order
    leaves: bool = False  # goes away after sending, without waiting for an answer


def http(method: str, path: str, body: bytes = b"", kind: str | None = None, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    lines += [f"Content-Type: {kind}"] * (kind is not None) + [f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(path: str, kind: str, body: bytes, size: int) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {kind}",
        "Transfer-Encoding: chunked",
        "",
        "",
    ]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    return "\r\n".join(lines).encode() + framed


def form(*contents: bytes, name: str = "file") -> bytes:
    head = f'--abc\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n'.encode()
    parts = [head + b"Content-Type: image/png\r\n\r\n" + content + b"\r\n" for content in contents]
    return b"".join(parts) + b"--abc--\r\n"


def png(side: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((side, side), 9, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def good(digits: dict[str, bytes]) -> Iterator[Kind]:
    """Usual requests; each has one right answer."""
    boot = (ROOT / "examples" / "ankle-boot.png").read_bytes()
    ok = frozenset({200})
    for digit, image in digits.items():
        yield Kind("form", 40, http("POST", "/predict", form(image), FORM), ok, (digit,))
        yield Kind("raw", 20, http("POST", "/predict?model=cnn", image, PNG), ok, (digit,))
        yield Kind("chunks", 4, chunked("/predict", PNG, image, 100), ok, (digit,))
        yield Kind("auto", 1, http("POST", "/predict?model=digits&preprocess=auto", image, PNG), ok, (digit,))
    yield Kind("boot", 20, http("POST", "/predict?model=fashion-cnn", boot, PNG), ok, ("ankle boot",))
    three = form(digits["1"], digits["2"], digits["3"], name="files")
    yield Kind("batch", 20, http("POST", "/predict/batch", three, FORM), ok, ("1", "2", "3"))
    yield Kind("card", 5, http("GET", "/models/minist"), ok)
    yield Kind("alive", 5, http("GET", "/livez"), ok)


def hostile(digits: dict[str, bytes]) -> Iterator[Kind]:
    """What nobody should send."""
    image = digits["7"]

    def bad(name: str, status: int, raw: bytes, weight: int = 8) -> Kind:
        return Kind(name, weight, raw, frozenset({status}))

    yield bad("wrong size", 422, http("POST", "/predict", png(64), PNG))
    yield bad("truncated", 422, http("POST", "/predict", form(image[:150]), FORM))
    yield bad("junk", 422, http("POST", "/predict", b"junk" * 99, PNG))
    yield bad("empty", 422, http("POST", "/predict", b"", PNG))
    many_pixels = frozenset({422, 503})  # several together are more than may wait
    yield Kind("bomb", 8, http("POST", "/predict", png_header(20_000, 20_000), PNG), many_pixels)
    yield bad("broken form", 400, http("POST", "/predict", form(image)[:-9], FORM))
    yield bad("no boundary", 400, http("POST", "/predict", form(image), "multipart/form-data"))
    yield bad("wrong field", 422, http("POST", "/predict", form(image, name="x"), FORM))
    yield bad("two files", 422, http("POST", "/predict", form(image, image), FORM))
    yield bad("text", 415, http("POST", "/predict", b"x", "text/plain"))
    yield Kind("no type", 8, http("POST", "/predict", image), frozenset({200}), ("7",))
    yield bad("wrong array", 422, http("POST", "/predict/batch", b"\x93NUMPY\x01\x00\xff", "application/x-npy"))
    yield bad("method", 405, http("PATCH", "/predict"))
    yield bad("other method", 405, http("DELETE", "/models"))
    yield bad("no such page", 404, http("GET", "/%00/../../etc/passwd"))
    yield bad("no such model", 404, http("POST", "/predict?model=nope", image, PNG))
    yield bad("strange model", 404, http("POST", "/predict?model=%00%ff%F0@9999999999", image, PNG))
    yield bad("no key", 401, http("POST", "/train", b"{}", "application/json"))
    wrong_key = f"Authorization: Bearer {'x' * 9}.{'y' * 5000}"
    yield bad("wrong key", 401, http("DELETE", "/train/x", b"", None, wrong_key))
    key = f"X-API-Key: {ADMIN_KEY}"
    yield bad("no JSON", 422, http("POST", "/train", b"{", "application/json", key))
    yield bad("no text", 400, http("POST", "/models/minist/rollback", b"\xff", "application/json", key))
    yield bad("large JSON", 413, http("POST", "/train", bytes(70_000), "application/json", key), 2)
    announced = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: "
    yield bad("too large", 413, f"{announced}{2**40}\r\n\r\n".encode())
    yield bad("too many chunks", 413, chunked("/predict", PNG, bytes(1_100_000), 50_000), 2)
    yield bad("no number", 400, f"{announced}ten\r\n\r\n".encode())
    yield bad("no HTTP", 400, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    yield bad("chunks and length", 400, f"{announced}5\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    odd = ["X-Request-ID: \xff" + "'" * 300, "traceparent: \x01", "Content-Encoding: gzip", "Range: bytes=0-"]
    many = [f"X-{number}: {'v' * 50}" for number in range(200)]
    told = frozenset({200, 400})  # control characters are refused by the HTTP parser
    yield Kind("odd headers", 8, http("POST", "/predict", image, PNG, *odd), told, ("7",))
    yield Kind("many headers", 8, http("POST", "/predict", image, PNG, *many), told, ("7",))
    yield Kind("half", 8, http("POST", "/predict", form(image), FORM)[:-200], frozenset(), leaves=True)
    yield Kind("half a head", 8, b"POST /predict HTTP/1.1\r\nHost: so", frozenset(), leaves=True)
    yield Kind("gone", 8, http("POST", "/predict", form(image), FORM), frozenset(), leaves=True)
    events = http("GET", "/train", b"", None, "Connection: close")
    yield Kind("gone with FastAPI", 4, events, frozenset(), leaves=True)


def attacks() -> Iterator[Kind]:
    """Pictures that take a decoder seconds, or would take gigabytes."""
    told = frozenset({200, 422, 503, 504})
    pictures = {
        "scans": progressive_scans(7_000, 90),
        "short rows": bmp_rle_of_short_rows(50_000_000),
        "zTXt": png_of_chunks(b"zTXt", 40_000),
        "a row": png_of_rows(50_000_000, 1),
        "a column": png_of_rows(1, 5_000_000),
        "16 bits": rgba16(4_000),
        "frames": gif_of_frames(10_000),
        "iCCP": png_of_chunks(b"iCCP", 1, b"a\0\0" + deflated(200 * 1024 * 1024)),
    }
    for name, picture in pictures.items():
        assert len(picture) < 1024 * 1024, name
        yield Kind(name, 1, http("POST", "/predict", picture, PNG), told)
    many = http("POST", "/predict", form_of_semicolons(200, 4_000), f"multipart/form-data; boundary={BOUNDARY}")
    yield Kind("semicolons", 1, many, frozenset({400}))


@dataclass
class Soak:
    """Asks for what is left of a round, over one connection after the other."""

    port: int
    kinds: list[Kind]
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    left: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of good requests that are answered by one image

    async def round(self, requests: int, costly: Sequence[Kind] = (), silent: int = 0) -> None:
        """So many requests; beside them costly ones, one after the other, and connections that say nothing."""
        self.left = requests
        async with asyncio.timeout(300), asyncio.TaskGroup() as group:
            idle = [await asyncio.open_connection("127.0.0.1", self.port) for _ in range(silent)]
            clients = [group.create_task(self._client()) for _ in range(CONNECTIONS)]
            group.create_task(self._attacker(costly))
            await asyncio.wait(clients)
            for _, writer in idle:
                writer.transport.abort()

    async def _attacker(self, costly: Sequence[Kind]) -> None:
        for kind in costly:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(kind.raw)
                await self._check(kind, reader)
            finally:
                writer.transport.abort()

    async def _client(self) -> None:
        while self.left > 0:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                while self.left > 0 and await self._ask(reader, writer):
                    pass
            finally:
                writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection can be used again."""
        self.left -= 1
        (kind,) = self.draw.choices(self.kinds, self._weights)
        self.asked[kind.name] += 1
        begun = time.perf_counter()
        writer.write(kind.raw)
        if kind.leaves:
            await asyncio.sleep(self.draw.choice((0, 0, 0.002)))
            return False
        goes_on = await self._check(kind, reader)
        if kind.name in ("form", "raw"):
            self.seconds.append(time.perf_counter() - begun)
        return goes_on

    async def _check(self, kind: Kind, reader: asyncio.StreamReader) -> bool:
        """Wait for the answer and look at it; whether the connection can be used again."""
        try:
            status, goes_on, body = await _answer(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            if kind.name not in ("too many chunks", "large JSON"):  # closed before all was sent: none is due
                self.wrong.append(f"{kind.name}: no answer")
            return False
        if status not in kind.statuses or (kind.labels and status == 200 and _labels(body) != kind.labels):
            self.wrong.append(f"{kind.name}: {status} {body[:200]!r}")
        return goes_on

    def p99(self) -> float:
        """Of the good requests since it was asked the last time."""
        found, self.seconds = sorted(self.seconds), []
        return found[len(found) * 99 // 100]

    def __post_init__(self) -> None:
        self._weights = [kind.weight for kind in self.kinds]


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = re.search(rb"content-length: (\d+)", head)
    body = await (reader.readexactly(int(length[1])) if length else reader.read())
    return int(head[9:12]), length is not None and b"connection: close" not in head, body


def _labels(body: bytes) -> tuple[str, ...]:
    found = json.loads(body)
    return tuple(one["label"] for one in (found if isinstance(found, list) else [found]) if "label" in one)


def open_files(pids: list[int]) -> int:
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)


@pytest.mark.soak
def test_many_requests_leave_nothing_behind(tmp_path: Path, digits: dict[str, bytes]) -> None:
    """Every good answer is right, every bad one documented; memory stays where it is; the workers live."""
    few = str(1024 * 1024)  # bytes; what is too large need not be large
    with service(tmp_path, "api", "--workers", "2", MINIST_MAX_UPLOAD_BYTES=few) as (process, client):
        wait_for(lambda: len(workers_of(process)) == 2)
        workers = workers_of(process)
        for pid in workers:
            settled_mib(pid)
        port = client.base_url.port or 80
        calm = Soak(port, [*good(digits)])
        uvloop.run(calm.round(ALONE))
        soak = Soak(port, [*good(digits), *hostile(digits)])
        costly = itertools.cycle(attacks())
        sizes: list[float] = []
        files: list[int] = []
        begun = time.monotonic()
        for _ in range(ROUNDS):
            some = [*itertools.islice(costly, ATTACKS)]
            uvloop.run(soak.round(REQUESTS // ROUNDS, some, silent=20))
            time.sleep(0.3)  # the last connections are closed
            sizes.append(sum(resident_mib(pid) for pid in workers))
            files.append(open_files(workers))
        slower = soak.p99() / calm.p99()
        told = f"{REQUESTS / (time.monotonic() - begun):.0f} requests/s, p99 {slower:.1f} times as long, "
        told += f"MiB {sizes}, files {files}"
        sys.stdout.write(f"{told}\n")  # shown by `pytest -s`

        assert not soak.wrong + calm.wrong, (len(soak.wrong), soak.wrong[:10], calm.wrong[:10])
        assert sum(soak.asked.values()) == REQUESTS
        assert set(soak.asked) == {kind.name for kind in soak.kinds}
        assert workers_of(process) == workers
        assert slower < SLOWER, told
        # After the first tenth. The allocator keeps some of what large bodies freed, up and down: the lowest of
        # the last rounds tells what stays. Of 100,000 requests the last 40,000 took 0.5 MiB, those before 13.
        assert min(sizes[-4:]) - min(sizes[1:5]) < 16, told
        assert files[-1] - files[1] < 5, told  # threads keep a connection to the database each
        time.sleep(2)  # each worker writes its numbers once a second
        page = client.get("/metrics").text
        statuses = set(re.findall(r'minist_requests_total{.*status="(\d+)"}', page))
        assert {status for status in statuses if status >= "500"} <= {"503", "504"}
        assert "\nminist_waiting_images 0.0\n" in page
        assert "\nminist_waiting_bytes 0.0\n" in page
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(40) == 0
    assert "a request failed" not in (tmp_path / "service.log").read_text()
