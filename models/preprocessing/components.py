"""Which connected components of ink are the digit, and which are tables, shadows, frames, pens and specks."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.preprocessing.background import SMALL
from models.preprocessing.morphology import Labels, Mask, Plane, Values, dilation, label

# Rules that tell a component from a digit; all of them only in pictures that may be photographs (SMALL):
ALONG = 0.4  # touches the border with more than this share of its width and height: a table, a shadow
ALONG_FULL = 0.55  # the same, for what fills the picture
AROUND = 1.2  # a digit that was cut out closely touches all sides, but less than this
FILLS = 0.8  # share of the picture's width and height that such a digit has
LINE_LONG, LINE_THIN = 0.9, 0.08  # a ruled line or an edge: share of the picture, share of its own length
PEN_LONG, PEN_THIN = 0.5, 0.2  # a pen or a finger that comes in from the border: the same shares
SOFT = 0.25  # twice its area over its outline, as a share of its longer side: a shadow has no edge
ALIEN_SCORE, PEN_SCORE, SOFT_SCORE = 0.05, 0.1, 0.05  # what such a component keeps of its score
ALL_SIDES = 3  # sides of the picture that a table or a shadow touches, in a clean drawing at least
EDGE_SCORE = 0.4  # score of a component at the picture's edge, next to 1.4 in its middle
AROUND_WEIGHT = 0.5  # what lies along the border is taken out where it weighs this share of the best

FRAME_NEAR = 0.08  # share of its width and height in which a printed frame has its ink
FRAME_LARGE = 0.4  # share of the picture's width and height that a frame has at least
FRAME_WEIGHT = 0.85  # share of its weight that is near its sides
FRAME_SIDE = 0.15  # share of its weight that is near each of them
FRAME_CONTENT = 0.05  # weight of what stands inside a frame of two sides, as a share of the frame's
BOX_NEAR = 0.05  # share of its longer side in which a printed box has its lines
BOX_LINE = 0.85  # share of a side that has ink

NEAR = 0.2  # a neighbour of the digit is no further away than this share of its longer side
SPECK = 0.04  # weight of a speck, as a share of the digit's
LONGER = 1.3  # a neighbour is no longer than this
PALE = 0.5  # and has at least this share of its mean strength

CUT_SIDE = 40  # pixels along the longer side: smaller pictures hold one digit, and it fills them
CUT_TALL = 0.1  # of another digit that the picture cuts off at its left or right: share of the digit's height
CUT_OVERLAP = 0.3  # share of its width that is above or below the digit, at most: slanted digits overlap
WHOLE_TALL = 0.75  # of a whole digit beside a heavier one that is cut off: share of the other's height

RIVAL_TALL, RIVAL_WEIGHT = 0.4, 0.15  # of another digit: shares of the digit's height and weight at least
WIDE = 1.1  # width over height of what may be more than one digit


@dataclass(frozen=True, slots=True)
class Selection:
    """What is the digit, in one look."""

    kept: Mask | None = None  # its pixels; None where there is none
    removed: Mask | None = None  # what must be removed before it can be told
    several: bool = False  # whether there may be more than one digit: worth a closer look


@dataclass(frozen=True)
class Components:
    """Connected components of ink and their features, one number each; number 0 is the background."""

    ink: Plane
    labels: Labels  # 1.. for the pixels of each component
    boxes: Values  # left, top, right, bottom [4, components]
    strength: Values  # sum of its ink
    weight: Values  # sum of its squared ink
    strong: Mask  # somewhere it is certainly ink
    edge: Values  # pixels at the picture's border
    sides: Values  # sides of the picture that it touches
    outline: Values  # sum of differences between neighbouring pixels

    @classmethod
    def of(cls, ink: Plane, low: float, high: float, inset: int, reach: int | None = None) -> "Components":
        """Of joined ink above `low`; gaps of twice `reach` join, by default of a pixel or two in the usual
        size. Ink begins `inset` pixels from the border.
        """
        mask = ink > low
        reach = max(ink.shape) // 70 if reach is None else reach
        labels, count = label(dilation(mask, reach) if reach else mask)
        labels = np.where(mask, labels, 0)
        ys, xs = np.nonzero(labels)
        number, strength = labels[ys, xs], ink[ys, xs]
        height, width = ink.shape

        def total(values: Values) -> Values:
            return np.bincount(number, values, count + 1)

        at_sides = (ys == inset, ys == height - 1 - inset, xs == inset, xs == width - 1 - inset)
        right, below = np.minimum(xs + 1, width - 1), np.minimum(ys + 1, height - 1)
        return cls(
            ink=ink,
            labels=labels,
            boxes=_boxes(number, ys, xs, count + 1),
            strength=total(strength),
            weight=total(strength**2),
            strong=total(strength > high) > 0,
            edge=total(np.logical_or.reduce(at_sides)),
            sides=np.sum([total(side) > 0 for side in at_sides], axis=0),
            outline=total(np.abs(ink[ys, right] - strength) + np.abs(ink[below, xs] - strength)),
        )

    def __len__(self) -> int:
        return len(self.weight) - 1

    @cached_property
    def wide(self) -> Values:
        return self.boxes[2] - self.boxes[0]

    @cached_property
    def tall(self) -> Values:
        return self.boxes[3] - self.boxes[1]

    @cached_property
    def long(self) -> Values:
        return np.maximum(self.wide, self.tall)

    @cached_property
    def short(self) -> Values:
        return np.minimum(self.wide, self.tall)

    @cached_property
    def along(self) -> Values:
        """Pixels at the border, as a share of width and height together."""
        return self.edge / np.maximum(self.wide + self.tall, 1)

    @cached_property
    def centrality(self) -> Values:
        """1 in the middle of the picture, 0 at its edge."""
        height, width = self.ink.shape
        x = (self.boxes[0] + self.boxes[2]) / width - 1
        y = (self.boxes[1] + self.boxes[3]) / height - 1
        centrality: Values = 1 - np.maximum(np.abs(x), np.abs(y)).clip(0, 1)
        return centrality

    @cached_property
    def mean_strength(self) -> Values:
        """Of its pixels, each weighted with its own strength."""
        return self.weight / np.maximum(self.strength, 1e-6)

    # The rules. Each gives one truth value per component.

    @cached_property
    def fills_picture(self) -> Mask:
        """A digit that was cut out closely."""
        height, width = self.ink.shape
        fills: Mask = (self.wide > FILLS * width) & (self.tall > FILLS * height) & (self.along < AROUND)
        return fills

    @cached_property
    def is_surround(self) -> Mask:
        """A table or a shadow: it lies along the border."""
        surround: Mask = (self.along > ALONG) & ~self.fills_picture
        return surround

    @cached_property
    def is_line(self) -> Mask:
        line: Mask = (self.long > LINE_LONG * max(self.ink.shape)) & (self.short < LINE_THIN * self.long)
        return line

    @cached_property
    def is_pen(self) -> Mask:
        """A pen or a finger that lies on the sheet."""
        thin = self.short < PEN_THIN * self.long
        pen: Mask = (self.edge > 0) & (self.long > PEN_LONG * max(self.ink.shape)) & thin
        return pen

    @cached_property
    def is_soft(self) -> Mask:
        """A shadow."""
        soft: Mask = 2 * self.strength > SOFT * self.long * self.outline
        return soft

    @cached_property
    def is_frame(self) -> Mask:
        """Printed frames: large, and nearly all of their ink near at least three sides of their box.

        Or near two, where something of weight stands inside.
        """
        height, width = self.ink.shape
        large = (self.wide > FRAME_LARGE * width) & (self.tall > FRAME_LARGE * height)
        if not large.any():
            return large
        near_any, sides = self._near_sides()
        frames: Mask = large & (near_any > FRAME_WEIGHT * self.weight) & (sides >= 2)
        for i in np.flatnonzero(frames & (sides == 2)):
            frames[i] = self._has_content(int(i))
        return frames

    def _near_sides(self) -> tuple[Values, Values]:
        """The weight near the sides of each component's box, and the number of sides with enough of it."""
        ys, xs = np.nonzero(self.labels)
        number, weight = self.labels[ys, xs], self.ink[ys, xs] ** 2
        left, top, right, bottom = (side[number] for side in self.boxes)
        wide, tall = np.maximum(self.wide[number], 1), np.maximum(self.tall[number], 1)
        depths = ((xs - left) / wide, (right - 1 - xs) / wide, (ys - top) / tall, (bottom - 1 - ys) / tall)
        count = len(self.weight)
        near_any = np.bincount(number, weight * (np.minimum.reduce(depths) < FRAME_NEAR), count)
        near = [np.bincount(number, weight * (depth < FRAME_NEAR), count) for depth in depths]
        return near_any, np.sum([side > FRAME_SIDE * self.weight for side in near], axis=0)

    def _has_content(self, i: int) -> bool:
        """Whether something of weight stands inside component `i`."""
        margin = 0.05 * np.array([self.wide[i], self.tall[i]])[:, None]
        low, high = self.boxes[:2, i, None] + margin, self.boxes[2:, i, None] - margin
        inside = (self.boxes[:2] > low).all(0) & (self.boxes[2:] < high).all(0)
        return bool((inside & self.strong & (self.weight > FRAME_CONTENT * self.weight[i])).any())


