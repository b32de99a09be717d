"""Encoded images to pixels, whatever their format, depth, colours and rotation."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import BrokenImage, ImageTooLarge, NotAnImage, WrongImageSize
from models.preprocessing.inspection import SEND, inspect, is_cut_off, is_heif
from models.preprocessing.pictures import Pixels, load_rgb

FORMATS = ["PNG", "JPEG", "BMP", "GIF", "WEBP", "AVIF", "TIFF"]
MAX_PIXELS = 50_000_000
LARGE = 1000  # pixels along the longer side: larger pictures are reduced, by a whole number, to at least this
BAND = 4_000_000  # pixels that are converted at a time
FEW_LEVELS = 17  # a picture without brighter pixels counts from 0 to less than this
MISSING = 0.2  # share of rows that a JPEG which was cut off may lack
MAX_FRAMES = 10  # of an animation that begins with blank ones
MAX_ANIMATION = 2 << 20  # bytes of an animation, to look for them
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_UNDECODED = 128  # grey level that a decoder of JPEG gives to what is missing

Grey = NDArray[np.uint8]  # [height, width], 0 is black


def decode(data: bytes, size: tuple[int, int], ground: int) -> Grey:
    """The first frame of an encoded image as grey pixels [height, width].

    `size` is the (height, width) that the image must have once its EXIF rotation is undone;
    `ground` (0..255) is the grey that shows through where the image is transparent.

    Raises an ImageError: EmptyImage, NotAnImage, BrokenImage, CostlyImage, ImageTooLarge or WrongImageSize.
    The last two are raised from the header; nothing is decoded for them.
    """
    return load_exact(open_image(data), size, ground)


def open_image(data: bytes) -> Image.Image:
    """An encoded image of which only the header was read.

    Raises EmptyImage, NotAnImage, BrokenImage, CostlyImage or ImageTooLarge.
    """
    image = _open(inspect(data), len(data), is_heif(data))
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise ImageTooLarge(
            f"the image has {width}x{height} pixels, more than {MAX_PIXELS:,}", "scale it down first"
        )
    image.info["bytes"] = len(data)
    image.info["cut off"] = image.format == "JPEG" and is_cut_off(data)
    return image


def load_exact(image: Image.Image, size: tuple[int, int], ground: int) -> Grey:
    """An opened image as grey pixels, as `decode` says. Raises WrongImageSize or BrokenImage."""
    if sorted(image.size) != sorted(size):  # an EXIF rotation may swap the sides
        raise wrong_size(image.size, size)
    problem = ""
    try:
        image = _whole(image)
        pixels = _grey(_upright(_eight_bits(image), orientation(image)), ground)
    except MemoryError:
        raise
    except Exception as error:  # as in _open
        problem = str(error) or type(error).__name__
    if problem:  # raised out here: an error that keeps another one keeps the picture too
        raise _broken(problem)
    if pixels.shape != size:
        raise wrong_size(pixels.shape[::-1], size)
    return pixels


def load_picture(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An opened image as `pictures.load_rgb` has it. Raises BrokenImage."""
    problem = ""
    try:
        image = load_rgb(_whole(image) if image.info.get("cut off") else image, size)
    except MemoryError:
        raise
    except Exception as error:  # as in _open
        problem = str(error) or type(error).__name__
    if problem:
        raise _broken(problem)
    return image


def load(image: Image.Image, long: int) -> tuple[Image.Image, tuple[int, int]]:
    """An opened image as "L", "LA", "RGB" or "RGBA", upright, and its own size before it was reduced.

    Large ones come reduced, a JPEG already by its decoder (by 2, 4 or 8, the longer side above `long`), which
    saves most of the work. Raises BrokenImage.
    """
    size, problem = image.size, ""
    try:
        if image.format == "JPEG" and image.mode in ("L", "RGB"):
            share = min(1, long / max(size))
            image.draft(image.mode, (round(image.width * share), round(image.height * share)))
        image = _whole(image)
        turn = orientation(image)
        image = _upright(_brightened(_reduced(_eight_bits(image))), turn)
    except MemoryError:
        raise
    except Exception as error:  # as in _open
        problem = str(error) or type(error).__name__
    if problem:
        raise _broken(problem)
    return image, size if turn < 5 else size[::-1]


def _whole(image: Image.Image) -> Image.Image:
    """The image with its pixels; of an animation the first frame that is not blank."""
    image.load()
    if image.info.get("cut off"):
        return _without_missing_rows(image)
    if image.format == "GIF" and image.info["bytes"] <= MAX_ANIMATION and getattr(image, "is_animated", False):
        _skip_blank_frames(image)
    return image


def _without_missing_rows(image: Image.Image) -> Image.Image:
    """A JPEG that was cut off, without the rows that it lacks. Raises ValueError where these are many."""
    last = np.asarray(image.convert("L").crop((max(0, image.width - 8), 0, *image.size)))
    there = np.flatnonzero((last != _UNDECODED).any(1))
    height = int(there[-1]) + 1 if there.size else 0
    if height < (1 - MISSING) * image.height:
        raise ValueError("it ends early")
    return image if height == image.height else image.crop((0, 0, image.width, height))


