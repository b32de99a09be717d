"""In which view the ink of a digit is found: on a sheet, near by, in a wider view; again where it is small."""

from dataclasses import replace

import numpy as np
from PIL import Image

from models.preprocessing.background import NARROW, RECTANGLE, SMALL, WIDE, black_tophat, find_sheet
from models.preprocessing.drawing import Drawing
from models.preprocessing.ink import LOW, Box, Ink, measure, segment_ink
from models.preprocessing.morphology import Mask, Plane, dilation, rectangularity
from models.preprocessing.selection import select_heaviest

# A sheet in a clean drawing:
BLANK = 0.6  # share of it that nothing is written on

# The narrow view, or the wider one:
MORE = 1.3  # ink that only the wider view has, next to that of the narrow one
ALL_OF_IT = 0.8  # share of the picture's sides from which strokes may be too wide for the narrow view
NEARLY_ALL = 0.7  # the same from which strokes may lie along the edge
MOST_OF_IT = 0.5  # the same for strokes whose edges are there: their width, as a share of the longer side, and
WIDEST, FILLED = 0.25, 1.3  # their contrast, next to that of the edges
AS_GOOD, STILL_GOOD = 0.9, 0.7  # quality in the wider view; in the closer one

# The second look:
CLOSE = 84  # pixels along the longer side, to look at a small digit again
SMALL_DIGIT = 0.5  # share of the picture's longer side
MARGIN = (3, 10)  # around the digit, as a share (numerator, denominator) of its longer side


def segment(page: Plane, dark: bool, step: int, size: tuple[int, int]) -> Ink | None:
    """The digit's ink in grey levels [height, width]; each is `step` x `step` pixels of a picture of `size`.

    Where the picture has a sheet that lies on something darker, what is written on it goes first. Else strips
    along the edge are no ink, unless a digit fills the picture, for its strokes may lie there.
    """
    page = page if dark else 255 - page
    if max(page.shape) < SMALL:
        return segment_ink(black_tophat(page, WIDE)[0], page, dark, step, size)
    near, background = black_tophat(page, NARROW, beyond=True)
    found = _segment_sheet(near, background, page, dark, step, size)
    if found is not None:
        return found
    found = _segment_near(near, page, dark, step, size)
    if found is not None and _share_of_sides(found.box, size) < NEARLY_ALL:
        return found
    whole, _ = black_tophat(page, NARROW)
    if found is not None and not _is_more(whole, near, found, 1):
        return found
    return _segment_near(whole, page, dark, step, size)


def segment_drawing(page: Plane, drawing: Drawing, dark: bool, step: int, size: tuple[int, int]) -> Ink | None:
    """The digit's ink in a clean drawing, as in `segment`; whatever is drawn, where no rule leaves anything.

    What is written on a sheet that lies in the middle of the picture has the polarity of the border.
    """
    turned = 255 - page if dark else page
    near, background = black_tophat(turned, NARROW, beyond=True)
    found = _segment_sheet(near, background, turned, not dark, step, size)
    if found is not None and found.sheet is not None:
        blank = (drawing.ink(page, dark) > 0.5)[found.sheet]  # a printed frame has other levels inside
        if blank.mean() > BLANK and rectangularity(found.sheet) > RECTANGLE:
            return found
    ink = drawing.ink(page, dark)
    page = page if dark else 255 - page
    found = segment_ink(ink.copy(), page, dark, step, size, clean=True)
    if found is None:
        found = measure(select_heaviest(ink, LOW), ink, LOW, page, dark, step, size)
        found = None if found is None else replace(found, several=True)
    return None if found is None else replace(found, drawing=drawing)


def _segment_sheet(
    near: Plane, background: Plane, page: Plane, dark: bool, step: int, size: tuple[int, int]
) -> Ink | None:
    """What is written on a sheet that lies on something darker; None where there is no such sheet."""
    sheet = find_sheet(background)
    if sheet is None:
        return None
    found = segment_ink(np.where(sheet, near, 0), page, dark, step, size)
    if found is None or _is_cut(near, sheet, found, step):
        return None
    surely = dark and found.is_written  # or a hole of a digit, whose strokes were taken for a sheet
    if not surely and rectangularity(sheet) < RECTANGLE:
        return None
    return replace(found, sheet=sheet)