def select_digit(ink: Plane, low: float, high: float, inset: int, clean: bool = False) -> Selection:
    """The pixels of the digit: the heaviest component that can be one, and its neighbours of some weight.

    A component is joined ink above `low` that somewhere is above `high`; `inset` is how far from the border
    ink begins. Removed must be what lies along the border and weighs more, or a printed box that the digit
    touches. In a `clean` drawing there are no shadows, and what reaches one border may be a stroke that is cut
    off.
    """
    found = Components.of(ink, low, high, inset)
    if len(found) == 0:
        return Selection()
    photograph = max(ink.shape) >= SMALL
    touching = found.sides >= (ALL_SIDES if clean else 1)
    surround = found.is_surround & touching & photograph
    alien = surround | (photograph & ((touching & (found.along > ALONG_FULL)) | found.is_line | found.is_frame))
    score = _scores(found, alien, photograph and not clean)
    main = int(score.argmax())
    beside = max(ink.shape) >= CUT_SIDE
    if beside:
        main = _whole_beside(found, main, found.strong & ~alien, inset)
    surround &= found.strong & (found.weight > (0 if surround[main] else AROUND_WEIGHT * found.weight[main]))
    surround[0] = False
    removed: Mask | None = surround[found.labels] if surround.any() else None
    if score[main] <= 0 or (alien[main] and not found.fills_picture[main]):
        return Selection(removed=removed)
    box = _printed_box(found.labels == main, found.boxes[:, main]) if photograph else None
    if box is not None:
        return Selection(removed=box if removed is None else box | removed)
    alike = found.mean_strength > PALE * found.mean_strength[main]
    allowed = ~alien & found.strong & alike
    cut_off = _is_cut_off(found, main, inset) if beside else ~allowed
    chosen = _with_neighbours(found, main, allowed & ~cut_off)
    several = beside and _may_be_several(found, main, chosen, allowed)
    return Selection(chosen[found.labels], removed, several)