def _skip_blank_frames(image: Image.Image) -> None:
    for frame in range(1, MAX_FRAMES):
        if any(low != high for low, high in _extrema(image.convert("RGBA"))):
            return
        try:
            image.seek(frame)
            image.load()
        except EOFError:
            return


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    return list(image.getextrema())  # type: ignore[arg-type]


def _eight_bits(image: Image.Image) -> Image.Image:
    """Deeper pixels as 8 bits; they are of 8, 10, 12 or 16 bits, as the brightest shows."""
    if image.mode in ("F", "I"):
        levels = np.asarray(image, np.float32)
        low, high = float(np.nanmin(levels)), float(np.nanmax(levels))
        low, high = (low, high) if image.mode == "F" or low < 0 or high > 65535 else (0, _range_of(high))
        span = max(high - low, 1e-9)
        return Image.fromarray(np.nan_to_num((levels - low) * (255 / span)).clip(0, 255).astype(np.uint8))
    if not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.uint16)
    bits = _range_of(int(values.max())).bit_length()
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8))


def _brightened(image: Image.Image) -> Image.Image:
    """Levels 0 and 1, 0 to 15, or 0 to 16 (8x8 digits, as scikit-learn has them), as 0 to 255."""
    if image.mode != "L" or image.format == "JPEG":
        return image
    highest = image.getextrema()[1]
    if not isinstance(highest, int) or not 0 < highest < FEW_LEVELS:
        return image
    return image.point([min(255, level * 255 // highest) for level in range(256)])


def _range_of(brightest: float) -> int:
    """The largest value of the depth that such a brightest pixel belongs to."""
    return next(top for top in (255, 1023, 4095, 65535) if brightest <= top)


def _reduced(image: Image.Image) -> Image.Image:
    """As "L", "LA", "RGB" or "RGBA", reduced to about LARGE, a band at a time so that copies stay small."""
    step = max(1, max(image.size) // LARGE)
    if step == 1:
        return _plain(image)
    rows = max(1, BAND // (image.width * step)) * step
    bands = [
        _plain(image.crop((0, top, image.width, min(top + rows, image.height)))).reduce(step)
        for top in range(0, image.height, rows)
    ]
    result = Image.new(bands[0].mode, (bands[0].width, sum(band.height for band in bands)))
    top = 0
    for band in bands:
        result.paste(band, (0, top))
        top += band.height
    return result


def _plain(image: Image.Image) -> Image.Image:
    """As "L", "LA", "RGB" or "RGBA"."""
    if image.mode in ("L", "RGB", "LA") and "transparency" not in image.info:
        return image
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        alpha = _extrema(image)[3]
        return image.convert("RGB") if alpha[1] == 0 else image  # transparent everywhere: it means nothing
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def orientation(image: Image.Image) -> int:
    """1..8, as EXIF has it; 1 where there is none, or what there is cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata spoils no picture
        return 1
    return found if found in _TURNS else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _broken(problem: str) -> BrokenImage:
    return BrokenImage(f"the image is truncated or damaged ({problem})", "send the whole file")


def wrong_size(got: tuple[int, ...], wanted: tuple[int, int]) -> WrongImageSize:
    """For an image of `got` (width, height) where `wanted` (height, width) is taken."""
    return WrongImageSize(
        f"the image has {got[0]}x{got[1]} pixels, the model takes {wanted[1]}x{wanted[0]}",
        "scale it to that size, or leave that to preprocess=auto",
    )


def _open(data: bytes, length: int, heif: bool) -> Image.Image:
    """What Pillow opens, header only."""
    try:
        with warnings.catch_warnings():  # of metadata that is a little wrong
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=[*FORMATS, *_heif()] if heif else FORMATS)
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        bomb = True
    except Exception:  # Pillow's decoders raise almost anything on hostile bytes
        bomb = False
    if bomb:
        raise ImageTooLarge("the image has far too many pixels", "scale it down first")
    if heif and not _heif():
        raise NotAnImage(
            "these bytes are a HEIC picture, and the extra `heif` is not installed",
            SEND,
        )
    raise NotAnImage(f"these {length:,} bytes are not an image that can be read", SEND)


def _heif() -> list[str]:
    """Pillow's name of the format, where the extra `heif` is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return []
    register_heif_opener()
    return ["HEIF"]


def _grey(image: Image.Image, ground: int) -> Grey:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (ground, ground, ground, 255))
        image = Image.alpha_composite(backdrop, image)
    elif image.mode == "CMYK":
        image = image.convert("RGB")
    return np.asarray(image if image.mode == "L" else image.convert("L"))


def png(pixels: Pixels) -> bytes:
    """Pixels, grey or RGB, as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
