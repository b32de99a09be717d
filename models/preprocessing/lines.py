"""What is printed across a whole picture: a frame along its border, ruled lines."""

from functools import lru_cache

import numpy as np

from models.preprocessing.morphology import Mask, Plane, Values, dilation, opening

FRAME_INK = 0.15  # ink of a frame
FRAME_SHARE = 0.9  # share of each side that has it
FRAME_WIDEST = 24  # a frame is at most this part of the picture's longer side

STRIP = 8  # pixels along a row that are taken together: writing is shorter than a line
FEWEST_STRIPS = 6  # in a narrower picture lines cannot be distinguished from strokes
LEAST_ACROSS = 40  # pixels: nor can they in a strip that is as wide as a digit
STEEPEST, SLOPES = 0.06, 9  # slopes of lines: the steepest, and how many are tried
_SLOPES = np.linspace(-STEEPEST, STEEPEST, SLOPES)
CAPPED = 0.2  # ink above this counts as this: a line is pale, and writing should not outvote it
LINE_INK, LINE_CLEAR = 0.015, 0.02  # ink of a line; of the clearest one, without which there are none
LINE_WEAKEST = 0.25  # ink of a line, as a share of that of the clearest
MARGIN = 16  # no lines in this part of the height at top and bottom: the bar of a 7 may lie there
CROSSING = 2.5  # ink that is this much stronger than the line (and 0.05 more) crosses it
AS_STRONG = 0.6  # of the strongest ink: a line that strong is a stroke where a digit fills the picture
STROKE = 0.6  # share of the picture's width in which such a stroke is that strong
FULL_LINE = 0.95  # share of the height that a printed line across the picture has at least


def remove_frame(ink: Plane) -> int:
    """Take a printed frame along the picture's very border out of `ink` (in place). Returns its width."""
    width = _rings(ink > FRAME_INK, _widest(ink))
    inner = ink[width : ink.shape[0] - width, width : ink.shape[1] - width].copy()
    ink[:] = 0
    ink[width : ink.shape[0] - width, width : ink.shape[1] - width] = inner
    return width


def frame_width(mask: Mask) -> int:
    """The width of a frame along the border of a mask; 0 where what is set there is wider than a frame."""
    widest = _widest(mask)
    width = _rings(mask, widest + 1)
    return width if width <= widest else 0


def _widest(image: Mask | Plane) -> int:
    return max(1, max(image.shape) // FRAME_WIDEST)


def _rings(mask: Mask, most: int) -> int:
    """How many rings of pixels along the border are set, `most` if there are more.

    The first on all sides, others on any: a picture that was reduced may have half a line more on one side.
    """
    for inset in range(most):
        inner = mask[inset : mask.shape[0] - inset, inset : mask.shape[1] - inset]
        if min(inner.shape) < 3:
            return inset
        sides = (inner[0], inner[-1], inner[:, 0], inner[:, -1])
        set_there = [np.count_nonzero(side) >= FRAME_SHARE * side.size for side in sides]
        if not (any(set_there) if inset else all(set_there)):
            return inset
    return most


def remove_ruled_lines(ink: Plane) -> bool:
    """Take ruled lines, nearly along the rows, out of `ink` (in place); whether there were any.

    A line is a thin ridge that runs through the whole width at one slope; what is much darker than the
    line stays, for it is ink that crosses it.
    """
    height, width = ink.shape
    strips = width // STRIP
    if strips < FEWEST_STRIPS or height < LEAST_ACROSS:
        return False
    whole = np.ascontiguousarray(ink[:, : strips * STRIP]).reshape(height, strips, STRIP)
    coarse = whole @ np.full(STRIP, 1 / STRIP, np.float32)  # the mean, but faster
    slope, level = _straightened(coarse)
    ridge = _ridges(level)
    if ridge is None:
        return False
    shift = np.rint(slope * (np.arange(width) - (strips * STRIP - 1) / 2)).astype(int)
    rows = (np.arange(height)[:, None] - shift).clip(0, height - 1)
    if _fills_height(ink):
        _keep_strokes(ridge, rows, ink > AS_STRONG * float(ink.max()))
    line = ridge[rows]
    ink[(line > 0) & (ink < CROSSING * line + 0.05)] = 0
    return bool(ridge.any())


def _keep_strokes(ridge: Values, rows: Values, strong: Mask) -> None:
    """Take out ridges (in place) that are as strong as the ink nearly everywhere: they need not be straight."""
    edges = np.flatnonzero(np.diff(ridge > 0, prepend=False, append=False))
    for top, bottom in edges.reshape(-1, 2):
        band = (rows >= top) & (rows < bottom) & strong
        if np.count_nonzero(band.any(0)) > STROKE * band.shape[1]:
            ridge[top:bottom] = 0


def _fills_height(ink: Plane) -> bool:
    """Whether strokes, not lines down the picture, reach its top and its bottom: a digit cut out closely, whose
    bar may be as wide as the picture."""
    strong = ink > AS_STRONG * float(ink.max())
    ends = (strong[:2].any(0), strong[-2:].any(0))
    strokes = np.count_nonzero(strong, 0) < FULL_LINE * len(ink)
    return all(bool((end & strokes).any()) for end in ends)


def _straightened(coarse: Plane) -> tuple[float, Plane]:
    """The slope of the lines, and strips [height, strips] shifted so that lines of this slope lie along rows.

    It is the slope whose rows differ most.
    """
    height, strips = coarse.shape
    indices = _indices(height, strips)
    levels = np.minimum(coarse, CAPPED).take(indices) @ np.ones(strips, np.float32)
    best = int(np.square(np.diff(levels, axis=1)).sum(1).argmax())
    return float(_SLOPES[best]), coarse.take(indices[best])


@lru_cache(maxsize=16)  # most pictures have one of few shapes
def _indices(height: int, strips: int) -> Values:
    """Of the strips [height, strips], row by row, shifted to each slope [slopes, height, strips]."""
    shifts = np.rint(_SLOPES[:, None] * STRIP * (np.arange(strips) - (strips - 1) / 2)).astype(int)
    rows = (np.arange(height)[:, None] + shifts[:, None]).clip(0, height - 1)
    return rows * strips + np.arange(strips)


def _ridges(level: Plane) -> Values | None:
    """The ink of a line in each row [height], 0 where there is none; None where no row has any."""
    height, strips = level.shape
    profile = np.partition(level, strips // 6, 1)[:, strips // 6]
    profile = np.minimum(profile, np.minimum(level[:, 0], level[:, -1]))  # the stem of a 4 ends before
    ridge = profile - opening(profile[:, None], 2, (0,))[:, 0]
    strongest = float(ridge.max())
    if strongest < LINE_CLEAR:
        return None
    ridge[: height // MARGIN] = ridge[-(height // MARGIN) :] = 0
    ridge = np.where(ridge > max(LINE_INK, LINE_WEAKEST * float(ridge.max())), ridge, 0)
    return dilation(ridge[:, None], 1, (0,))[:, 0]
