"""Pictures as callers have them -> the bytes of an image file.

Arrays and PIL images are known by what they can do: neither numpy nor PIL is imported.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

from minist_client.errors import UnusableInput

_MAGIC = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)
ANY = "application/octet-stream"  # the service looks at the first bytes
_AS_PNG = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


def encoded(picture: Any) -> bytes:
    """The file of one picture: a path, bytes, an open file, a PIL image, or an array.

    Raises UnusableInput; OSError where a path or a file cannot be read.
    """
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | os.PathLike):
        return Path(picture).read_bytes()
    if is_array(picture):
        return png(pixels(picture))
    if callable(getattr(picture, "save", None)) and hasattr(picture, "mode"):
        return _of_pil(picture)
    if callable(getattr(picture, "read", None)):
        return _of_file(picture)
    raise UnusableInput(
        f"{type(picture).__name__} is no picture: pass a path, bytes, an open file, a PIL image or an array"
    )


def media_type(data: bytes) -> str:
    """By the first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), ANY)


def is_array(found: Any) -> bool:
    """Whether it is a numpy array, or behaves like one."""
    return hasattr(found, "dtype") and hasattr(found, "shape") and callable(getattr(found, "tobytes", None))


def pixels(array: Any) -> Any:
    """The array as uint8. Floats are 0 (black) to 1 (white), truth values black and white.

    Raises UnusableInput.
    """
    kind = array.dtype.kind
    if str(array.dtype) == "uint8":
        return array
    if kind == "b":
        return array.astype("uint8") * 255
    if kind != "f":
        raise UnusableInput(
            f"the array is {array.dtype}: pass uint8 (0 black, 255 white), or floats from 0 to 1"
        )
    if array.size and not (array.min() >= 0 and array.max() <= 1):  # false for NaN, too
        raise UnusableInput(
            f"floats are taken as 0 (black) to 1 (white), these reach from {array.min():g} to {array.max():g}: "
            "divide them by 255, or pass uint8"
        )
    return (array * 255).round().astype("uint8")


def png(array: Any) -> bytes:
    """A PNG of uint8 [H, W], [H, W, 1] or [H, W, 3]. Raises UnusableInput."""
    shape = tuple(array.shape)
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise UnusableInput(
            f"the array has the shape {list(shape)}: a picture is [H, W] or [H, W, 3]; many go to predict_batch"
        )
    height, width, channels = shape[0], shape[1], shape[2] if len(shape) == 3 else 1
    data, line = array.tobytes(), width * channels
    lines = b"".join(b"\0" + data[at : at + line] for at in range(0, height * line, line))
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def npy(array: Any) -> bytes:
    """An npy file of uint8 [N, ..]."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {tuple(map(int, array.shape))!r}, }}"
    padded = header.ljust(-(len(header) + 11) % 64 + len(header)) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode() + array.tobytes()


def _of_pil(image: Any) -> bytes:
    """As PNG; how it was turned by the camera is kept, so that it is answered as its file is."""
    stream, exif = io.BytesIO(), image.getexif()
    found = image if image.mode in _AS_PNG else image.convert("RGB")
    found.save(stream, "PNG", compress_level=1, **({"exif": exif} if exif else {}))
    return stream.getvalue()


def _of_file(stream: Any) -> bytes:
    data = stream.read()
    if not isinstance(data, bytes):
        raise UnusableInput("the file is open as text: open it with mode 'rb'")
    return data
