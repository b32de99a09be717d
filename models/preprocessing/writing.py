"""All that is written in a picture: its ink, without ruled lines and boxes, turned until lines are level."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.preprocessing.background import NARROW, SMALL, WIDE, black_tophat
from models.preprocessing.components import Components
from models.preprocessing.ink import HIGH, Box, Ink, ink_levels
from models.preprocessing.lines import remove_frame, remove_ruled_lines
from models.preprocessing.morphology import Mask, Plane, Values, dilation, label
from models.preprocessing.polarity import ink_is_dark
from models.preprocessing.printed_boxes import PrintedBoxes, find_boxes

PAGE = 512  # pixels along the longer side, to find all digits in
OF_A_PAGE = 2000  # of so many pixels one is among the strongest
JOINED = 300  # pixels along the longer side from which on gaps of two pixels join
GRAIN = 80  # gaps of twice such a part of the longer side join where strokes are broken by grain

# How far a page is turned:
STEEPEST, ANGLE = 16, 0.5  # degrees: the most that lines are turned by, and the step in which it is tried
PROFILE = 20_000  # pixels of ink that are enough to tell
CLEARER = 1.08  # how much sharper the rows must be than those of the page as it is
FEWEST_PARTS, LEAST_PART = 3, 0.1  # components; their size, as a share of the largest
LEVEL = 1.0  # degrees: less is left

# What is written beside printed boxes:
LOWEST, TALLEST = 0.4, 1.5  # of the height of a box
PALEST = 0.5  # of the strength of the ink in boxes


@dataclass(frozen=True, slots=True)
class Page:
    """A region of a picture, reduced and turned, and what is written on it."""

    ink: Plane  # 0..1, the share of the light that is taken
    components: Components
    low: float  # ink is above this
    region: Box  # in the picture's pixels
    step: int  # of them to a pixel, before it was turned
    angle: float  # degrees, counter-clockwise
    boxes: Values | None = None  # that something is written into: left, top, right, bottom [4, rows of boxes]

    def outline(self, ys: Values, xs: Values) -> Box:
        """The box around some pixels of the page, in the picture's pixels."""
        left, top, right, bottom = self.region
        wide, tall = (right - left) / self.step, (bottom - top) / self.step
        turn = np.deg2rad(self.angle)
        dx, dy = xs + 0.5 - self.ink.shape[1] / 2, ys + 0.5 - self.ink.shape[0] / 2
        x = (dx * np.cos(turn) - dy * np.sin(turn) + wide / 2) * self.step + left
        y = (dx * np.sin(turn) + dy * np.cos(turn) + tall / 2) * self.step + top
        half = 0.5 * self.step
        sides = (x.min() - half, y.min() - half, x.max() + half, y.max() + half)
        return (round(sides[0]), round(sides[1]), round(sides[2]), round(sides[3]))


