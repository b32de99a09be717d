"""The fast path of POST /predict answers what the documented route would, and leaves it what is not usual."""

import asyncio
import contextlib
import io
import itertools
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

import app.web.fast_path
from app.main import create_app
from app.settings import Settings
from models.errors import ImageError
from models.preprocessing.decode import decode
from models.preprocessing.png import plain_pixels
from tests.conftest import ADMIN
from tests.samples import PNG, is_problem, photograph

FORM = "multipart/form-data; boundary=abc"


def part(content: bytes, name: str = "file", more: str = "") -> bytes:
    return f'--abc\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


@pytest.fixture
def slow_way(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is usual: every request goes through FastAPI."""
    with monkeypatch.context() as patch:
        patch.setattr(app.web.fast_path, "_usual", lambda scope, headers: None)
        yield


def requests(digits: dict[str, bytes]) -> list[tuple[str, str, bytes]]:
    """Path, content type and body: good and bad."""
    end = b"--abc--\r\n"
    return [
        ("/predict", "image/png", digits["3"]),
        ("/predict?model=cnn", "image/png", digits["4"]),
        ("/predict?model=minist@1", "image/png", digits["4"]),
        ("/predict?model=minist%401", "image/png", digits["4"]),
        ("/predict?model=nope", "image/png", digits["4"]),
        ("/predict?model=", "image/png", digits["4"]),
        ("/predict?unknown=1", "image/png", digits["4"]),
        ("/predict?model=cnn&unknown=1", "image/png", digits["4"]),
        ("/predict", FORM, part(digits["5"]) + end),
        ("/predict", FORM, part(digits["5"], more='; filename="5.png"') + end),
        ("/predict", FORM, part(digits["5"]) + part(b"x", "comment") + end),
        ("/predict", FORM, part(digits["5"]) * 2 + end),
        ("/predict", FORM, part(digits["5"], "FILE") + end),
        ("/predict", FORM, part(digits["5"])),
        ("/predict", "multipart/form-data", part(digits["5"]) + end),
        ("/predict", 'multipart/form-data; charset=utf-8; boundary="abc"', part(digits["5"]) + end),
        ("/predict", "image/png", digits["5"][:100]),
        ("/predict", "image/png", b""),
        ("/predict", "image/jpeg", photograph(digits["6"], (400, 260))),
        ("/predict?model=minist", "image/jpeg", photograph(digits["6"], (400, 260))),
        ("/predict?model=minist&preprocess=none", "image/jpeg", photograph(digits["6"], (400, 260))),
        ("/predict", "text/plain", b"x"),
        ("/predict", "image/png", bytes(17 * 1024 * 1024)),
    ]


def test_both_ways_give_the_same_answers(
    client: TestClient, digits: dict[str, bytes], request: pytest.FixtureRequest
) -> None:
    def ask() -> list[tuple[int, dict[str, str], bytes]]:
        answers = []
        for path, kind, body in requests(digits):
            response = client.post(path, content=body, headers={"content-type": kind})
            headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
            answers.append((response.status_code, headers, response.content))
        return answers

    quick = ask()
    request.getfixturevalue("slow_way")
    assert ask() == quick
    assert {status for status, _, _ in quick} == {200, 400, 404, 413, 415, 422}


def test_other_methods_are_not_its_business(client: TestClient) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
        response = client.request(method, "/predict")
        assert response.status_code == 405, method
        assert response.headers["allow"] == "POST"
        assert response.headers["x-request-id"]


def test_it_asks_for_a_key_where_one_is_needed(settings: Settings, digits: dict[str, bytes]) -> None:
    closed = settings.model_copy(update={"open_predict": False})
    with TestClient(create_app(closed)) as client:
        refused = client.post("/predict", content=digits["1"], headers=PNG)
        is_problem(refused, 401, "Unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert client.post("/predict", content=digits["1"], headers={**PNG, **ADMIN}).status_code == 200
        other = {**PNG, "x-api-key": ADMIN["authorization"].removeprefix("Bearer ")}
        assert client.post("/predict", content=digits["1"], headers=other).status_code == 200


def test_a_request_keeps_its_id_and_a_harmful_one_is_replaced(
    client: TestClient, digits: dict[str, bytes]
) -> None:
    for path in ("/predict", "/livez"):

        def ask(path: str = path, **headers: str) -> str:
            if path == "/predict":
                answer = client.post(path, content=digits["1"], headers={**PNG, **headers})
            else:
                answer = client.get(path, headers=headers)
            return str(answer.headers["x-request-id"])

        assert ask(**{"x-request-id": "mine-1"}) == "mine-1"
        assert ask(**{"x-request-id": 'a"b{}'}) != 'a"b{}'
        assert ask() != ask()


def test_a_bug_is_a_500_without_its_message(
    client: TestClient, digits: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(app.web.fast_path, "predict_one", broken)
    response = client.post("/predict", content=digits["1"], headers=PNG)
    is_problem(response, 500, "Internal server error")
    assert "secret" not in response.text


def test_a_request_that_takes_too_long_is_504(settings: Settings, digits: dict[str, bytes]) -> None:
    """Called as a server would, with a body that never ends."""
    hasty = settings.model_copy(update={"request_timeout": 0.2})
    service = create_app(hasty)

    async def ask(path: str) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        first = iter([{"type": "http.request", "body": digits["1"][:50], "more_body": True}])

        async def receive() -> dict[str, Any]:
            for message in first:
                return message
            await asyncio.sleep(60)
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        async with service.router.lifespan_context(service) as state:
            scope = {
                "type": "http",
                "method": "POST",
                "path": path,
                "query_string": b"",
                "state": dict(state or {}),
            }
            headers = [(b"content-type", b"image/png")]
            await service({**scope, "headers": headers, "client": None, "http_version": "1.1"}, receive, send)
        return sent

    for path in ("/predict", "/predict/batch"):
        start, body = asyncio.run(ask(path))
        assert start["status"] == 504, path
        assert json.loads(body["body"])["title"] == "Deadline exceeded"


def test_more_than_may_wait_is_503_with_retry_after(settings: Settings, digits: dict[str, bytes]) -> None:
    """The bound on bytes: one that fits alone is answered, two at a time are not."""
    narrow = settings.model_copy(update={"max_waiting_bytes": 1})
    with TestClient(create_app(narrow)) as client:
        assert client.post("/predict", content=digits["1"], headers=PNG).status_code == 200
        batcher = client.app_state["services"].batcher
        batcher.admit(1)
        response = client.post("/predict", content=digits["1"], headers=PNG)
        body = is_problem(response, 503, "Overloaded")
        assert "bytes" in str(body["detail"])
        assert int(response.headers["retry-after"]) >= 1
        is_problem(client.get("/readyz"), 503, "Not ready")
        batcher.release(1)
        assert client.get("/readyz").status_code == 200


# -- the quick PNG reader ------------------------------------------------------------------------------

SIZE = (28, 28)
SHAPE = (1, 28, 28)


def png(array: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", **options)
    return stream.getvalue()


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), level=st.integers(0, 9), smooth=st.booleans())
def test_the_quick_reader_gives_pillows_pixels(seed: int, level: int, smooth: bool) -> None:
    """Noise and gradients, so that all row filters come up."""
    random = np.random.default_rng(seed)
    array = random.integers(0, 256, SIZE, dtype=np.uint8)
    if smooth:
        array = (np.cumsum(array // 64, axis=1) + np.cumsum(array // 64, axis=0)).astype(np.uint8)
    data = png(array, compress_level=level)
    assert plain_pixels(data, SHAPE) == array.tobytes() == decode(data, SIZE, 0).tobytes()


def test_what_is_not_usual_is_left_to_pillow() -> None:
    grey = np.zeros(SIZE, np.uint8)
    assert plain_pixels(png(np.zeros((28, 28, 3), np.uint8)), SHAPE) is None
    assert plain_pixels(png(np.zeros((14, 56), np.uint8)), SHAPE) is None
    assert plain_pixels(png(grey, transparency=0), SHAPE) is None
    assert plain_pixels(png(grey) + b"more", SHAPE) is None
    assert plain_pixels(b"", SHAPE) is None


@settings(max_examples=400, deadline=None)
@given(position=st.integers(0, 10_000), change=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_png_is_left_to_pillow(position: int, change: int, cut: bool) -> None:
    data = bytearray(png(np.arange(784, dtype=np.uint16).reshape(SIZE).astype(np.uint8)))
    position %= len(data)
    if cut:
        del data[position:]
    else:
        data[position] ^= change
    assert plain_pixels(bytes(data), SHAPE) is None  # every byte is under a checksum, or part of the frame


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


ODD = ("size", "kind", "interlace", "filter", "length", "end", "more", "chunk")


@st.composite
def strange_pngs(draw: st.DrawFn) -> bytes:
    """Files whose checksums are right, with at most two things that are odd."""
    odd = draw(st.sets(st.sampled_from(ODD), max_size=2))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.sampled_from([27, 56])) if "size" in odd else 28
    kind = draw(st.sampled_from([b"\x08\x03", b"\x01\x00", b"\x10\x00"])) if "kind" in odd else b"\x08\x00"
    how = draw(st.sampled_from([b"\x00\x00\x01", b"\x01\x00\x00"])) if "interlace" in odd else bytes(3)
    rows = random.integers(0, 256, (28, 29), dtype=np.uint8)
    rows[:, 0] = random.integers(0, 6 if "filter" in odd else 5, 28)  # there are five filters
    length = 28 * 29 + (draw(st.sampled_from([-400, -1, 1, 400])) if "length" in odd else 0)
    pixels = zlib.compress((rows.tobytes() * 2)[:length], draw(st.integers(0, 9)))
    if "end" in odd:
        pixels = pixels[: -draw(st.integers(1, 9))]
    if "more" in odd:
        pixels += draw(st.binary(max_size=9))
    cut = draw(st.integers(0, len(pixels)))
    chunks = [chunk(b"IDAT", pixels[:cut]), chunk(b"IDAT", pixels[cut:])]
    if "chunk" in odd:
        names = [b"tEXt", b"zTXt", b"gAMA", b"tRNS", b"bKGD", b"IDAT", b"IHDR", b"acTL", b"ABCD", b"iCCP"]
        other = chunk(draw(st.sampled_from(names)), draw(st.binary(max_size=13)))
        chunks.insert(draw(st.integers(0, 2)), other)
    header = chunk(b"IHDR", struct.pack(">II", width, 28) + kind + how)
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


@settings(max_examples=1000, deadline=None)
@given(data=strange_pngs())
def test_what_the_quick_reader_reads_is_what_pillow_reads(data: bytes) -> None:
    quick = plain_pixels(data, SHAPE)
    event("read quickly" if quick else "left to Pillow")
    if quick is None:
        with contextlib.suppress(ImageError):
            decode(data, SIZE, 0)
    else:
        assert quick == decode(data, SIZE, 0).tobytes()


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_image_errors(data: bytes) -> None:
    for start in (b"", png(np.zeros(SIZE, np.uint8))[:33]):
        with contextlib.suppress(ImageError):
            decode(start + data, SIZE, 0)
        assert plain_pixels(start + data, SHAPE) is None


def test_ids_of_a_process_are_different(client: TestClient) -> None:
    ids = [client.get("/livez").headers["x-request-id"] for _ in range(20)]
    assert all(a != b for a, b in itertools.combinations(ids, 2))
