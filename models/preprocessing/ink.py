"""The ink of one digit in a picture: found, told from its ground, and from what else is dark."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from models.preprocessing.background import DIM, NARROW, SMALL, WIDE, black_tophat, find_sheet
from models.preprocessing.drawing import Drawing
from models.preprocessing.faint import with_faint_strokes
from models.preprocessing.lines import remove_frame, remove_ruled_lines
from models.preprocessing.morphology import Mask, Plane, bounding_box, dilation, rectangularity, stroke_width
from models.preprocessing.selection import select_digit, select_heaviest

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom just outside

# What is ink, as a share of the background's light:
FAINT = 0.05  # the strongest pixels take at least this much
PEAK_PIXELS = 6  # pixels whose mean is the peak, or a share of all: one alone may be dust
OF_A_DIGIT = 200  # of so many pixels one is among them
LOW, HIGH = 0.3, 0.5  # ink is above the one, and a component somewhere above the other, as shares of the peak
NOISE = 3  # ink is above this many times the level that a part of all pixels stay below:
GROUND, GROUND_SMALL = 3, 8  # a third; in a small picture, which a digit may fill, an eighth
INDISTINCT = 0.8  # noise at this share of the peak: nothing can be told from it
CORE = 0.6  # rank of the digit's ink that counts as full strength
BLANK = 0.6  # share of such a sheet that nothing is written on
RECTANGLE = 0.83  # rectangularity of a sheet in a clean drawing, even in perspective; a 0 has at most 0.82
FLOOR, FULL = 0.4, 0.95  # less than this share of `low` becomes 0, more than this share of the core becomes 1
RULED = 80  # pixels along the longer side: where there are fewer, ruled lines are no lines any more

# How far what was found looks like a digit:
GRAIN = 3  # grey levels between ink and the background beside it that may be noise
CLEAR = 60  # grey levels between ink and the background beside it that leave no doubt
BLOB = 0.2  # width of what is no stroke any more, as a share of its longer side
LIGHT_INK = 1.5  # people write dark on light: light ink must be this much better
MORE = 1.3  # ink that only the wider view has, next to that of the narrow one
ALL_OF_IT = 0.8  # share of the picture's sides from which strokes may be too wide for the narrow view
MOST_OF_IT = 0.5  # the same for strokes whose edges are there: their width, as a share of the longer side, and
WIDEST, FILLED = 0.25, 1.3  # their contrast, next to that of the edges
AS_GOOD, STILL_GOOD = 0.9, 0.7  # quality in the wider view; in the closer one

# The second look:
CLOSE = 84  # pixels along the longer side, to look at a small digit again
SMALL_DIGIT = 0.5  # share of the picture's longer side
MARGIN = (3, 10)  # around the digit, as a share (numerator, denominator) of its longer side


@dataclass(frozen=True, slots=True)
class Ink:
    """What was found: ink 0..1 on a crop of the picture, and how far it looks like a digit's."""

    ink: Plane
    box: Box  # the crop, in the picture's pixels
    dark: bool  # darker than its background
    absorption: float  # the share of the background's light that ink of 1 takes
    contrast: float  # grey levels between the ink and what is right beside it
    width: float  # of its strokes, as a share of its longer side
    sheet: Mask | None = None  # where it was found on a sheet that itself is in the picture: that sheet
    drawing: Drawing | None = None  # where the picture is a clean drawing: its two levels
    several: bool = False  # whether there may be more than one digit: worth a closer look
    edged: bool = False  # whether a narrow view shows the edges of its strokes: then they are strokes, if wide

    @property
    def quality(self) -> float:
        """Its contrast, less for what is too wide for strokes: a sheet of paper, a lamp that is mirrored."""
        return self.contrast if self.edged else self.contrast * min(1.0, (0.85 * BLOB / self.width) ** 4)

    @property
    def convinces(self) -> bool:
        """Whether there is no need to look for ink of the other polarity; light ink is the exception."""
        narrow = self.edged or self.width < 0.8 * BLOB
        return self.contrast > (CLEAR if self.dark else 2 * CLEAR) and narrow

    @property
    def is_written(self) -> bool:
        """Whether this is written on a sheet, not the hole of a digit whose strokes were taken for one."""
        return self.contrast > 0.5 * CLEAR and self.width < 0.75 * BLOB

    def is_better_than(self, other: "Ink") -> bool:
        """Whether this goes before what was found in the polarity that the picture seems to have."""
        if (self.sheet is None) != (other.sheet is None):
            return self.sheet is not None
        return self.quality > (1 if self.dark else LIGHT_INK) * other.quality


