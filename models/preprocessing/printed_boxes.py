"""Printed boxes that digits are written in: postcodes, forms. Their outline has four straight sides.

    ink and what is nearly ink -> components whose outline is a quadrilateral, made straight
    -> lines between cells at equal distances -> the lines around cells, where something is written into these

Digits may touch the lines, which may be broken, lean or be paler than the digits.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.preprocessing.components import boxes_of
from models.preprocessing.morphology import Mask, Plane, Values, dilation, label

PALE = 0.5  # of the least ink: what is above it may be a line
REACHES = (0, 1, 3)  # pixels: gaps of twice as many are closed, narrow ones first
LEAST = 14  # pixels of a box, each way
MOST, MOST_AREA = 40, 6  # components that are looked at: how many, and how often the area of the page

# Of a side, as shares of its length:
CORNER = 0.15  # at both ends it may stray: the other sides may lean
ENDS, TRIED = 0.2, 6  # it goes through two points that lie so far from there; so many are tried at each end
STRAIGHT = 0.75  # of it is straight
STRAY = 0.025  # how far a straight side strays from its line, as a share of the box
LEAN = 0.6  # of the box is left between two sides that lean

SLIMMEST = 0.55  # width of a cell, as a share of its height
MOST_CELLS = 20  # side by side
CORNER_INK = 0.5  # share of a corner's sides that is ink; no digit has such corners
LINE = 0.75  # share of a line between cells that is ink
LINE_NEAR = 0.12  # how far it is from its place, as a share of a cell
THICKEST = 0.15  # of a line, as a share of a cell
THICK_INK, THICK_LINE = 0.5, 0.8  # of a line's pixels: ink, and as much as in the middle of the line
FILLED = 0.5  # share of the cells that is no writing but paper, taken for ink
WRITTEN, WRITTEN_LONG = 0.5, 0.4  # share of the cells with writing; its longer side, as a share of their height
ALIKE = 0.15  # how much the heights of boxes differ, those that nothing is written in too


@dataclass(frozen=True, slots=True)
class PrintedBoxes:
    """Boxes on a page: their lines, and where they are."""

    lines: Mask
    around: Values  # left, top, right, bottom [4, rows of boxes]

    @property
    def height(self) -> float:
        """Of most of them, in pixels."""
        return float(np.median(self.around[3] - self.around[1]))

    def inside(self) -> Mask:
        """Where they are, as a mask."""
        mask = np.zeros(self.lines.shape, np.bool_)
        for left, top, right, bottom in self.around.T:
            mask[top:bottom, left:right] = True
        return mask


@dataclass(frozen=True, slots=True)
class _Row:
    """Boxes side by side that share their lines, or one that stands alone."""

    box: Values  # left, top, right, bottom
    lines: Mask  # in that box
    written: bool

    @property
    def height(self) -> float:
        return float(self.box[3] - self.box[1])


def find_boxes(ink: Plane, low: float) -> PrintedBoxes | None:
    """All boxes, where something is written in some of them; None where there are none. Ink is above `low`."""
    mask = ink > PALE * low
    rows = [row for reach in REACHES for row in _find(mask, ink > low, reach)]
    written = np.array([row.height for row in rows if row.written])
    kept = [row for row in rows if (np.abs(written - row.height) <= ALIKE * row.height).any()]
    if not kept:
        return None
    lines = np.zeros(mask.shape, np.bool_)
    for row in kept:
        left, top, right, bottom = row.box
        lines[top:bottom, left:right] |= row.lines
    return PrintedBoxes(lines, np.stack([row.box for row in kept], 1))


def _find(mask: Mask, ink: Mask, reach: int) -> Iterator[_Row]:
    """Rows of boxes whose gaps are no wider than twice `reach`. Takes them out of `mask` (in place)."""
    labels, count = label(dilation(mask, reach) if reach else mask)
    labels = np.where(mask, labels, 0)
    ys, xs = np.nonzero(labels)
    boxes = boxes_of(labels[ys, xs], ys, xs, count + 1)
    wide, tall = boxes[2] - boxes[0], boxes[3] - boxes[1]
    short = np.minimum(wide, tall)
    short[0] = 0
    area = MOST_AREA * mask.size
    for i in np.argsort(-short, kind="stable")[:MOST]:
        area -= int(wide[i] * tall[i])
        if short[i] < LEAST or area < 0:
            break
        left, top, right, bottom = (int(side) for side in boxes[:, i])
        if left == 0 or top == 0 or right == mask.shape[1] or bottom == mask.shape[0]:
            continue  # a table, or lines of the paper
        part = np.s_[top:bottom, left:right]
        own = labels[part] == i
        row = _row(boxes[:, i], own, ink[part])
        if row is not None:
            mask[part] &= ~own
            yield row


def _row(box: Values, own: Mask, ink: Mask) -> _Row | None:
    """A component and the ink in its box; None where it is no row of boxes."""
    turned = (own, own[::-1], own.T, own.T[::-1])
    if not all(map(_has_side, turned)):
        return None
    sides: list[Values] = []
    for each in turned:
        side = _side(each)
        if side is None:
            return None
        sides.append(side)
    tops, bottoms, lefts, rights = sides
    height, width = own.shape
    tall, wide = height - 1 - tops - bottoms, width - 1 - lefts - rights
    if np.median(tall) < LEAN * height or np.median(wide) < LEAN * width:
        return None

    def place(pixels: Mask) -> tuple[Values, Values, Values, Values]:
        """Rows and columns of pixels, here and between straight sides."""
        ys, xs = np.nonzero(pixels)
        down, across = (ys - tops[xs]) / np.maximum(tall[xs], 1), (xs - lefts[ys]) / np.maximum(wide[ys], 1)
        rows, columns = np.rint(down * (height - 1)), np.rint(across * (width - 1))
        return ys, xs, rows.clip(0, height - 1).astype(np.intp), columns.clip(0, width - 1).astype(np.intp)

    def straightened(pixels: Mask) -> Mask:
        result = np.zeros_like(pixels)
        result[place(pixels)[2:]] = True
        return result

    outline = straightened(own)
    if not (_has_corners(outline) and _has_corners(outline[:, ::-1])):
        return None
    most = min(MOST_CELLS, int(width / (SLIMMEST * height)))
    count = next((count for count in range(most, 0, -1) if _is_divided(outline, count)), 0)
    lines = _around_cells(outline, straightened(own & ink), count) if count else None
    if lines is None:
        return None
    if np.count_nonzero(outline & ~lines) > FILLED * np.count_nonzero(~lines):
        return None
    ys, xs, rows, columns = place(dilation(own, 1))
    result = np.zeros_like(own)
    result[ys, xs] = lines[rows, columns]
    return _Row(box, result, _is_written(straightened(ink) & ~lines, count))


def _has_side(own: Mask) -> bool:
    """Whether there is ink in the upper part of most columns; few digits have that on all sides."""
    corner = round(CORNER * own.shape[1])
    upper = own[: math.ceil((1 - LEAN) * len(own)), corner : own.shape[1] - corner]
    return bool(upper.any(0).mean() >= STRAIGHT)


def _side(own: Mask) -> Values | None:
    """The row of a component's upper side in each column; None where that is not straight."""
    height, width = own.shape
    first = np.where(own.any(0), own.argmax(0), height)
    corner = round(CORNER * width)
    lefts = np.unique(np.linspace(corner, corner + ENDS * width, TRIED).round().astype(int))
    a, b = (ends.ravel() for ends in np.meshgrid(lefts, width - 1 - lefts))
    slopes = (first[b] - first[a]) / np.maximum(b - a, 1)
    columns = np.arange(corner, width - corner)
    near = np.abs(first[columns] - first[a, None] - slopes[:, None] * (columns - a[:, None]))
    near = near <= max(1.5, STRAY * height)
    best = near[near.sum(1).argmax()]
    if best.mean() < STRAIGHT:
        return None
    slope, at = np.polyfit(columns[best], first[columns[best]], 1)
    side: Values = slope * np.arange(width) + at
    return side