def _may_be_several(found: Components, main: int, chosen: Mask, allowed: Mask) -> bool:
    """Whether anything beside the main component could be a digit as well, or it is wider than digits are."""
    boxes = found.boxes[:, chosen]
    wide, tall = boxes[2].max() - boxes[0].min(), boxes[3].max() - boxes[1].min()
    if wide > WIDE * tall:
        return True
    rivals = allowed & (found.tall > RIVAL_TALL * found.tall[main])
    rivals &= found.weight > RIVAL_WEIGHT * found.weight[main]
    rivals[main] = False
    return bool(rivals.any())


def select_heaviest(ink: Plane, low: float) -> Mask:
    """The pixels of the heaviest component of ink above `low`, and its neighbours; there is some."""
    found = Components.of(ink, low, low, 0)
    weight = found.weight.copy()
    weight[0] = 0
    return _with_neighbours(found, int(weight.argmax()), found.strong)[found.labels]


def _scores(found: Components, alien: Mask, photograph: bool) -> Values:
    """How far each component can be the digit: heavy, in the middle, and nothing else by the rules."""
    score = found.weight * found.strong * (EDGE_SCORE + found.centrality)
    score *= np.where(alien, ALIEN_SCORE, 1)
    score *= np.where(photograph & found.is_pen, PEN_SCORE, 1)
    score *= np.where(photograph & found.is_soft, SOFT_SCORE, 1)
    score[0] = 0
    return score


