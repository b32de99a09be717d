"""The ink of one digit in a picture: found, told from its ground, and from what else is dark."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from models.preprocessing.background import DIM, NARROW, SMALL, WIDE, black_tophat, sheet_on
from models.preprocessing.components import pieces
from models.preprocessing.morphology import Mask, Plane, box_blur, dilation, erosion, stroke_width

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom just outside
CLOSE = 84  # pixels along the longer side, to look at a small digit again
BLOB = 0.2  # width of what is no stroke any more, as a share of its longer side
GRAIN = 3  # grey levels between ink and the ground beside it that may be noise
CLEAR = 60  # grey levels between ink and the ground beside it that leave no doubt
FRAME = 0.15  # ink of a frame at the border
FAINT = 0.05  # a stroke that takes less of the light than this is no ink


@dataclass(frozen=True, slots=True)
class Ink:
    """What was found: ink 0..1 on a crop of the picture, and how far it looks like a digit's."""

    ink: Plane
    box: Box  # the crop, in the picture's pixels
    dark: bool  # darker than its ground
    core: float  # the share of the ground's light that ink of 1 takes
    sharp: float  # grey levels between the ink and what is right beside it
    width: float  # of its strokes, as a share of its longer side
    sheet: Mask | None = None  # where it was found on a sheet that itself is in the picture: that sheet

    @property
    def quality(self) -> float:
        """Its sharpness, less for what is too wide for strokes: a sheet of paper, a lamp that is mirrored."""
        return self.sharp * min(1.0, (0.85 * BLOB / self.width) ** 4)

    @property
    def convinces(self) -> bool:
        """Whether there is no need to look for ink of the other polarity. Light ink is the exception."""
        return self.sharp > (CLEAR if self.dark else 2 * CLEAR) and self.width < 0.8 * BLOB

    @property
    def is_written(self) -> bool:
        """Whether this is written on a sheet, not the hole of a digit whose strokes were taken for one."""
        return self.sharp > 0.5 * CLEAR and self.width < 0.75 * BLOB

    def is_better_than(self, other: "Ink") -> bool:
        """Than what was found in the polarity that the picture seems to have."""
        if (self.sheet is None) != (other.sheet is None):
            return self.sheet is not None
        return self.quality > (1 if self.dark else 1.5) * other.quality  # people write dark on light