def read_page(picture: Image.Image, found: Ink | None, grainy: bool = False) -> Page | None:
    """What is written in a grey picture; None where there is no ink.

    `found` is what the search for one digit made of it, which tells dark from light ink. In a `grainy`
    one, such as of pencil, wider gaps join, as they do in that search.
    """
    return _page(picture, found, (0, 0, *picture.size), -(-max(picture.size) // PAGE), None, grainy)


def read_closer(picture: Image.Image, found: Ink | None, before: Page, region: Box, step: int) -> Page | None:
    """The same of a region, from closer by."""
    return _page(picture, found, region, step, before.angle)


def _page(
    picture: Image.Image,
    found: Ink | None,
    region: Box,
    step: int,
    angle: float | None,
    grainy: bool = False,
) -> Page | None:
    part = picture.crop(region)
    small = part.reduce(step) if step > 1 else part
    ink = _ink(small, found)
    inset = remove_frame(ink)
    _remove_surround(ink, inset)
    turned = _tilt(ink) if angle is None else angle
    if turned:
        ink = _turned(ink, turned)
    boxes = _boxes(ink)
    ruled = max(ink.shape) >= SMALL and remove_ruled_lines(ink) | remove_ruled_lines(ink.T)
    levels = ink_levels(ink, OF_A_PAGE)
    if levels is None:
        return None
    low, peak = levels
    reach = 1 if max(ink.shape) >= JOINED and (found is None or found.drawing is None) else 0
    reach = max(ink.shape) // GRAIN if grainy else reach
    if ruled and boxes is None:  # lines hide them, but leave gaps where they are taken out
        boxes = find_boxes(ink, low)
    if boxes is not None:
        ink[boxes.lines] = 0
    components = Components.of(ink, low, HIGH * peak, inset, reach)
    if boxes is not None:
        ink[_beside(boxes, components)[components.labels]] = 0
        components = Components.of(ink, low, HIGH * peak, inset, reach)
    return Page(ink, components, low, region, step, turned, None if boxes is None else boxes.around)


def _boxes(ink: Plane) -> PrintedBoxes | None:
    levels = ink_levels(ink, OF_A_PAGE)
    return None if levels is None else find_boxes(ink, levels[0])


def _beside(boxes: PrintedBoxes, found: Components) -> Mask:
    """Components outside of boxes that are not written as what is in them: a table, lines of the paper."""
    written = np.bincount(found.labels[boxes.inside()], minlength=len(found) + 1) > 0
    written[0] = True  # the background
    strength = float(np.median(found.mean_strength[written][1:])) if written[1:].any() else 0.0
    alike = (found.tall > LOWEST * boxes.height) & (found.tall < TALLEST * boxes.height)
    alike &= (found.mean_strength > PALEST * strength) & (found.sides == 0)
    beside: Mask = ~written & ~alike
    return beside


def _ink(small: Image.Image, found: Ink | None) -> Plane:
    page = np.asarray(small, np.float32)
    dark = ink_is_dark(small) if found is None else found.dark
    if found is not None and found.drawing is not None:
        return found.drawing.ink(page, dark)
    ink, _ = black_tophat(page if dark else 255 - page, WIDE if max(page.shape) < SMALL else NARROW)
    return ink


def _remove_surround(ink: Plane, inset: int) -> None:
    """Take tables and shadows along the picture's border out of `ink` (in place)."""
    levels = ink_levels(ink, OF_A_PAGE)
    if levels is None or max(ink.shape) < SMALL:
        return
    found = Components.of(ink, levels[0], HIGH * levels[1], inset, 0)
    surround = (found.sides >= 1) & found.is_surround
    surround[0] = False
    if surround.any():
        ink[dilation(surround[found.labels], 2)] = 0


# -- level lines ------------------------------------------------------------------------------------


def _tilt(ink: Plane) -> float:
    """How far the lines climb, in degrees: the direction in which rows of ink differ most.

    Source: Postl, "Detection of linear oblique structures and skew scan in digitized documents" (1986).
    """
    levels = ink_levels(ink, OF_A_PAGE)
    if levels is None or not _has_several_parts(ink > levels[0]):
        return 0.0
    ys, xs = np.nonzero(ink > levels[0])
    every = -(-len(ys) // PROFILE)
    ys, xs = ys[::every].astype(np.float32), xs[::every].astype(np.float32)
    angles = np.arange(-STEEPEST, STEEPEST + ANGLE, ANGLE)
    sharpness = np.array([_sharpness(ys, xs, angle) for angle in angles])
    best = int(sharpness.argmax())
    level = float(sharpness[len(angles) // 2])
    if best in (0, len(angles) - 1) or abs(angles[best]) < LEVEL or sharpness[best] < CLEARER * level:
        return 0.0
    return -float(angles[best])


def _has_several_parts(mask: Mask) -> bool:
    """Whether there are as many components of some size as a line needs to have a direction."""
    labels, count = label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return int(np.count_nonzero(sizes >= LEAST_PART * sizes.max(initial=0))) >= FEWEST_PARTS


def _sharpness(ys: Values, xs: Values, angle: float) -> float:
    """How much neighbouring rows differ, along a direction."""
    turn = np.deg2rad(angle)
    rows = ys * np.cos(turn) + xs * np.sin(turn)
    profile = np.bincount((rows - rows.min()).astype(np.int64)).astype(np.float64)
    return float(np.square(profile).sum())


def _turned(ink: Plane, angle: float) -> Plane:
    image = Image.fromarray(ink).rotate(angle, Image.Resampling.BILINEAR, expand=True)
    return np.array(image, np.float32).clip(0, 1)
