"""A foreign file of a data set to pixels, or the reason why not; see `models.preprocessing.pictures`."""

import io
from dataclasses import dataclass

from PIL import Image

from models.preprocessing import pictures

MAX_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "PPM")


@dataclass(frozen=True)
class Header:
    """What a picture's first bytes say: width and height once its rotation is undone, mode and format."""

    width: int
    height: int
    mode: str
    format: str


def read_header(data: bytes) -> Header:
    """Nothing is decoded. Raises ValueError with the reason."""
    with _open(data) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"it has {width}x{height} pixels, at most {MAX_PIXELS:,} are taken")
        try:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        except Exception:  # damaged metadata says nothing of the picture
            turned = False
        size = (height, width) if turned else (width, height)
        return Header(*size, image.mode, image.format or "")


def load_rgb(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The picture, upright, as RGB; a JPEG reduced to no less than twice `size`. Raises ValueError."""
    with _open(data) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"it has {image.width}x{image.height} pixels, at most {MAX_PIXELS:,} are taken")
        try:
            return pictures.load_rgb(image, size)
        except MemoryError:  # depends on what else is decoded now: left out, it would be so by chance
            raise
        except Exception as error:  # Pillow's decoders raise almost anything on damaged files
            raise ValueError(f"it is damaged ({error})") from None


def _open(data: bytes) -> Image.Image:
    if not data:
        raise ValueError("it has no bytes")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception:  # as above
        raise ValueError(_guess(data)) from None


def _guess(data: bytes) -> str:
    kinds = {
        b"%PDF": "a PDF",
        b"\x00\x00\x01\x00": "an icon",
        b"PK\x03\x04": "a zip file",
        b"<svg": "an SVG drawing",
    }
    for start, kind in kinds.items():
        if data.lstrip()[: len(start)] == start:
            return f"it is {kind}, not a picture that can be read"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "it is a HEIC photograph: export it as JPEG"
    return "it is not a picture that can be read"