def segment(page: Plane, dark: bool, step: int, size: tuple[int, int]) -> Ink | None:
    """The digit's ink in grey levels [height, width]; each is `step` x `step` pixels of a picture of `size`.

    Where the picture has a sheet that lies on something darker, what is written on it goes first.
    """
    page = page if dark else 255 - page
    if max(page.shape) < SMALL:
        return _segment_ink(black_tophat(page, WIDE)[0], page, dark, step, size)
    near, background = black_tophat(page, NARROW)
    found = _segment_sheet(near, background, page, dark, step, size)
    return _segment_near(near, page, dark, step, size) if found is None else found


def segment_drawing(page: Plane, drawing: Drawing, dark: bool, step: int, size: tuple[int, int]) -> Ink | None:
    """The digit's ink in a clean drawing, as in `segment`; whatever is drawn, where no rule leaves anything.

    What is written on a sheet that lies in the middle of the picture has the polarity of the border.
    """
    turned = 255 - page if dark else page
    near, background = black_tophat(turned, NARROW)
    found = _segment_sheet(near, background, turned, not dark, step, size)
    if found is not None and found.sheet is not None:
        blank = (drawing.ink(page, dark) > 0.5)[found.sheet]  # a printed frame has other levels inside
        if blank.mean() > BLANK and rectangularity(found.sheet) > RECTANGLE:
            return found
    ink = drawing.ink(page, dark)
    page = page if dark else 255 - page
    found = _segment_ink(ink.copy(), page, dark, step, size, clean=True)
    if found is None:
        found = _measure(select_heaviest(ink, LOW), ink, LOW, page, dark, step, size)
        found = None if found is None else replace(found, several=True)
    return None if found is None else replace(found, drawing=drawing)


def _segment_sheet(
    near: Plane, background: Plane, page: Plane, dark: bool, step: int, size: tuple[int, int]
) -> Ink | None:
    """What is written on a sheet that lies on something darker; None where there is no such sheet."""
    sheet = find_sheet(background)
    if sheet is None:
        return None
    found = _segment_ink(np.where(sheet, near, 0), page, dark, step, size)
    if found is None or not found.is_written or _is_cut(near, sheet, found, step):
        return None
    return replace(found, sheet=sheet)


def _segment_near(near: Plane, page: Plane, dark: bool, step: int, size: tuple[int, int]) -> Ink | None:
    """The background is taken from close by, for then shadows are no ink.

    Where a digit fills the page its strokes may be wider than that: then a wider view has more ink, and as
    strong.
    """
    found = _segment_ink(near.copy(), page, dark, step, size)
    share = 1.0 if found is None else _share_of_sides(found.box, size)
    if found is not None and share < ALL_OF_IT and (share < MOST_OF_IT or not _is_hollow(near, page, found)):
        return found
    wide, _ = black_tophat(page, WIDE)
    if found is None:
        return _segment_ink(wide, page, dark, step, size)
    if not _is_more(wide, near, found):
        return found
    other = _segment_ink(wide, page, dark, step, size)
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
    again = _segment_close(page, found, (left, top, *near.size), step, max(picture.size))
    if again is None:
        return found
    x0, y0, x1, y1 = again.box
    again = replace(again, box=(x0 + left, y0 + top, x1 + left, y1 + top))
    return again if again.quality > STILL_GOOD * found.quality and _covers(again.box, found.box) else found


def _segment_close(page: Plane, found: Ink, near: Box, step: int, whole: int) -> Ink | None:
    """The ink of `found` again in a part of the picture: `near` is left, top, width and height of it."""
    if found.drawing is not None:
        ink = found.drawing.ink(page, found.dark)
        page = page if found.dark else 255 - page
        return _segment_ink(ink, page, found.dark, step, near[2:], clean=True)
    page = page if found.dark else 255 - page
    small = max(page.shape) < SMALL
    ink, _ = black_tophat(page, WIDE if small else NARROW)
    if found.sheet is not None:
        left, top, width, height = near
        scale = max(found.sheet.shape) / whole
        box = (left * scale, top * scale, (left + width) * scale, (top + height) * scale)
        part = Image.fromarray(found.sheet).resize(page.shape[::-1], Image.Resampling.NEAREST, box)
        ink[~np.asarray(part, np.bool_)] = 0
    return (_segment_ink if small else _segment_near)(ink, page, found.dark, step, near[2:])


