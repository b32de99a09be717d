"""Components of ink to lines of writing: bodies of digits, what belongs to them, what stands in a row."""

from dataclasses import dataclass

import numpy as np

from models.preprocessing.background import SMALL
from models.preprocessing.components import Components
from models.preprocessing.morphology import Mask, Values
from models.preprocessing.selection import PALE

MOST_PARTS = 8  # of a broken digit
MOST_COMPONENTS = 320  # the heaviest ones; a page of noise has more

SOFT = 0.45  # width of its strokes, as a share of its longer side: a shadow, not a bold digit

# What can be written, as shares of the usual height:
LOWEST, HIGHEST = 0.3, 2.0  # of a body
SHORTEST = 0.5  # of its longer side: a 5 with a long bar is low
LEAST_WEIGHT = 0.03  # of a part, as a share of a body's weight
LEAST_LONG = 0.12  # of a part: what is smaller is a speck, or a dot
BROKEN, ONE_DIGIT = 0.7, 1.2  # height of parts of a digit, size of both together
NEAR, BESIDE_PART = 0.15, 0.05  # between those, one above the other, and side by side
OVERLAP = 0.3  # of the heights of neighbours in a line
FAR = 4.0  # between neighbours in a line
INSIDE = 0.5  # share of the narrower one's width that two parts of one digit have in common
ABOVE = 0.35  # between a digit's parts, one above the other
BESIDE, BAR = 0.15, 0.4  # a bar is this near to the body that it belongs to, in this upper share of the line

Sides = tuple[int, ...]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Piece:
    """Components that belong to one digit, or to digits that touch."""

    labels: tuple[int, ...]
    box: Values  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Line:
    """Pieces from left to right, and the usual height of those."""

    pieces: tuple[Piece, ...]
    height: float


@dataclass(frozen=True, slots=True)
class _Strokes:
    """Components, those of a broken digit together; `boxes` [4, strokes]."""

    labels: list[tuple[int, ...]]
    boxes: Values
    weight: Values

    @property
    def tall(self) -> Values:
        return self.boxes[3] - self.boxes[1]

    @property
    def long(self) -> Values:
        return np.maximum(self.boxes[2] - self.boxes[0], self.tall)


def find_lines(found: Components, boxes: Values | None = None) -> list[Line]:
    """The lines of a page in reading order. What is in one row of printed `boxes` [4, rows] is in one line."""
    numbers = np.flatnonzero(_usable(found))
    if len(numbers) == 0:
        return []
    if len(numbers) > MOST_COMPONENTS:
        heaviest = np.argpartition(found.weight[numbers], -MOST_COMPONENTS)[-MOST_COMPONENTS:]
        numbers = np.sort(numbers[heaviest])
    usual = _weighted_median(found.tall[numbers], np.sqrt(found.weight[numbers]) * found.tall[numbers])
    strokes = _joined(found, numbers, usual)
    is_body = (strokes.tall >= LOWEST * usual) & (strokes.long >= SHORTEST * usual)
    is_body &= strokes.tall <= HIGHEST * usual
    bodies = np.flatnonzero(is_body)
    if len(bodies) == 0:
        return []
    least = LEAST_WEIGHT * float(np.median(strokes.weight[bodies]))
    is_part = ~is_body & (strokes.tall < HIGHEST * usual) & (strokes.weight >= least)
    parts = np.flatnonzero(is_part & (strokes.long >= LEAST_LONG * usual))
    rows = _in_rows(_extended(strokes.boxes, boxes), bodies)
    return _ordered([_line(strokes, row, parts) for row in rows])


def _joined(found: Components, numbers: Values, usual: float) -> _Strokes:
    """Low components with those right beside, above or below: a digit that was written in parts."""
    members = [[int(number)] for number in numbers]
    boxes = [found.boxes[:, number].astype(np.int64) for number in numbers]
    is_low = (found.tall[numbers] < BROKEN * usual) & (found.long[numbers] >= LEAST_LONG * usual)
    low = np.flatnonzero(is_low)
    for i in low:
        near = low[low > i]
        near = near[_are_near(boxes[i], found.boxes[:, numbers[near]], NEAR * usual)]
        for j in near[:MOST_PARTS]:
            if members[i] and members[j] and _is_one(boxes[i], boxes[j], usual):
                members[j] += members[i]
                boxes[j] = _around(np.stack([boxes[i], boxes[j]], 1))
                members[i] = []
    kept = [i for i, own in enumerate(members) if own]
    weight = np.array([found.weight[members[i]].sum() for i in kept])
    return _Strokes([tuple(members[i]) for i in kept], np.stack([boxes[i] for i in kept], 1), weight)


def _are_near(box: Values, others: Values, gap: float) -> Mask:
    apart = np.maximum(box[:2, None] - others[2:], others[:2] - box[2:, None]).max(0)
    near: Mask = apart <= gap
    return near


