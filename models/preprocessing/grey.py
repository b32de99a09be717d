"""Pictures with colours and transparency as one grey plane in which ink differs from its background."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.preprocessing.morphology import bounding_box, stroke_width

OPAQUE = 127  # alpha above this shows
SHADES = 60  # levels between the colours of a picture; ink of one colour has less
STROKES = 0.3  # width of what shows, as a share of its longer side: narrower it is ink, not a sheet
ENOUGH = 128  # pixels along the longer side, to look at colours
DULL = 0.35  # spread of grey, as a share of that of the best mixture of colours
LEAST_SPREAD = 2  # levels: noise has less
_LUMA = np.array([0.299, 0.587, 0.114])


def flatten(image: Image.Image) -> tuple[Image.Image, bool | None]:
    """A picture ("L", "LA", "RGB" or "RGBA") as opaque grey, and None.

    Where only alpha shows the ink, the grey is the alpha, as dark ink on white; and second whether the ink is
    dark.
    """
    if image.mode in ("L", "RGB"):
        return to_grey(image), None
    step = max(1, max(image.size) // ENOUGH)
    small = np.asarray(image.reduce(step).convert("RGBA"), np.float32)  # colours are weighed by alpha
    alpha = small[..., 3]
    if alpha.min() > OPAQUE:
        return to_grey(image.convert("RGB" if image.mode == "RGBA" else "L")), None
    colours = small[alpha > max(alpha.max() / 2, 0)][:, :3]
    if len(colours) == 0:
        return Image.new("L", image.size, 255), True
    median = np.median(colours, axis=0)
    if _is_one_colour(colours) or _is_strokes(alpha):
        return _full_range(ImageOps.invert(image.getchannel("A"))), bool(median @ _LUMA < 128)
    sheet = Image.new("RGB", image.size, tuple(int(value) for value in median))
    sheet.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return to_grey(sheet), None


def _is_one_colour(colours: NDArray[np.float32]) -> bool:
    low, high = np.percentile(colours, (5, 95), axis=0)
    return bool((high - low).max() < SHADES)


def _is_strokes(alpha: NDArray[np.float32]) -> bool:
    left, top, right, bottom = bounding_box(alpha > OPAQUE / 2) if alpha.max() > OPAQUE / 2 else (0, 0, 1, 1)
    return stroke_width(alpha / np.float32(255)) < STROKES * max(right - left, bottom - top)


def _full_range(grey: Image.Image) -> Image.Image:
    """Pale ink on white, such as a pen that is half transparent, as dark as it gets."""
    darkest = grey.getextrema()[0]
    if not isinstance(darkest, int) or not 0 < darkest < 248:
        return grey
    return grey.point([max(0, 255 - (255 - value) * 255 // (255 - darkest)) for value in range(256)])


def to_grey(image: Image.Image) -> Image.Image:
    """Grey; where its colours have the same grey, the mixture of channels that parts them most ("L")."""
    if image.mode == "L":
        return image
    mixture = _mixture(image)
    if mixture is None:
        return image.convert("L")
    offset = -255 * float(mixture.clip(max=0).sum())
    return image.convert("L", (*(float(part) for part in mixture), offset))


def _mixture(image: Image.Image) -> NDArray[np.float64] | None:
    """Weights of red, green and blue along which colours spread most; None where grey does nearly as well.

    That is the first principal component. The weights' sizes add up to 1, and what is lighter stays so.
    """
    step = max(1, max(image.size) // ENOUGH)
    colours = np.asarray(image.reduce(step)).reshape(-1, 3).astype(np.float32)
    mean = np.full(len(colours), 1 / len(colours), np.float32) @ colours  # as a product it is faster
    colours -= mean
    covariance = (colours.T @ colours).astype(np.float64) / len(colours)
    axis = np.linalg.eigh(covariance)[1][:, -1]
    axis = axis / np.abs(axis).sum() * (1 if axis @ _LUMA >= 0 else -1)
    spread, grey = np.sqrt(axis @ covariance @ axis), np.sqrt(max(_LUMA @ covariance @ _LUMA, 0))
    return axis if spread > LEAST_SPREAD and grey < DULL * spread else None
