"""Small inputs, and checks that many tests share."""

import io
import json
import struct
import zlib

from PIL import Image

from tests.conftest import SAMPLE
from training.recipes import RECIPES, Config

PNG = {"content-type": "image/png"}


def is_problem(response: object, status: int, title: str) -> dict[str, object]:
    """Check a problem document and return it."""
    assert response.status_code == status, response.text  # type: ignore[attr-defined]
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    body: dict[str, object] = response.json()  # type: ignore[attr-defined]
    assert body["status"] == status
    assert body["title"] == title
    assert body["detail"]
    assert body["hint"]
    return body


def photograph(digit: bytes, size: tuple[int, int]) -> bytes:
    """An example as dark ink on a sheet of another shape."""
    large = Image.open(io.BytesIO(digit)).resize((200, 200), Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", size, (235, 230, 220))
    sheet.paste((20, 30, 120), (100, 40, 300, 240), large)
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


PICTURES = SAMPLE / "pictures"  # made by `python -m training.synthetic.development_set`


def config(recipe: str = "mlp", **overrides: object) -> Config:
    return RECIPES[recipe].config(**{"epochs": 3, "validation_images": 100, **overrides})


def events(text: str) -> list[tuple[str, int, dict[str, object]]]:
    """(kind, id, data) of each server-sent event."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
    return found
