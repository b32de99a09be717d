"""Encoded images to grey pixels, and grey pixels to what a model takes."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.errors import BrokenImage, EmptyImage, ImageTooLarge, NotAnImage, WrongImageSize

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MAX_PIXELS = 50_000_000
_SEND = "send the bytes of a PNG, JPEG, BMP, GIF or WebP file"

Grey = NDArray[np.uint8]  # [height, width], 0 is black


def decode(data: bytes, size: tuple[int, int], ground: int) -> Grey:
    """The first frame of an encoded image as grey pixels [height, width].

    `size` is the (height, width) that the image must have once its EXIF rotation is undone;
    `ground` (0..255) is the grey that shows through where the image is transparent.

    Raises an ImageError: EmptyImage, NotAnImage, BrokenImage, ImageTooLarge or WrongImageSize.
    The last two are known from the header; nothing is decoded for them.
    """
    return load_exact(open_image(data), size, ground)


def open_image(data: bytes) -> Image.Image:
    """An encoded image of which only the header was read.

    Raises EmptyImage, NotAnImage or ImageTooLarge.
    """
    if not data:
        raise EmptyImage("the image has no bytes", _SEND)
    image = _open(data)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageTooLarge(
            f"the image has {width}x{height} pixels, more than {MAX_PIXELS:,}", "scale it down first"
        )
    return image


def load_exact(image: Image.Image, size: tuple[int, int], ground: int) -> Grey:
    """An opened image as grey pixels, as `decode` says. Raises WrongImageSize or BrokenImage."""
    if sorted(image.size) != sorted(size):  # an EXIF rotation may swap the sides
        raise _wrong_size(image.size, size)
    try:
        image.load()
        pixels = _grey(ImageOps.exif_transpose(image), ground)
    except Exception as error:  # as in _open
        raise _broken(error) from error
    if pixels.shape != size:
        raise _wrong_size(pixels.shape[::-1], size)
    return pixels


def load_grey(image: Image.Image, long: int) -> Image.Image:
    """An opened image of any size as grey ("L"), or grey with alpha ("LA") where it is transparent.

    A JPEG comes smaller where its decoder can do that (by 2, 4 or 8) and keep the longer side above
    `long`: most of the work of decoding is saved. Raises BrokenImage.
    """
    try:
        if image.format == "JPEG":
            share = min(1, long / max(image.size))
            image.draft("L", (round(image.width * share), round(image.height * share)))
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            return Image.fromarray(_grey(image, 0))
        if image.has_transparency_data:
            return image.convert("RGBA").convert("LA")
        return Image.fromarray(_grey(image, 0)) if image.mode == "CMYK" else image.convert("L")
    except Exception as error:  # as in _open
        raise _broken(error) from error


def _broken(error: Exception) -> BrokenImage:
    return BrokenImage(f"the image is truncated or damaged ({error})", "send the whole file")


def _wrong_size(got: tuple[int, ...], wanted: tuple[int, int]) -> WrongImageSize:
    return WrongImageSize(
        f"the image has {got[0]}x{got[1]} pixels, the model takes {wanted[1]}x{wanted[0]}",
        "scale it to that size, or leave that to preprocess=auto",
    )


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge("the image has far too many pixels", "scale it down first") from error
    except Exception as error:  # Pillow's decoders raise almost anything on hostile bytes
        raise NotAnImage(f"these {len(data):,} bytes are not an image that can be read", _SEND) from error


def _grey(image: Image.Image, ground: int) -> Grey:
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (ground, ground, ground, 255))
        image = Image.alpha_composite(backdrop, image)
    elif image.mode == "CMYK":
        image = image.convert("RGB")
    return np.asarray(image if image.mode == "L" else image.convert("L"))


def png(pixels: Grey) -> bytes:
    """Grey pixels as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