def _is_one(one: Values, other: Values, usual: float) -> bool:
    """Whether two low components together are as large as one digit, and near each other."""
    both = _around(np.stack([one, other], 1))
    if max(both[2] - both[0], both[3] - both[1]) > ONE_DIGIT * usual:
        return False
    across = max(one[0] - other[2], other[0] - one[2])
    down = max(one[1] - other[3], other[1] - one[3])
    return bool(across <= BESIDE_PART * usual and down <= NEAR * usual)


def _usable(found: Components) -> Mask:
    """What is neither a table nor a shadow, a line nor a speck."""
    usable = (found.weight > 0) & (found.long >= 3)
    if max(found.ink.shape) >= SMALL:
        usable &= ~(found.is_surround & (found.sides >= 1)) & ~found.is_line
        usable &= 2 * found.strength < SOFT * found.long * found.outline
    usable[0] = False
    if not (usable & found.strong).any():
        return usable & found.strong
    strong = np.flatnonzero(usable & found.strong)
    usual = _weighted_median(found.mean_strength[strong], found.weight[strong])
    return usable & (found.mean_strength > PALE * usual)


def _weighted_median(values: Values, weights: Values) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, total[-1] / 2)]])


def _extended(boxes: Values, printed: Values | None) -> Values:
    """Boxes of strokes, as high as the printed ones around their middles."""
    if printed is None:
        return boxes
    extended = boxes.copy()
    x, y = (boxes[0] + boxes[2]) / 2, (boxes[1] + boxes[3]) / 2
    for left, top, right, bottom in printed.T:
        there = (x > left) & (x < right) & (y > top) & (y < bottom)
        extended[1, there], extended[3, there] = top, bottom
    return extended


def _in_rows(boxes: Values, bodies: Values) -> list[list[int]]:
    """Bodies that stand beside each other; each row from left to right."""
    rows: list[list[int]] = []
    ends: list[tuple[Sides, Sides]] = []  # of each row: its last two bodies
    for body in bodies[np.argsort(boxes[0, bodies])]:
        box: Sides = tuple(boxes[:, body].tolist())
        shares = [_beside(box, last, before) for before, last in ends]
        best = max(range(len(rows)), key=shares.__getitem__, default=-1)
        if best < 0 or shares[best] <= OVERLAP:
            rows.append([int(body)])
            ends.append((box, box))
        else:
            rows[best].append(int(body))
            ends[best] = (ends[best][1], box)
    return rows


def _beside(box: Sides, last: Sides, before: Sides) -> float:
    """The share of its height that a body has in common with a row's end; 0 where it is too far away."""
    top, bottom = (last[1] + before[1]) / 2, (last[3] + before[3]) / 2
    tall = box[3] - box[1]
    if box[0] - last[2] > FAR * max(bottom - top, tall):
        return 0.0
    return (min(bottom, box[3]) - max(top, box[1])) / min(bottom - top, tall)


def _line(strokes: _Strokes, bodies: list[int], parts: Values) -> Line:
    """Bodies of one row with what belongs to them."""
    pieces: list[list[int]] = []
    for body in bodies:
        if pieces and _share_columns(_around(strokes.boxes[:, pieces[-1]]), strokes.boxes[:, body]):
            pieces[-1].append(body)
        else:
            pieces.append([body])
    height = float(np.median([_tall(_around(strokes.boxes[:, piece])) for piece in pieces]))
    for part in parts:
        for piece in pieces:
            if _belongs(_around(strokes.boxes[:, piece]), strokes.boxes[:, part], height):
                piece.append(int(part))
                break
    made = [
        Piece(tuple(label for one in piece for label in strokes.labels[one]), _around(strokes.boxes[:, piece]))
        for piece in pieces
    ]
    return Line(tuple(sorted(made, key=lambda piece: float(piece.box[0] + piece.box[2]))), height)


def _around(boxes: Values) -> Values:
    return np.concatenate([boxes[:2].min(1), boxes[2:].max(1)])


def _tall(box: Values) -> float:
    return float(box[3] - box[1])


def _share_columns(one: Values, other: Values) -> bool:
    common = min(one[2], other[2]) - max(one[0], other[0])
    return bool(common > INSIDE * min(one[2] - one[0], other[2] - other[0]))


def _belongs(body: Values, part: Values, height: float) -> bool:
    """Whether a small part is a digit's: above, below or within it, or the bar of a 5 at its upper right."""
    gap = max(float(part[1] - body[3]), float(body[1] - part[3]))
    if _share_columns(body, part):
        return gap < ABOVE * height
    apart = max(float(part[0] - body[2]), float(body[0] - part[2]))
    return apart < BESIDE * height and gap < BESIDE * height and float(part[3] - body[1]) < BAR * height


def _ordered(lines: list[Line]) -> list[Line]:
    """From top to bottom; what stands in the same row, from left to right."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=_middle):
        if rows and _middle(line) - _middle(rows[-1][-1]) < OVERLAP * line.height:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda one: float(one.pieces[0].box[0]))]


def _middle(line: Line) -> float:
    return float(np.mean([(piece.box[1] + piece.box[3]) / 2 for piece in line.pieces]))