def _boxes(number: Values, ys: Values, xs: Values, count: int) -> Values:
    """Left, top, right, bottom [4, count] of the pixels of each component."""
    boxes = np.empty((4, count), np.int64)
    boxes[:2], boxes[2:] = 1 << 30, 0
    for row, values in ((0, xs), (1, ys)):
        np.minimum.at(boxes[row], number, values)
        np.maximum.at(boxes[row + 2], number, values + 1)
    return boxes


def _printed_box(component: Mask, box: Values) -> Mask | None:
    """The pixels of a printed box that the digit inside touches; None where this is no box."""
    left, top, right, bottom = (int(side) for side in box)
    tall, wide = bottom - top, right - left
    if min(tall, wide) < FRAME_LARGE * min(component.shape):
        return None
    near = max(1, round(BOX_NEAR * max(tall, wide)))
    rows, columns = slice(top, bottom), slice(left, right)
    result = np.zeros_like(component)
    sides = 0
    for axis, side in (
        (0, (slice(top, top + near), columns)),
        (0, (slice(bottom - near, bottom), columns)),
        (1, (rows, slice(left, left + near))),
        (1, (rows, slice(right - near, right))),
    ):
        if component[side].any(axis).mean() > BOX_LINE:
            result[side] = component[side]
            sides += 1
    return result if sides >= 3 else None


def _with_neighbours(found: Components, main: int, allowed: Mask) -> Mask:
    """The components that belong to the digit: near it, and neither specks nor longer than it."""
    chosen = np.zeros(len(found.weight), np.bool_)
    chosen[main] = True
    box = found.boxes[:, main].copy()
    allowed = allowed & ~_is_bar(found.boxes, box) & (found.weight >= SPECK * found.weight[main])
    allowed &= found.long <= LONGER * found.long[main]
    for _ in range(3):  # a neighbour's neighbour
        gap = np.maximum(found.boxes[:2] - box[2:, None], box[:2, None] - found.boxes[2:]).max(0)
        more = allowed & ~chosen & (gap <= NEAR * max(box[2] - box[0], box[3] - box[1]))
        if not more.any():
            break
        chosen |= more
        box[:2] = found.boxes[:2, chosen].min(1)
        box[2:] = found.boxes[2:, chosen].max(1)
    return chosen


def _whole_beside(found: Components, main: int, allowed: Mask, inset: int) -> int:
    """The heaviest component that stands whole beside `main`, where that is cut off at the left or right."""
    at_left, at_right = found.boxes[0] <= inset, found.boxes[2] >= found.ink.shape[1] - inset
    if at_left[main] == at_right[main]:
        return main
    gap = found.boxes[0] - found.boxes[2, main] if at_left[main] else found.boxes[0, main] - found.boxes[2]
    whole = allowed & (found.sides == 0) & (gap > -CUT_OVERLAP * found.wide[main])
    whole &= (found.tall > WHOLE_TALL * found.tall[main]) & (found.weight > 0)
    return int(np.where(whole, found.weight, 0).argmax()) if whole[1:].any() else main


def _is_cut_off(found: Components, main: int, inset: int) -> Mask:
    """What stands beside component `main` and goes on beyond the picture: part of another digit.

    Where the digit reaches the other side of the picture, it may fill it, and this be a stroke of its own.
    """
    left, _, right, _ = found.boxes
    at_left, at_right = left <= inset, right >= found.ink.shape[1] - inset
    tall = found.tall[main]
    gap = np.where(at_left, left[main] - right, left - right[main])
    cut = (at_left & ~at_right[main]) | (at_right & ~at_left[main] & ~at_left)
    result: Mask = cut & (gap > -CUT_OVERLAP * found.wide) & (found.tall > CUT_TALL * tall)
    return result


def _is_bar(boxes: Values, box: Values) -> Mask:
    """What lies above or below `box` and is longer at both ends; or left or right of it."""
    bar = np.zeros(boxes.shape[1], np.bool_)
    for along, across in ((0, 1), (1, 0)):
        both = (boxes[along] < box[along]) & (boxes[along + 2] > box[along + 2])
        bar |= both & ((boxes[across] >= box[across + 2]) | (boxes[across + 2] <= box[across]))
    return bar
