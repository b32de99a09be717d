"""Strokes that fade: what a digit loses where the pen hardly pressed."""

import numpy as np

from models.preprocessing.morphology import Mask, Plane, border, bounding_box, dilation, label, stroke_width

FAINTEST = 0.15  # ink of a faint stroke, as a share of the peak
ABOVE_NOISE = 0.45  # and of the level that tells ink from noise
RIM = 2  # pixels around strokes that are soft edges
LEAST, MOST = 0.04, 1.5  # of faint ink, as shares of the digit's pixels: less is an edge, more another thing
WIDER = 1.3  # times as wide as the others faint strokes may be: a shadow is wider
LONGER, WIDE = 1.5, 1.0  # times as long as before, and as wide as tall, a digit may become: a line runs further
LOCAL = 3  # pixels around one that tell how strong a stroke is there


def with_faint_strokes(ink: Plane, kept: Mask, low: float, peak: float) -> tuple[Mask, float]:
    """The digit's pixels with the faint strokes that go on from them, and the level of ink now.

    Where there are any, `ink` is changed in place: faint strokes become as strong as the others.
    """
    faintest = max(FAINTEST * peak, ABOVE_NOISE * low)
    mask = ink > faintest
    beyond = mask & ~dilation(kept, RIM)
    if np.count_nonzero(beyond) < LEAST * np.count_nonzero(kept):
        return kept, low
    labels, count = label(mask)
    touching = np.zeros(count + 1, np.bool_)
    touching[labels[kept]] = True
    touching[0] = False
    whole = touching[labels] | kept
    if not _is_of_strokes(kept, whole):
        return kept, low
    near = dilation(np.where(whole, ink, 0), LOCAL)
    ink[whole] *= peak / np.clip(near[whole], faintest, peak)
    return whole, low


def _is_of_strokes(kept: Mask, whole: Mask) -> bool:
    """Whether what joins the digit is neither much nor wide nor comes from the border."""
    more = whole & ~dilation(kept, RIM)
    share = np.count_nonzero(more) / np.count_nonzero(kept)
    if not LEAST < share < MOST or border(more).any() or not _has_room(kept, whole):
        return False
    return stroke_width(more.astype(np.float32)) < WIDER * stroke_width(kept.astype(np.float32))


def _has_room(kept: Mask, whole: Mask) -> bool:
    """Whether the digit keeps about its size, and is no wider than digits are."""
    left, top, right, bottom = bounding_box(kept)
    wide, tall = right - left, bottom - top
    left, top, right, bottom = bounding_box(whole)
    longer = max(right - left, bottom - top) / max(wide, tall)
    return longer < LONGER and (right - left <= wide or right - left < WIDE * (bottom - top))
