"""Printed boxes that digits are written in: postcodes, forms. Their cells are rectangular holes of the ink.

Told by their cells rather than by straight lines, they may be in perspective, and digits may touch them.
"""

import numpy as np

from models.preprocessing.components import Components
from models.preprocessing.morphology import Labels, Mask, dilation, framed, label, rectangularity

LEAST = 14  # pixels of a box, each way
CELL_TALL, CELL_WIDE = 0.5, 0.25  # of a cell: shares of the height of its box, at least
MOST_CELLS = 200  # of a box
CORNER_NEAR, CORNERS = 0.15, 2  # corners of a box that have ink so near, as a share of its shorter side
SIDE_NEAR, SIDE_INK, NARROWEST = 0.1, 0.9, 1.7  # one box: ink in so much of each side; its sides' ratio
RECTANGULAR = 0.83  # of one of its cells; the hole of a 0 has at most 0.82


def printed_boxes(found: Components) -> Mask | None:
    """The lines of all boxes; None where there are none."""
    result: Mask | None = None
    for i in np.flatnonzero((found.short >= LEAST) & found.strong):
        if i == 0:
            continue
        left, top, right, bottom = (int(side) for side in found.boxes[:, i])
        part = np.s_[top:bottom, left:right]
        lines = _lines(found.labels[part] == i)
        if lines is None:
            continue
        if result is None:
            result = np.zeros(found.labels.shape, np.bool_)
        result[part] |= lines
    return result


def _lines(own: Mask) -> Mask | None:
    """What of a component lies outside of its cells; None where it has none."""
    if not _has_corners(own):
        return None
    cells = _cells(own)
    if cells and max(map(rectangularity, cells)) >= RECTANGULAR:
        return own & ~np.logical_or.reduce(cells)
    if not _is_one_box(own):
        return None
    near = _near(own)
    inside = np.zeros_like(own)
    inside[near:-near, near:-near] = True
    return own & ~np.logical_or.reduce([inside, *cells])


def _has_corners(own: Mask) -> bool:
    """Whether a component has ink near the corners of its bounding box: a 0 has none there."""
    near = max(3, round(CORNER_NEAR * min(own.shape)))
    corners = (own[:near, :near], own[:near, -near:], own[-near:, :near], own[-near:, -near:])
    return sum(bool(corner.any()) for corner in corners) >= CORNERS


def _is_one_box(own: Mask) -> bool:
    """Whether a component has ink along all its sides: a box whose digit goes from side to side."""
    if max(own.shape) > NARROWEST * min(own.shape):
        return False
    near = _near(own)
    sides = (own[:near].any(0), own[-near:].any(0), own[:, :near].any(1), own[:, -near:].any(1))
    return all(float(side.mean()) > SIDE_INK for side in sides)


def _near(own: Mask) -> int:
    return max(2, round(SIDE_NEAR * min(own.shape)))


def _cells(own: Mask) -> list[Mask]:
    """The larger holes of a component, with what is written into them."""
    around = framed(~dilation(framed(own, 1), 1), 1)  # closed where lines have gaps of a pixel
    around[0] = around[-1] = around[:, 0] = around[:, -1] = True
    labels, count = label(around)
    outside = labels[0, 0]
    labels = labels[2:-2, 2:-2]
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    least = CELL_TALL * CELL_WIDE * own.shape[0] ** 2 / 2
    large = [i for i in np.argsort(-sizes)[:MOST_CELLS] if i not in (0, outside) and sizes[i] >= least]
    return [cell for cell in (_filled(labels, int(i)) for i in large) if _is_cell(cell, own.shape[0])]


def _filled(labels: Labels, i: int) -> Mask:
    """A hole, and what lies between its pixels along rows or columns."""
    hole = labels == i
    rows = np.logical_or.accumulate(hole, 1) & np.logical_or.accumulate(hole[:, ::-1], 1)[:, ::-1]
    columns = np.logical_or.accumulate(hole, 0) & np.logical_or.accumulate(hole[::-1], 0)[::-1]
    filled: Mask = rows | columns
    return filled


def _is_cell(cell: Mask, height: int) -> bool:
    tall = np.count_nonzero(cell.any(1))
    wide = np.count_nonzero(cell.any(0))
    return bool(tall >= CELL_TALL * height and wide >= CELL_WIDE * height)