def _segment_near(near: Plane, page: Plane, dark: bool, step: int, size: tuple[int, int]) -> Ink | None:
    """The background is taken from close by, for then shadows are no ink.

    Where a digit fills the page its strokes may be wider than that: then a wider view has more ink, and as
    strong.
    """
    found = segment_ink(near.copy(), page, dark, step, size)
    share = 1.0 if found is None else _share_of_sides(found.box, size)
    if found is not None and share < ALL_OF_IT and (share < MOST_OF_IT or not _is_hollow(near, page, found)):
        return found
    wide, _ = black_tophat(page, WIDE)
    if found is None:
        return segment_ink(wide, page, dark, step, size)
    if not _is_more(wide, near, found):
        return found
    other = segment_ink(wide, page, dark, step, size)
    if other is None:
        return found
    other = replace(other, edged=dark and _is_within(found, other))  # a sheet on a table has edges, too
    better = share >= ALL_OF_IT and other.quality > AS_GOOD * found.quality
    return other if other.edged or better else found


def _share_of_sides(box: Box, size: tuple[int, int]) -> float:
    """Of the picture's width or height, whichever is more."""
    left, top, right, bottom = box
    return max((right - left) / size[0], (bottom - top) / size[1])


def _is_hollow(ink: Plane, page: Plane, found: Ink) -> bool:
    """Whether much more is as dark as the ink that was found."""
    strong = ink > 0.7 * found.absorption
    count = np.count_nonzero(strong)
    return bool(count) and bool(np.count_nonzero(page <= page[strong].mean()) > MORE * count)


def _is_within(edges: Ink, strokes: Ink) -> bool:
    """Whether the one has little more than the edges of the other's strokes, which are wide."""
    same = _covers(edges.box, strokes.box) and _covers(strokes.box, edges.box)
    return same and strokes.width < WIDEST and strokes.contrast > FILLED * edges.contrast


def refine(picture: Image.Image, found: Ink) -> Ink:
    """The digit's ink once more from close by, where it is small in the picture."""
    left, top, right, bottom = found.box
    long = max(right - left, bottom - top)
    if long > SMALL_DIGIT * max(picture.size):
        return found
    margin = long * MARGIN[0] // MARGIN[1]
    left, top = max(left - margin, 0), max(top - margin, 0)
    near = picture.crop((left, top, min(right + margin, picture.width), min(bottom + margin, picture.height)))
    step = -(-max(near.size) // CLOSE)
    page = np.asarray(near.reduce(step) if step > 1 else near, np.float32)
    again = _segment_close(page, found, (left, top, *near.size), step, picture.size)
    if again is None:
        return found
    x0, y0, x1, y1 = again.box
    again = replace(again, box=(x0 + left, y0 + top, x1 + left, y1 + top))
    return again if again.quality > STILL_GOOD * found.quality and _covers(again.box, found.box) else found


def _segment_close(page: Plane, found: Ink, near: Box, step: int, size: tuple[int, int]) -> Ink | None:
    """The ink of `found` again in a part of a picture of `size`, `near`: its left, top, width and height."""
    if found.drawing is not None:
        ink = found.drawing.ink(page, found.dark)
        page = page if found.dark else 255 - page
        return segment_ink(ink, page, found.dark, step, near[2:], clean=True)
    page = page if found.dark else 255 - page
    small = max(page.shape) < SMALL
    ink, _ = black_tophat(page, WIDE if small else NARROW)
    if found.sheet is not None:
        left, top, width, height = near
        tall, wide = found.sheet.shape
        across, down = wide / size[0], tall / size[1]  # each side was rounded by itself
        right, bottom = min((left + width) * across, wide), min((top + height) * down, tall)
        box = (left * across, top * down, right, bottom)
        part = Image.fromarray(found.sheet).resize(page.shape[::-1], Image.Resampling.NEAREST, box)
        ink[~np.asarray(part, np.bool_)] = 0
    return (segment_ink if small else _segment_near)(ink, page, found.dark, step, near[2:])


def _covers(box: Box, other: Box) -> bool:
    """Whether a box has most of another's area."""
    wide, tall = min(box[2], other[2]) - max(box[0], other[0]), min(box[3], other[3]) - max(box[1], other[1])
    return max(wide, 0) * max(tall, 0) > 0.6 * (other[2] - other[0]) * (other[3] - other[1])


def _is_more(ink: Plane, before: Plane, found: Ink, times: float = MORE) -> bool:
    """Whether there is more of what is as strong as the ink that was found before, so many times as much."""
    strong = 0.7 * found.absorption
    return bool(np.count_nonzero(ink > strong) > times * np.count_nonzero(before > strong))


def _is_cut(ink: Plane, sheet: Mask, found: Ink, step: int) -> bool:
    """Whether strokes go on beyond the sheet: then it is none, but the lit side of a shadow."""
    left, top, right, bottom = (side // step for side in found.box)
    around = np.s_[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]
    strong = ink[around] > 0.5 * found.absorption
    beyond = dilation(strong & ~sheet[around], 1)
    return bool((beyond & strong & sheet[around]).any())