def _has_corners(outline: Mask) -> bool:
    """Whether the upper and the lower side go on to the left one."""
    near = max(2, round(CORNER * min(outline.shape)))
    corners = (outline[: near // 2 + 1, :near], outline[-(near // 2) - 1 :, :near])
    return all(float(corner.any(0).mean()) >= CORNER_INK for corner in corners)


def _between(width: int, count: int) -> list[tuple[int, int]]:
    """The columns in which the lines between so many cells may be: from and to, for each."""
    near = max(1, round(LINE_NEAR * width / count))
    middles = (round(number * width / count) for number in range(1, count))
    return [(max(0, middle - near), middle + near + 1) for middle in middles]


def _is_divided(outline: Mask, count: int) -> bool:
    """Whether there are lines between so many cells."""
    share = dilation(outline, 1, (1,)).mean(0)
    return all(share[start:end].max() >= LINE for start, end in _between(len(share), count))


def _around_cells(outline: Mask, ink: Mask, count: int) -> Mask | None:
    """The lines around so many cells, by the ink of an outline, or where that is pale by the outline itself.

    None where they are too thick for lines.
    """
    height, width = ink.shape
    thickest = max(3, round(THICKEST * min(height, width / count)))
    lines = np.zeros_like(ink)
    for pale, own, made, number in ((outline, ink, lines, count), (outline.T, ink.T, lines.T, 1)):
        share, pale_share = (dilation(mask, 1, (1,)).mean(0) for mask in (own, pale))
        size = len(share)
        if min(share[thickest], share[-thickest - 1]) > THICK_INK:
            return None
        for start, end in [(0, thickest), (size - thickest, size), *_between(size, number)]:
            there = share[start:end] if share[start:end].max() > THICK_INK else pale_share[start:end]
            is_line = there > max(THICK_INK, THICK_LINE * float(there.max()))
            made[:, start:end] |= dilation(is_line[None], 1, (1,))
        made[:, [0, -1]] = True
    return lines


def _is_written(writing: Mask, count: int) -> bool:
    """Whether half of the cells have something in them that is as long as a digit."""
    height, width = writing.shape
    edges = np.linspace(0, width, count + 1).round().astype(int)
    cells = [writing[:, left:right] for left, right in pairwise(edges)]
    written = [cell.any() and max(map(np.ptp, np.nonzero(cell))) > WRITTEN_LONG * height for cell in cells]
    return bool(sum(written) >= WRITTEN * count)
