"""A look at an encoded image before any decoder sees it: linear in its bytes, whatever they are.

What no honest picture has is refused: hundreds of chunks or scans, run-length BMP. What decoders need not
see is left out, for they stumble over it or take long: text, profiles, thumbnails, private chunks.
"""

import re
import struct
import zlib

from models.errors import BrokenImage, CostlyImage, EmptyImage, NotAnImage

MAX_CHUNKS = 300  # of a PNG or GIF, apart from full chunks of pixels
FULL_CHUNK = 1024  # bytes: smaller chunks of pixels count; encoders write 8 KiB and more
MAX_SEGMENTS = 1000  # of a JPEG, thumbnails and profiles included
MAX_SCANS = 100  # of a JPEG; cameras and tools write ten
MAX_SCANNED = 2_000_000_000  # pixels of all scans of a JPEG: about two seconds
MAX_FILL = 4096  # fill bytes between two segments of a JPEG
MAX_METADATA = 1 << 20  # bytes of what is not pixels in a GIF
MAX_EXIF = 1 << 16  # bytes, of which only the orientation is read; a longer block is left out
MAX_TAGS = 300  # of a TIFF
SEND = "send the bytes of a PNG, JPEG, BMP, GIF, WebP, AVIF or TIFF file"

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_KEPT = {0xC4, 0xDB, 0xDD, 0xCC, 0xE0, 0xEE} | _JPEG_FRAMES  # tables, JFIF, Adobe: what colours mean
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_NOT_FILL = re.compile(rb"[^\xff]")
_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_OTHERS = {  # what people send instead of a picture, by its first bytes
    b"%PDF": "a PDF document",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML document, perhaps an SVG drawing",
    b"<!DOC": "an HTML page",
    b"<html": "an HTML page",
    b"\x00\x00\x01\x00": "an ICO icon",
    b"\x1aE\xdf\xa3": "a Matroska or WebM video",
    b"PK\x03\x04": "a ZIP archive",
    b"8BPS": "a Photoshop document",
    b"\x00\x00\x00\x0cjP": "a JPEG 2000 picture",
    b"\xff\x0a": "a JPEG XL picture",
}


