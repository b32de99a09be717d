"""Clean drawings: one level of ink on one level of background, as a canvas, a stylus or a scanner leaves them.

There the ink needs no search: it is what has the other level, however wide the strokes are. Only which of
the two is the background must be told.
"""

from dataclasses import dataclass

import numpy as np

from models.preprocessing.lines import FRAME_INK, frame_width
from models.preprocessing.morphology import Plane, Values, border, erosion

LEAST_CONTRAST = 12  # grey levels between the two: with less, noise may be one of them
TOLERANCE, LEAST_TOLERANCE = 0.05, 3  # of the contrast; grey levels: how far a level may stray
EDGE = 2  # pixels: what has neither level is an edge or a hairline, at most twice this wide
MOST_EDGES = 0.6  # share of pixels: more are a photograph, and need no second look
STRAY = 0.001  # share of pixels that may be neither
LEVEL = 30  # percentile of the darker and of the lighter half that counts as its level
FRAMES = 3  # a margin, a printed frame, and what is inside
MOSTLY = 0.65  # share of the border that is certainly background


@dataclass(frozen=True, slots=True)
class Drawing:
    """The two grey levels of a clean drawing."""

    dark: float
    light: float

    def ink(self, page: Plane, ink_is_dark: bool) -> Plane:
        """The share of ink in each pixel, 0..1, of grey levels [height, width]."""
        share = (self.light - page) / np.float32(self.light - self.dark)
        return (share if ink_is_dark else 1 - share).clip(0, 1).astype(np.float32)

    def ink_is_dark(self, page: Plane) -> bool | None:
        """Whether the darker level is the ink: the border, inside of frames, is background. None in doubt."""
        dark = self.ink(page, ink_is_dark=True) > FRAME_INK  # a hairline may be half of a reduced pixel
        for _ in range(FRAMES):
            inset = frame_width(dark if border(dark).mean() > 0.5 else ~dark)
            dark = dark[inset : dark.shape[0] - inset, inset : dark.shape[1] - inset]
        share = float(border(dark).mean())
        return None if 1 - MOSTLY < share < MOSTLY else share < 0.5


def find_levels(page: Plane) -> Drawing | None:
    """The two levels of a clean drawing [height, width]; None where there are more, or only one."""
    middle = (float(page.min()) + float(page.max())) / 2
    below = page < middle
    if not below.any():
        return None
    dark = _percentile(page[below], LEVEL)
    light = _percentile(page[~below], 100 - LEVEL)
    if light - dark < LEAST_CONTRAST:
        return None
    tolerance = max(TOLERANCE * (light - dark), LEAST_TOLERANCE)
    neither = (np.abs(page - dark) > tolerance) & (np.abs(page - light) > tolerance)
    if np.count_nonzero(neither) > MOST_EDGES * page.size:
        return None
    stray = np.count_nonzero(erosion(neither, EDGE))
    return Drawing(dark, light) if stray <= STRAY * page.size else None


def _percentile(values: Values, percent: float) -> float:
    """As np.percentile, which takes three times as long on so few values."""
    place = percent / 100 * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    ranked = np.partition(values, (below, above))
    return float(ranked[below] + (place - below) * (ranked[above] - ranked[below]))
