"""How many pixels a file says it has, from its first bytes: a bounded number of steps, and nothing is decoded.

Only for planning. A decoder opens the file and refuses one that has more than it announced.
"""

import struct

from app.serving.decoding.forms import MAX_HEADER_BYTES
from models.preprocessing.decode import MAX_PIXELS

MAX_SEGMENTS = 64  # of a JPEG before the one with its size
_MAGIC = (b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF")
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # SOF markers


def announced_in_body(content_type: bytes, body: bytes) -> int:
    """As `announced_pixels`, of the first file in a request body; MAX_PIXELS where that is not an image."""
    if not content_type.lower().startswith(b"multipart/"):
        return announced_pixels(body)
    start = body.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES) + 4
    return announced_pixels(body, start) if body.startswith(_MAGIC, start) else MAX_PIXELS


def announced_pixels(data: bytes | memoryview, start: int = 0) -> int:
    """Of the image file that begins at `start`: at least 1; MAX_PIXELS where it is not said near the start."""
    head = bytes(data[start : start + 32])
    try:
        width, height = _size(data, start, head)
    except (struct.error, IndexError):
        return MAX_PIXELS
    return max(1, abs(width * height))


def _size(data: bytes | memoryview, start: int, head: bytes) -> tuple[int, int]:
    """Width and height. Raises struct.error or IndexError where they cannot be read."""
    if head.startswith(b"\xff\xd8"):
        return _jpeg_size(data, start + 2)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", head, 16)
    elif head.startswith(b"GIF8"):
        width, height = struct.unpack_from("<HH", head, 6)
    elif head.startswith(b"BM"):
        width, height = struct.unpack_from("<HH" if head[14] == 12 else "<ii", head, 18)
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp_size(head)
    elif head[4:8] == b"ftyp" or head[:4] in (b"II*\0", b"MM\0*"):
        raise IndexError  # AVIF, HEIC, TIFF: the size stands anywhere
    else:
        return 1, 1  # no image: refused at once
    return width, height


def _webp_size(head: bytes) -> tuple[int, int]:
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = struct.unpack_from("<I", head, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg_size(data: bytes | memoryview, at: int) -> tuple[int, int]:
    for _ in range(MAX_SEGMENTS):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker >> 8 != 0xFF or marker == 0xFFFF:  # damaged, or fill bytes, which no encoder writes here
            break
        if marker & 0xFF in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + length
    raise IndexError