def inspect(data: bytes) -> bytes:
    """The bytes that a decoder should see of an encoded image.

    Raises EmptyImage, NotAnImage (with the name of what it is instead), BrokenImage or CostlyImage.
    """
    if not data:
        raise EmptyImage("the image has no bytes", SEND)
    if data.startswith(_PNG_START):
        return _png(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif(data)
    if data.startswith(b"BM"):
        return _bmp(data)
    if data.startswith((b"II*\x00", b"MM\x00*")):
        return _tiff(data)
    if (data.startswith(b"RIFF") and data[8:12] == b"WEBP") or is_heif(data) or is_avif(data):
        return data
    raise NotAnImage(_what_it_is(data), SEND)


def is_avif(data: bytes) -> bool:
    """Whether these bytes begin as an AVIF file."""
    return data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis")


def is_heif(data: bytes) -> bool:
    """Whether these bytes begin as a HEIC or HEIF file, as telephones write them."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF


def _what_it_is(data: bytes) -> str:
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, name in _OTHERS.items():
        if data.startswith(magic) or start[:5].lower().startswith(magic.lower()):
            return f"these {len(data):,} bytes are {name}, not an image that can be read"
    if data[4:8] == b"ftyp":
        return f"these {len(data):,} bytes are an MP4 or QuickTime video, not an image that can be read"
    return f"these {len(data):,} bytes are not an image that can be read"


def _costly(what: str) -> CostlyImage:
    return CostlyImage(f"the image {what}", "save it again with another program")


def _png(data: bytes) -> bytes:
    """A PNG's header, palette, transparency and pixels, and its orientation where that is whole."""
    kept, at, chunks = [_PNG_START], len(_PNG_START), 0
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind != b"IDAT" or length < FULL_CHUNK:
            chunks += 1
            if chunks > MAX_CHUNKS:
                raise _costly(f"has more than {MAX_CHUNKS} chunks")
        if kind in _PNG_KEPT or (kind == b"eXIf" and length <= MAX_EXIF and _is_sound(data, at, end)):
            kept.append(data[at:end])
        at = end
        if kind == b"IEND":
            break
    return b"".join(kept)


def _is_sound(data: bytes, at: int, end: int) -> bool:
    return data[end - 4 : end] == struct.pack(">I", zlib.crc32(data[at + 4 : end - 4]))


def _jpeg(data: bytes) -> bytes:
    """A JPEG's tables, frame and scans, its first EXIF block, and an end marker."""
    kept, at, segments, scans, pixels, exif = [b"\xff\xd8"], 2, 0, 0, 0, False
    while True:
        at, marker = _next_marker(data, at)
        if marker in (None, 0xD9):
            break
        segments += 1
        if segments > MAX_SEGMENTS:
            raise _costly(f"has more than {MAX_SEGMENTS} segments")
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # these have no content
            continue
        if at + 2 > len(data):
            break
        end = at + int.from_bytes(data[at : at + 2], "big")
        if marker in _JPEG_FRAMES and end - at >= 7:
            pixels = int.from_bytes(data[at + 3 : at + 5], "big") * int.from_bytes(data[at + 5 : at + 7], "big")
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS or scans * pixels > MAX_SCANNED:
                raise _costly("has too many scans")
            found = _JPEG_MARKER.search(data, end)
            end = found.start() if found else len(data)
        is_exif = marker == 0xE1 and not exif and data[at + 2 : at + 6] == b"Exif"
        exif |= is_exif
        if marker in _JPEG_KEPT or marker == 0xDA or is_exif:
            kept += [bytes((0xFF, marker)), data[at:end]]
        at = end
    kept.append(b"\xff\xd9")
    return b"".join(kept)


def _next_marker(data: bytes, at: int) -> tuple[int, int | None]:
    """Where the content of the next marker's segment begins, and the marker; None at the end."""
    if at >= len(data) or data[at] != 0xFF:
        found = _JPEG_MARKER.search(data, at)  # damage: Pillow looks for the next one too
        if found is None:
            return len(data), None
        at = found.start()
    found = _NOT_FILL.search(data, at)
    if found is None:
        return len(data), None
    if found.start() - at > MAX_FILL:
        raise _costly("is filled with empty bytes")
    return found.end(), data[found.start()]


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG ends before its end marker."""
    return b"\xff\xd9" not in data[-4096:]


def _gif(data: bytes) -> bytes:
    """A GIF, whose comments and other extensions are few and small."""
    if len(data) < 13:
        raise BrokenImage("the GIF ends in its header", "send the whole file")
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    blocks = metadata = 0
    while at < len(data) and data[at] == 0x21:
        at += 2
        while at < len(data) and data[at]:
            blocks += 1
            metadata += data[at]
            if blocks > MAX_METADATA // 128 or metadata > MAX_METADATA:
                raise _costly("has too many comments or extensions")
            at += data[at] + 1
        at += 1
    return data


def _bmp(data: bytes) -> bytes:
    """A BMP without run lengths, which can promise fifty million pixels in a thousand bytes."""
    if len(data) >= 34 and data[14] != 12 and struct.unpack_from("<I", data, 30)[0] in (1, 2):
        raise NotAnImage("the BMP file is run-length encoded, which is not read here", "save it as PNG")
    return data


def _tiff(data: bytes) -> bytes:
    """A TIFF whose first directory is small."""
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        raise BrokenImage("the TIFF ends in its header", "send the whole file")
    (at,) = struct.unpack_from(order + "I", data, 4)
    if at + 2 <= len(data) and struct.unpack_from(order + "H", data, at)[0] > MAX_TAGS:
        raise _costly(f"has more than {MAX_TAGS} tags")
    return data