def ink_is_dark(image: Image.Image) -> bool:
    """Strokes take less room than their ground: which side of the local mean is the rarer one?

    The third moment of the detail says so in any light; the border helps where a digit fills the picture.
    """
    step = -(-max(image.size) // 64)
    page = np.asarray(image.reduce(step) if step > 1 else image, np.float32)
    small = max(image.size) < SMALL  # no shadows, and neither a frame whose border lies
    detail = page - (page.mean() if small else box_blur(page, max(page.shape) // 5))
    spread = float(detail.std()) + 1e-3
    skew = float((detail * detail * detail).mean()) / spread**3
    border = float(np.median(np.concatenate([page[0], page[-1], page[:, 0], page[:, -1]])))
    lighter = (border - float(page.mean())) / (float(page.std()) + 1e-3)
    trust = 2 if small else 0.6
    return min(max(lighter, -trust), trust) - skew > 0


def segment(page: Plane, dark: bool, step: int, size: tuple[int, int]) -> Ink | None:
    """The digit's ink in a page whose pixels stand for `step` x `step` of those of a picture of this size.

    Where the picture has a sheet that lies on something darker, what is written on it goes first.
    """
    page = page if dark else 255 - page
    if max(page.shape) < SMALL:
        return segment_on(black_tophat(page, WIDE)[0], page, dark, step, size)
    near, ground = black_tophat(page, NARROW)
    sheet = sheet_on(ground)
    if sheet is not None:
        found = segment_on(np.where(sheet, near, 0), page, dark, step, size)
        if found is not None and found.is_written and not _is_cut(near, sheet, found, step):
            return replace(found, sheet=sheet)
    return segment_near(near, page, dark, step, size)


def segment_near(near: Plane, page: Plane, dark: bool, step: int, size: tuple[int, int]) -> Ink | None:
    """The ground is told from close by, for then shadows are no ink.

    Where a digit fills the page its strokes may be wider than that: then a wider view has more ink, and as
    strong.
    """
    found = segment_on(near.copy(), page, dark, step, size)
    if found is not None:
        left, top, right, bottom = found.box
        if max((right - left) / size[0], (bottom - top) / size[1]) < 0.8:
            return found
    wide, _ = black_tophat(page, WIDE)
    if found is not None and not _is_more(wide, near, found):
        return found
    other = segment_on(wide, page, dark, step, size)
    return other if found is None or (other is not None and other.quality > 0.9 * found.quality) else found


def refine(picture: Image.Image, found: Ink) -> Ink:
    """The digit's ink once more from close by, where it is small in the picture."""
    left, top, right, bottom = found.box
    long = max(right - left, bottom - top)
    if long > 0.5 * max(picture.size):
        return found
    margin = long * 3 // 10
    left, top = max(left - margin, 0), max(top - margin, 0)
    near = picture.crop((left, top, min(right + margin, picture.width), min(bottom + margin, picture.height)))
    step = -(-max(near.size) // CLOSE)
    page = np.asarray(near.reduce(step) if step > 1 else near, np.float32)
    page = page if found.dark else 255 - page
    small = max(page.shape) < SMALL
    ink, _ = black_tophat(page, WIDE if small else NARROW)
    if found.sheet is not None:
        scale = max(found.sheet.shape) / max(picture.size)
        box = (left * scale, top * scale, (left + near.width) * scale, (top + near.height) * scale)
        part = Image.fromarray(found.sheet).resize(page.shape[::-1], Image.Resampling.NEAREST, box)
        ink[~np.asarray(part, np.bool_)] = 0
    again = (segment_on if small else segment_near)(ink, page, found.dark, step, near.size)
    if again is None:
        return found
    x0, y0, x1, y1 = again.box
    again = replace(again, box=(x0 + left, y0 + top, x1 + left, y1 + top))
    return again if again.quality > 0.7 * found.quality and _covers(again.box, found.box) else found


def _covers(box: Box, other: Box) -> bool:
    """Whether a box has most of another's area."""
    wide, tall = min(box[2], other[2]) - max(box[0], other[0]), min(box[3], other[3]) - max(box[1], other[1])
    return max(wide, 0) * max(tall, 0) > 0.6 * (other[2] - other[0]) * (other[3] - other[1])


def _is_more(ink: Plane, before: Plane, found: Ink) -> bool:
    """Whether there is clearly more of what is as strong as the ink that was found before."""
    strong = 0.7 * found.core
    return bool(np.count_nonzero(ink > strong) > 1.3 * np.count_nonzero(before > strong))


def segment_on(ink: Plane, page: Plane, dark: bool, step: int, size: tuple[int, int]) -> Ink | None:
    """The digit among ink 0..1 (changed in place) of a page on which ink is dark."""
    inset = remove_frame(ink)
    if max(ink.shape) > 80:
        remove_ruled_lines(ink)
        remove_ruled_lines(ink.T)
    strongest = max(6, ink.size // 200)
    third = ink.size // 3
    for last in (False, False, True):
        ranked = np.partition(ink, (third, max(ink.size - strongest, third)), axis=None)
        peak = float(ranked[-strongest:].mean())
        low = max(0.3 * peak, 3 * float(ranked[third]))
        if peak < FAINT or low > 0.8 * peak:
            return None
        kept, around = pieces(ink, low, 0.5 * peak, inset)
        if around is None or last:
            break
        ink[dilation(around, 2)] = 0  # what is left may be fainter
    if kept is None:
        return None
    ys, xs = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    y0, y1, x0, x1 = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
    strength = ink[kept]
    middling = int(0.6 * len(strength))
    core = float(np.partition(strength, middling)[middling])
    crop = np.s_[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1]
    soft = ink[crop] * dilation(kept[crop], 1) / np.float32(core)
    floor = 0.4 * low / core
    soft = ((soft - np.float32(floor)) / np.float32(0.95 - floor)).clip(0, 1)
    box = (x0 * step, y0 * step, min(x1 * step, size[0]), min(y1 * step, size[1]))
    crop = np.s_[max(y0 - 3, 0) : y1 + 3, max(x0 - 3, 0) : x1 + 3]
    sharp = _sharpness(kept[crop], ink[crop], page[crop])
    width = stroke_width(soft) / max(soft.shape)
    return Ink(soft, box, dark, core, sharp, width) if sharp > GRAIN else None


def _sharpness(kept: Mask, ink: Plane, page: Plane) -> float:
    """Grey levels between the digit's pixels and those beside them, or their ground, whichever is less."""
    beside = dilation(kept, 3) & ~dilation(kept, 1)
    if not beside.any():
        return 255.0
    share, levels = ink[kept], page[kept]
    to_ground = share * np.maximum(levels / (1.001 - share), DIM)  # as `black_tophat` had it
    return float(min(page[beside].mean() - levels.mean(), to_ground.mean()))


def _is_cut(ink: Plane, sheet: Mask, found: Ink, step: int) -> bool:
    """Whether strokes go on beyond the sheet: then it is none, but the lit side of a shadow."""
    left, top, right, bottom = (side // step for side in found.box)
    around = np.s_[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]
    strong = ink[around] > 0.5 * found.core
    beyond = dilation(strong & ~sheet[around], 1)
    return bool((beyond & strong & sheet[around]).any())


def remove_frame(ink: Plane) -> int:
    """Take a printed frame that is the picture's very border out of `ink` (in place). Returns its width."""
    for inset in range(max(1, max(ink.shape) // 24)):
        inner = ink[inset : ink.shape[0] - inset, inset : ink.shape[1] - inset]
        sides = (inner[0], inner[-1], inner[:, 0], inner[:, -1])
        if min(inner.shape) < 3 or min(np.count_nonzero(side > FRAME) / side.size for side in sides) < 0.9:
            return inset
        for side in sides:
            side[:] = 0
    return inset + 1


def remove_ruled_lines(ink: Plane) -> None:
    """Take ruled lines, nearly along the rows, out of `ink` (in place).

    A line is a thin ridge that runs through the whole width at one slope; what is much darker than the
    line stays, for it is ink that crosses it.
    """
    height, width = ink.shape
    strips = width // 8
    if strips < 6:
        return
    whole = np.ascontiguousarray(ink[:, : strips * 8]).reshape(height, strips, 8)
    coarse = whole @ np.full(8, 1 / 8, np.float32)  # the mean, but quick
    rows = np.arange(height)[:, None]
    centre = np.arange(strips) - (strips - 1) / 2
    slopes = np.linspace(-0.06, 0.06, 9)
    shifts = np.rint(slopes[:, None] * 8 * centre).astype(int)
    capped = np.minimum(coarse, 0.2)
    shifted = capped[(rows + shifts[:, None]).clip(0, height - 1), np.arange(strips)]
    levels = shifted @ np.ones(strips, np.float32)
    at = int(np.square(np.diff(levels, axis=1)).sum(1).argmax())
    slope = slopes[at]
    level = coarse[(rows + shifts[at]).clip(0, height - 1), np.arange(strips)]
    profile = np.partition(level, strips // 6, 1)[:, strips // 6]
    profile = np.minimum(profile, np.minimum(level[:, 0], level[:, -1]))  # the stem of a 4 ends before
    base = dilation(erosion(profile[:, None], 2, (0,)), 2, (0,))[:, 0]
    ridge = profile - base
    if float(ridge.max()) < 0.02:
        return
    ridge[: height // 16] = ridge[-(height // 16) :] = 0  # the bar of a 7 that was cut out closely
    ridge = np.where(ridge > max(0.015, 0.25 * float(ridge.max())), ridge, 0)
    ridge = dilation(ridge[:, None], 1, (0,))[:, 0]
    shift = np.rint(slope * (np.arange(width) - (strips * 8 - 1) / 2)).astype(int)
    line = ridge[(rows - shift).clip(0, height - 1)]
    ink[(line > 0) & (ink < 2.5 * line + 0.05)] = 0