def _covers(box: Box, other: Box) -> bool:
    """Whether a box has most of another's area."""
    wide, tall = min(box[2], other[2]) - max(box[0], other[0]), min(box[3], other[3]) - max(box[1], other[1])
    return max(wide, 0) * max(tall, 0) > 0.6 * (other[2] - other[0]) * (other[3] - other[1])


def _is_more(ink: Plane, before: Plane, found: Ink) -> bool:
    """Whether there is clearly more of what is as strong as the ink that was found before."""
    strong = 0.7 * found.absorption
    return bool(np.count_nonzero(ink > strong) > MORE * np.count_nonzero(before > strong))


def _segment_ink(
    ink: Plane, page: Plane, dark: bool, step: int, size: tuple[int, int], clean: bool = False
) -> Ink | None:
    """The digit among ink 0..1 (changed in place) of a page on which ink is dark."""
    inset = remove_frame(ink)
    ruled = max(ink.shape) > RULED and remove_ruled_lines(ink) | remove_ruled_lines(ink.T)
    for last in (False, False, True):
        levels = ink_levels(ink, OF_A_DIGIT)
        if levels is None:
            return None
        low, peak = levels
        selected = select_digit(ink, low, HIGH * peak, inset, clean)
        if selected.removed is None or last:
            break
        ink[dilation(selected.removed, 2)] = 0  # what is left may be fainter
    if selected.kept is None:
        return None
    kept = selected.kept
    if not (clean or ruled) and max(ink.shape) >= SMALL:
        kept, low = with_faint_strokes(ink, kept, low, peak)
    found = _measure(kept, ink, low, page, dark, step, size)
    return replace(found, several=True) if found is not None and selected.several else found


def ink_levels(ink: Plane, every: int) -> tuple[float, float] | None:
    """The level that tells ink from noise, and the peak, the mean of the strongest of `every` so many pixels;
    None where there is no ink, or nothing but noise."""
    strongest = max(PEAK_PIXELS, ink.size // every)
    ground = ink.size // (GROUND_SMALL if max(ink.shape) < SMALL else GROUND)
    ranked = np.partition(ink, (ground, max(ink.size - strongest, ground)), axis=None)
    peak = float(ranked[-strongest:].mean())
    low = max(LOW * peak, NOISE * float(ranked[ground]))
    return None if peak < FAINT or low > INDISTINCT * peak else (low, peak)


def _measure(
    kept: Mask, ink: Plane, low: float, page: Plane, dark: bool, step: int, size: tuple[int, int]
) -> Ink | None:
    """The digit's pixels as Ink; None where they do not stand out from the noise."""
    x0, y0, x1, y1 = bounding_box(kept)
    strength = ink[kept]
    middling = int(CORE * len(strength))
    core = float(np.partition(strength, middling)[middling])
    crop = np.s_[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1]
    soft = softened(ink[crop] * dilation(kept[crop], 1), core, low)
    box = (x0 * step, y0 * step, min(x1 * step, size[0]), min(y1 * step, size[1]))
    crop = np.s_[max(y0 - 3, 0) : y1 + 3, max(x0 - 3, 0) : x1 + 3]
    contrast = _contrast(kept[crop], ink[crop], page[crop])
    width = stroke_width(soft) / max(soft.shape)
    return Ink(soft, box, dark, core, contrast, width) if contrast > GRAIN else None


def softened(ink: Plane, core: float, low: float) -> Plane:
    """Ink 0..1 of a digit: what is as strong as its core is 1, what is hardly above noise 0."""
    floor = FLOOR * low / core
    soft: Plane = ((ink / np.float32(core) - np.float32(floor)) / np.float32(max(FULL - floor, 0.05))).clip(
        0, 1
    )
    return soft


def _contrast(kept: Mask, ink: Plane, page: Plane) -> float:
    """Grey levels between the digit's pixels and those beside them, or their background, whichever is less."""
    beside = dilation(kept, 3) & ~dilation(kept, 1)
    if not beside.any():
        return 255.0
    share, levels = ink[kept], page[kept]
    to_background = share * np.maximum(levels / (1.001 - share), DIM)  # as `black_tophat` had it
    return float(min(page[beside].mean() - levels.mean(), to_background.mean()))


def _is_cut(ink: Plane, sheet: Mask, found: Ink, step: int) -> bool:
    """Whether strokes go on beyond the sheet: then it is none, but the lit side of a shadow."""
    left, top, right, bottom = (side // step for side in found.box)
    around = np.s_[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]
    strong = ink[around] > 0.5 * found.absorption
    beyond = dilation(strong & ~sheet[around], 1)
    return bool((beyond & strong & sheet[around]).any())
