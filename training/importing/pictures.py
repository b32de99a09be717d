"""A foreign picture to pixels, by one rule for every kind.

EXIF rotation is undone; 16 bits are scaled to 8 by the range that is used; transparency shows white; palettes,
CMYK and 1 bit become RGB; of an animation the first frame counts. Nothing is cropped: a picture is resized, or
padded with the colour of its border where the shapes of the pictures differ much.
"""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Pixels = NDArray[np.uint8]  # [height, width, 3]
Resize = Literal["stretch", "pad"]
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


def load_rgb(data: bytes, size: tuple[int, int], resize: Resize) -> Pixels:
    """The picture as RGB of `size` (height, width). Raises ValueError with the reason."""
    with _open(data) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"it has {image.width}x{image.height} pixels, at most {MAX_PIXELS:,} are taken")
        if image.format == "JPEG":  # its decoder can halve: keep twice what is needed
            image.draft("RGB", (2 * size[1], 2 * size[0]))
        try:
            image.load()
            rgb = _as_rgb(_upright(image))
        except MemoryError:  # depends on what else is decoded now: left out, it would be so by chance
            raise
        except Exception as error:  # Pillow's decoders raise almost anything on damaged files
            raise ValueError(f"it is damaged ({error})") from None
    return np.asarray(fit_into(rgb, size, resize))


def fit_into(image: Image.Image, size: tuple[int, int], resize: Resize) -> Image.Image:
    """An RGB or grey image scaled to `size` (height, width); with `pad`, its aspect is kept."""
    height, width = size
    if image.size == (width, height):
        return image
    if resize == "stretch":
        return image.resize(
            (width, height), Image.Resampling.BOX if _shrinks(image, size) else Image.Resampling.BICUBIC
        )
    scale = min(width / image.width, height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(inner, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    canvas = Image.new(image.mode, (width, height), _border_colour(small))
    canvas.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def _shrinks(image: Image.Image, size: tuple[int, int]) -> bool:
    return image.width > size[1] and image.height > size[0]


def _border_colour(image: Image.Image) -> tuple[int, ...] | int:
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = np.median(border, axis=0)
    return int(colour) if colour.ndim == 0 else tuple(int(value) for value in colour)


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


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata
        return image


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _scaled(np.asarray(image, np.float32)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(backdrop, image).convert("RGB")
    return image.convert("RGB")


def _scaled(values: NDArray[np.float32]) -> Image.Image:
    """More than 8 bits, by the smallest power of two that holds the largest value: never clipped."""
    most = float(values.max(initial=0))
    full = 1.0 if most <= 1 else float(2 ** np.ceil(np.log2(most + 1)) - 1)
    return Image.fromarray((values.clip(0, full) * (255 / full)).round().astype(np.uint8))
