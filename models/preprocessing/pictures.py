"""A whole picture to the pixels of a model, by one rule for every kind; training and serving share it.

EXIF rotation is undone; 16 bits are scaled to 8 by the range that is used; transparency shows white; palettes,
CMYK and 1 bit become RGB; of an animation the first frame counts. Nothing is cropped: a picture is resized, or
padded with the colour of its border.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Pixels = NDArray[np.uint8]  # [height, width], or [height, width, 3]
Resize = Literal["stretch", "pad"]


def load_rgb(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An opened image, upright, as RGB. A JPEG may come reduced, to no less than twice `size` (height, width).

    Raises whatever Pillow's decoders raise on damaged files, which is almost anything.
    """
    if image.format == "JPEG":  # its decoder can halve: keep twice what is needed
        image.draft("RGB", (2 * size[1], 2 * size[0]))
    image.load()
    return _as_rgb(_upright(image))


def to_pixels(rgb: Image.Image, size: tuple[int, int], resize: Resize, channels: int) -> Pixels:
    """An RGB image as [height, width], or with three channels [height, width, 3]."""
    fitted = fit_into(rgb, size, resize)
    return np.asarray(fitted if channels == 3 else fitted.convert("L"))  # luma of ITU-R 601-2


def to_planes(pixels: Pixels) -> bytes:
    """Pixels as a model takes them: one channel after the other."""
    return pixels.tobytes() if pixels.ndim == 2 else pixels.transpose(2, 0, 1).tobytes()


def from_planes(planes: bytes, shape: tuple[int, int, int]) -> Pixels:
    """The other way; `shape` is (channels, height, width)."""
    pixels = np.frombuffer(planes, np.uint8).reshape(shape)
    return pixels[0] if shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))


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
    values = np.nan_to_num(values)
    most = float(values.max(initial=0))
    full = 1.0 if most <= 1 else float(2 ** np.ceil(np.log2(most + 1)) - 1)
    return Image.fromarray((values.clip(0, full) * (255 / full)).round().astype(np.uint8))
