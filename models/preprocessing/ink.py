"""The ink of one digit in one view of a picture: told from its ground, and how far it looks like a digit's."""

from dataclasses import dataclass, replace

import numpy as np

from models.preprocessing.background import DIM, SMALL
from models.preprocessing.drawing import Drawing
from models.preprocessing.faint import with_faint_strokes
from models.preprocessing.lines import remove_frame, remove_ruled_lines
from models.preprocessing.morphology import Mask, Plane, bounding_box, dilation, stroke_width
from models.preprocessing.selection import select_digit

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
FLOOR, FULL = 0.4, 0.95  # less than this share of `low` becomes 0, more than this share of the core becomes 1
RULED = 80  # pixels along the longer side: where there are fewer, ruled lines are no lines any more

# How far what was found looks like a digit:
GRAIN = 3  # grey levels between ink and the background beside it that may be noise
CLEAR = 60  # grey levels between ink and the background beside it that leave no doubt
BLOB = 0.2  # width of what is no stroke any more, as a share of its longer side
LIGHT_INK = 1.5  # people write dark on light: light ink must be this much better


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
        """Whether there is no need to look for ink of the other polarity; light ink may be a sheet of paper."""
        narrow = self.edged or self.width < 0.8 * BLOB
        return self.dark and self.contrast > CLEAR and narrow

    @property
    def is_written(self) -> bool:
        """Whether this is written on a sheet, not the hole of a digit whose strokes were taken for one."""
        return self.contrast > 0.5 * CLEAR and self.width < 0.75 * BLOB

    def is_better_than(self, other: "Ink") -> bool:
        """Whether this goes before what was found in the polarity that the picture seems to have."""
        if (self.sheet is None) != (other.sheet is None):
            return self.sheet is not None
        return self.quality > (1 if self.dark else LIGHT_INK) * other.quality


def segment_ink(
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
    found = measure(kept, ink, low, page, dark, step, size)
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


def measure(
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
