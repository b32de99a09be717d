"""The usual PNG, read without ceremony: 8-bit grey or RGB, not interlaced, as every tool writes a digit.

Four times as fast as opening it as an image file (`benchmarks/SERVING.md`). Anything else, and anything that is
damaged, is left to `models.preprocessing.decode.decode`, which says what is wrong.
"""

import struct
import zlib
from base64 import b64encode
from typing import Any

from PIL import _imaging as core

_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_KINDS = {
    1: b"\x08\x00\x00\x00\x00",
    3: b"\x08\x02\x00\x00\x00",
}  # bits, colour type, compression, filter, interlace
_MODES = {1: "L", 3: "RGB"}
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_HEADER_ENDS = 33
MAX_BYTES = 1 << 14  # more than a small digit needs; this is read in the event loop
# What changes no pixel, and the least length without which Pillow calls the file broken.
_PLAIN = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7, b"tEXt": 0, b"bKGD": 0, b"sBIT": 0}
_chunk = struct.Struct(">I4s").unpack_from
_checksum = struct.Struct(">I").unpack_from


def plain_pixels(data: bytes, shape: tuple[int, int, int]) -> bytes | None:
    """The pixels of an undamaged 8-bit PNG of (channels, height, width), one channel after the other; None for
    anything else.
    """
    channels, height, width = shape
    if data[:16] != _START or data[16:29] != struct.pack(">II", width, height) + _KINDS[channels]:
        return None
    compressed = _image_data(data)
    # A bomb ends at the size that is expected. Pillow would fill what is missing; here it is not usual.
    if compressed is None or not _is_whole(compressed, height * (width * channels + 1)):
        return None
    try:
        image = _unfiltered(compressed, width, height, channels)
        return b"".join(_packed(image.getband(band), width, height) for band in range(channels))
    except Exception:  # whatever Pillow's decoder raises; the other path reports it
        return None


# What Image.frombytes and tobytes do, without what they do besides: a quarter of the time for a digit.


def _unfiltered(compressed: bytes, width: int, height: int, channels: int) -> Any:
    """An image of Pillow's core: decompressed, the filters of its rows undone. Raises ValueError."""
    mode = _MODES[channels]
    image = core.new(mode, (width, height))
    decoder = core.zip_decoder(mode, mode, 0)
    decoder.setimage(image, (0, 0, width, height))
    consumed, problem = decoder.decode(compressed)
    if consumed >= 0 or problem:  # it waits for more
        raise ValueError(problem)
    return image


def _packed(band: Any, width: int, height: int) -> bytes:
    """The pixels of one channel. Raises ValueError."""
    encoder = core.raw_encoder("L", "L", 0, 1)
    encoder.setimage(band, (0, 0, width, height))
    _, ended, pixels = encoder.encode(width * height)
    if ended != 1:
        raise ValueError(ended)
    found: bytes = pixels
    return found


def _image_data(data: bytes) -> bytes | None:
    """The contents of the IDAT chunks, every checksum compared; None where there is anything unusual."""
    (checksum,) = _checksum(data, 29) if len(data) >= _HEADER_ENDS else (None,)
    if checksum != zlib.crc32(data[12:29]):
        return None
    parts: list[bytes] = []
    at, before = _HEADER_ENDS, b""
    if len(data) > MAX_BYTES or not data.endswith(_END):
        return None
    while at < len(data) - len(_END):
        length, kind = _chunk(data, at)
        end = at + 8 + length
        if end + 4 > len(data) or _checksum(data, end)[0] != zlib.crc32(data[at + 4 : end]):
            return None
        if kind == b"IDAT":
            if parts and before != kind:  # they must follow one another; Pillow stops at the gap
                return None
            parts.append(data[at + 8 : end])
        elif kind not in _PLAIN or length < _PLAIN[kind]:  # transparency, a rotation, an animation: not here
            return None
        before = kind
        at = end + 4
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _is_whole(compressed: bytes, size: int) -> bool:
    stream = zlib.decompressobj()
    try:
        return len(stream.decompress(compressed, size + 1)) == size and stream.eof
    except zlib.error:
        return False


def data_url(png: bytes) -> str:
    """A PNG file as the `src` of an image on a page."""
    return f"data:image/png;base64,{b64encode(png).decode()}"
