"""The background that a digit is written on, in any light, and what is darker than it."""

import numpy as np
from PIL import Image

from models.preprocessing.morphology import (
    Labels,
    Mask,
    Plane,
    border,
    closing,
    closing_beyond,
    dilation,
    label,
    reconstruction,
    rectangularity,
)

SMALL = 64  # pixels along the longer side: smaller pictures are no photographs, but cut out closely
NARROW, WIDE = 0.1, 0.3  # half of the widest stroke, as a share of the picture's longer side
DIM = 80  # grey level: a darker background counts as this one, for its noise would look like ink

# A sheet that lies on something darker:
SHEET_CONTRAST = 0.8  # the darkest tenth of the background is below this share of the brightest tenth
SHEET_BETWEEN = 0.3  # at most this share of the background has a level between the two: light varies smoothly
SHEET_BORDER = 0.6  # at least this share of the picture's border is not sheet
SHEET_FILLS = 0.6  # a sheet has at least this share of its bounding box, even when turned
SHEET_AREA = 0.1  # and that box this share of the picture
RECTANGLE = 0.83  # its rectangularity, even in perspective; a 0 has at most 0.82
SHEET_EDGE = 0.4  # grey levels across its edge, as a share of those between darkest and brightest tenth


def black_tophat(page: Plane, reach: float, beyond: bool = False) -> tuple[Plane, Plane]:
    """The share of the background's light that each pixel lacks, 0..1, and that background (grey levels).

    As a share it does not depend on the light. The background is a grey closing: whatever is darker, and
    narrower than twice `reach` (a share of the picture), is filled. At the edge that may be a strip of a table
    or a stroke that lies along it; where the picture is taken to go on `beyond` it, neither is filled.
    """
    height, width = page.shape
    step = 1 if max(page.shape) < SMALL else 2
    small = np.asarray(Image.fromarray(page).reduce(step)) if step > 1 else page
    radius = max(2, round(max(small.shape) * reach))
    background = closing_beyond(small, radius) if beyond else closing(small, radius)
    if reach == NARROW:  # takes in corners of shadows and strips of a table; what crosses a shadow is ink
        background = reconstruction(background, small, 2 * radius)
    if step > 1:
        background = np.asarray(Image.fromarray(background).resize((width, height), Image.Resampling.BILINEAR))
    return ((background - page) / np.maximum(background, DIM)).clip(0, 1).astype(np.float32), background


def find_sheet(background: Plane) -> Mask | None:
    """Where a sheet lies that is clearly brighter than what surrounds it; None where there is none."""
    height, width = background.shape
    half = background[::2, ::2]
    low, high = _extremes(half)
    if low >= SHEET_CONTRAST * high:
        return None
    dark = half <= _threshold(half, (low + high) / 2)
    at_border = border(dark)
    if np.count_nonzero(at_border) < SHEET_BORDER * at_border.size:
        return None
    sheet = _largest_within(dark)
    if not _fills_a_box(sheet):
        return None
    inner = ~dilation(~sheet, 1)
    if not _edge_is_sharp(half, inner, sheet, SHEET_EDGE * (high - low)):
        return None
    if _is_gradual(half, low, high) and rectangularity(sheet) < RECTANGLE:  # a shadow may lie across the sheet
        return None
    return np.repeat(np.repeat(inner, 2, 0), 2, 1)[:height, :width]


def _extremes(background: Plane) -> tuple[float, float]:
    """The levels below and above which a tenth of the pixels lies."""
    tenth = background.size // 10
    ranked = np.partition(background, (tenth, background.size - 1 - tenth), axis=None)
    return float(ranked[tenth]), float(ranked[-1 - tenth])


def _is_gradual(background: Plane, low: float, high: float) -> bool:
    """Whether light falls off smoothly, rather than at the edge of a sheet."""
    span = high - low
    between = (background > low + 0.35 * span) & (background < low + 0.65 * span)
    return bool(np.count_nonzero(between) > SHEET_BETWEEN * background.size)


def _threshold(background: Plane, start: float) -> float:
    """The middle between the means on its two sides (Ridler and Calvard, 1978); three rounds are enough."""
    threshold = start
    for _ in range(3):
        below, above = background[background <= threshold], background[background > threshold]
        threshold = float(below.mean() + above.mean()) / 2
    return threshold


def _largest_within(dark: Mask) -> Mask:
    """The largest component that is left without the dark around it."""
    labels, count = label(dark)
    outside = np.zeros(count + 1, np.bool_)
    outside[border(labels)] = True
    outside[0] = False
    labels, count = label(~dilation(outside[labels], 1))  # without the grain of the table
    return dilation(labels == _largest(labels, count), 1)


def _largest(labels: Labels, count: int) -> int:
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return int(sizes.argmax())


def _fills_a_box(sheet: Mask) -> bool:
    ys, xs = np.nonzero(sheet)
    box = (np.ptp(ys) + 1) * (np.ptp(xs) + 1)
    return bool(len(ys) >= SHEET_FILLS * box and box >= SHEET_AREA * sheet.size)


def _edge_is_sharp(background: Plane, inner: Mask, sheet: Mask, contrast: float) -> bool:
    """Whether the background falls by `contrast` from just inside the sheet to just outside."""
    outer = dilation(sheet, 1)
    inside, outside = inner & dilation(~inner, 1), dilation(outer, 1) & ~outer
    if not (inside.any() and outside.any()):
        return False
    return bool(background[inside].mean() - background[outside].mean() >= contrast)
