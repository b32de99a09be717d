"""From a picture with several digits to what may be one: pieces of lines, cut too often rather than too seldom.

    page: all ink, level -> lines of pieces -> (small ones: the same from closer by)
    -> cuts where digits may touch -> candidates: one to four neighbouring pieces, as MNIST would show them

`models.numbers` chooses, with the classifier's help. All of it is bounded before it is done: `MAX_DIGITS`,
`MAX_CANDIDATES`.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from models.numbers import MAX_CANDIDATES, MAX_DIGITS, MAX_LINES, Candidate, Candidates, Reading
from models.preprocessing.components import Components
from models.preprocessing.cuts import left_of, propose_cuts
from models.preprocessing.ink import CORE, Box, Ink, softened
from models.preprocessing.morphology import Labels, Plane, Values, dilation, stroke_width
from models.preprocessing.preprocess import center_by_mass
from models.preprocessing.text_lines import Line, Piece, find_lines
from models.preprocessing.writing import Page, read_closer, read_page

MAX_BYTES = 512 * 1024  # of all candidates' pixels

# The closer look:
ENOUGH, AIM = 36, 56  # pixels of a line's height: with fewer it is looked at again, at about so many
MARGIN = 0.8  # around the lines, as a share of their height
LARGEST = 1600  # pixels along the longer side

UNEVEN = 0.25  # standard deviation of the heights of grain, as a share of their mean; digits have less
FRAGMENT = 0.28  # height of pieces, as a share of that of the digit that was found at first
THICK, FILLED = 0.4, 0.5  # strokes as wide as this share of the height; ink in this share of a box

# Shapes, as shares of the height of the line:
UNCUT = 0.62  # nothing narrower is cut
WIDEST = 1.5  # candidate
GAP = 0.3  # within a candidate
MOST_PIECES = 4  # in a candidate

STRAIGHT = 0.06  # how far the ink of a straight stroke strays from a line
SLASH_SLANT, SLASH_TALL = -0.3, 1.1  # a slash leans so far, and is so tall

# Costs, in nats:
DOUBT = 3.0  # of a cut where one digit is expected
CUT, CUT_INK = 0.5, 0.8  # to end a digit at a cut; for each stroke that this crosses
JOIN, JOIN_GAP = 1.2, 5.0  # to join pieces that stand apart; for a gap as wide as the line is high
DIGIT = 0.15  # of every digit
NARROW_BELOW, NARROW = 0.35, 1.2  # of a width below the first, for each height
WIDE_FROM, WIDE = 1.02, 6.75  # of a width above the first, for each height
LOW_BELOW, LOW = 0.9, 7.0  # of a longer side below the first
SKIP, SKIP_LOW = 8.0, 1.8  # to call a piece no digit that is as large as the line is high, or half as large


@dataclass(slots=True)
class _Cutting:
    """A line whose pieces were cut: number `i` of the plane is its piece `i - 1`."""

    numbers: Labels  # [height, width] of the page; 0: none of this line's
    boxes: list[Values]
    crossed: list[float | None]  # before each piece: ink that the cut crosses, in strokes; None: no cut
    gaps: list[float]  # before each piece, as a share of the height; 0 at a cut
    slants: list[float | None]  # of each straight piece: columns to a row
    height: float


def find_candidates(
    picture: Image.Image, found: Ink | None, side: int, reading: Reading = "number"
) -> Candidates | None:
    """What may be digits in a grey picture; None where there is nothing that could be one.

    `found` is what the search for one digit made of it. Boxes are in the picture's pixels. Where one digit is
    expected, cutting it costs more.
    """
    page, lines = _read(picture, found)
    boxed = page is not None and page.boxes is not None
    if found is not None and not boxed and not (found.convinces and _plausible(page, lines) > 0):
        other = replace(found, dark=not found.dark)
        turned, those = _read(picture, other)
        if _plausible(turned, those) > max(0, _plausible(page, lines)):
            page, lines, found = turned, those, other
    if page is None or not lines:
        return None
    if found is not None and _are_fragments(page, lines, found):
        page = read_page(picture, found, grainy=True)
        lines = _lines(page)
        if page is None or not lines:
            return None
    else:
        page, lines = _closer(picture, found, page, lines)
    kept, more = _bounded(lines)
    return _candidates(page, kept, side, more, DOUBT if reading == "digit" else 0.0)


def _read(picture: Image.Image, found: Ink | None) -> tuple[Page | None, list[Line]]:
    page = read_page(picture, found)
    return page, _lines(page)


def _lines(page: Page | None) -> list[Line]:
    return [] if page is None else find_lines(page.components, page.boxes)


def _are_fragments(page: Page, lines: list[Line], found: Ink) -> bool:
    """Whether the pieces are of all sizes, much smaller than the digit that was found: grain of a pencil."""
    left, top, right, bottom = found.box
    height = float(np.median([line.height for line in lines])) * page.step
    if height > FRAGMENT * (bottom - top) or right - left > WIDEST * (bottom - top):
        return False
    tall = [float(piece.box[3] - piece.box[1]) for line in lines for piece in line.pieces]
    return float(np.std(tall)) > UNEVEN * float(np.mean(tall))


def _plausible(page: Page | None, lines: list[Line]) -> int:
    """How many more pieces look like strokes of a pen than like a sheet of paper that is taken for ink."""
    if page is None:
        return 0
    if page.boxes is not None:
        return MAX_DIGITS
    pieces = [piece for line in lines for piece in line.pieces]
    return 2 * sum(_is_written(page.components, piece) for piece in pieces) - len(pieces)


def _is_written(found: Components, piece: Piece) -> bool:
    labels = list(piece.labels)
    strength, outline = float(found.strength[labels].sum()), float(found.outline[labels].sum())
    wide, tall = (float(side) for side in piece.box[2:] - piece.box[:2])
    thick = 2 * strength / max(outline, 1e-6)
    return thick < THICK * max(wide, tall) and (strength < FILLED * wide * tall or thick < THICK * tall)


def _closer(picture: Image.Image, found: Ink | None, page: Page, lines: list[Line]) -> tuple[Page, list[Line]]:
    """The lines again, where they are small and the picture has more of them."""
    height = float(np.median([line.height for line in lines]))
    if height >= ENOUGH or page.step == 1:
        return page, lines
    region = _region(page, lines, height, picture.size)
    step = max(
        1, int(page.step * height / AIM), -(-max(region[2] - region[0], region[3] - region[1]) // LARGEST)
    )
    if step >= page.step:
        return page, lines
    again = read_closer(picture, found, page, region, step)
    better = _lines(again)
    if again is None or not better or _boxed(again) < _boxed(page):
        return page, lines
    return again, better


def _boxed(page: Page) -> int:
    """How many rows of boxes, or boxes that stand apart, a page has."""
    return 0 if page.boxes is None else page.boxes.shape[1]


def _region(page: Page, lines: list[Line], height: float, size: tuple[int, int]) -> Box:
    """The part of the picture with all lines."""
    boxes = np.stack([piece.box for line in lines for piece in line.pieces])
    left, top = boxes[:, :2].min(0)
    right, bottom = boxes[:, 2:].max(0)
    xs, ys = np.array([left, right, right, left]), np.array([top, top, bottom, bottom])
    box = page.outline(ys, xs)
    margin = round(MARGIN * height * page.step)
    return (
        max(0, box[0] - margin),
        max(0, box[1] - margin),
        min(size[0], box[2] + margin),
        min(size[1], box[3] + margin),
    )


def _bounded(lines: list[Line]) -> tuple[list[Line], bool]:
    """The first lines, with so many pieces as may be digits; and whether there are more."""
    kept: list[Line] = []
    left = MAX_DIGITS
    for line in lines[:MAX_LINES]:
        if left == 0:
            break
        pieces = line.pieces[:left]
        left -= len(pieces)
        kept.append(Line(pieces, line.height))
    return kept, sum(len(line.pieces) for line in lines) > sum(len(line.pieces) for line in kept)


# -- pieces -----------------------------------------------------------------------------------------


def _cut(page: Page, line: Line) -> _Cutting:
    numbers = np.zeros(page.ink.shape, np.int64)
    made = _Cutting(numbers, [], [], [], [], line.height)
    right = None
    for piece in line.pieces:
        gap = 0.0 if right is None else max(0.0, (float(piece.box[0]) - right) / line.height)
        _cut_piece(page, piece, made, gap)
        right = max(right or 0.0, float(piece.box[2]))
    return made


def _cut_piece(page: Page, piece: Piece, made: _Cutting, gap: float) -> None:
    """The piece, or its parts where digits may touch, as further numbers of the plane."""
    left, top, right, bottom = (int(side) for side in piece.box)
    part = np.s_[top:bottom, left:right]
    own = np.isin(page.components.labels[part], piece.labels)
    ink = np.where(own, page.ink[part] / max(float(np.median(page.ink[part][own])), 1e-6), 0).clip(0, 1)
    slant = _slant(*np.nonzero(own))
    may_touch = right - left > UNCUT * made.height and slant is None
    cuts = propose_cuts(ink, made.height, max(1.0, stroke_width(ink))) if may_touch else []
    number = np.zeros(own.shape, np.int64)
    for cut in cuts:
        number += ~left_of(cut, right - left)
    first = len(made.boxes)
    for i in range(len(cuts) + 1):
        mask = own & (number == i)
        if not mask.any():
            continue
        ys, xs = np.nonzero(mask)
        made.numbers[part][mask] = len(made.boxes) + 1
        made.boxes.append(np.array([xs.min() + left, ys.min() + top, xs.max() + 1 + left, ys.max() + 1 + top]))
        fresh = len(made.boxes) == first + 1
        made.crossed.append(None if fresh else cuts[i - 1].ink)
        made.gaps.append(gap if fresh else 0.0)
        made.slants.append(slant)


def _slant(ys: Values, xs: Values) -> float | None:
    """How far a straight stroke leans; None for anything else."""
    if len(ys) < 3 or np.ptp(ys) < 2:
        return None
    slant, at = np.polyfit(ys, xs, 1)
    spread = float(np.std(xs - slant * ys - at))
    return float(slant) if spread < STRAIGHT * float(np.ptp(ys)) else None


# -- candidates -------------------------------------------------------------------------------------


def _candidates(page: Page, lines: list[Line], side: int, more: bool, doubt: float) -> Candidates | None:
    found: list[Candidate] = []
    pixels: list[bytes] = []
    skips: list[tuple[float, ...]] = []
    for line in lines:
        made = _cut(page, line)
        spans = _spans(made, doubt)
        if len(found) + len(spans) > min(MAX_CANDIDATES, MAX_BYTES // side**2):
            more = True
            break
        for start, end, cost in spans:
            crop, box = _crop(page, made, start, end)
            if crop is not None:
                found.append(Candidate(len(skips), start, end, box, cost))
                pixels.append(center_by_mass(crop, side).tobytes())
        skips.append(tuple(_skip(made, i) for i in range(len(made.boxes))))
    return Candidates(b"".join(pixels), tuple(found), tuple(skips), more) if found else None


def _spans(made: _Cutting, doubt: float = 0.0) -> list[tuple[int, int, float]]:
    """Neighbouring pieces that may be one digit: start, end, cost."""
    spans = []
    for start in range(len(made.boxes)):
        for end in range(start + 1, min(start + MOST_PIECES, len(made.boxes)) + 1):
            if any(gap > GAP for gap in made.gaps[start + 1 : end]):
                break
            boxes = np.stack(made.boxes[start:end])
            wide = float(boxes[:, 2].max() - boxes[:, 0].min()) / made.height
            if end > start + 1 and wide > WIDEST:
                break
            tall = float(boxes[:, 3].max() - boxes[:, 1].min()) / made.height
            cost = _shape_cost(wide, tall) + _join_cost(made, start, end) + _end_cost(made, end, doubt)
            spans.append((start, end, cost))
    return spans


def _shape_cost(wide: float, tall: float) -> float:
    narrow = NARROW * max(0.0, NARROW_BELOW - wide)
    return DIGIT + narrow + WIDE * max(0.0, wide - WIDE_FROM) + LOW * max(0.0, LOW_BELOW - max(wide, tall))


def _join_cost(made: _Cutting, start: int, end: int) -> float:
    """Of what stands apart within a candidate; pieces at a cut are one already."""
    between = range(start + 1, end)
    return sum(JOIN + JOIN_GAP * made.gaps[i] for i in between if made.crossed[i] is None)


def _end_cost(made: _Cutting, end: int, doubt: float) -> float:
    """Of ending before piece `end`: where that is a cut, it has a price."""
    ink = made.crossed[end] if end < len(made.crossed) else None
    return 0.0 if ink is None else CUT + CUT_INK * ink + doubt


def _skip(made: _Cutting, piece: int) -> float:
    """Of calling a piece no digit."""
    wide, tall = made.boxes[piece][2:] - made.boxes[piece][:2]
    slant = made.slants[piece]
    if slant is not None and slant < SLASH_SLANT and tall > SLASH_TALL * made.height and len(made.boxes) > 2:
        return 0.0
    size = min(1.0, float(max(wide, tall)) / made.height)
    return SKIP_LOW + (SKIP - SKIP_LOW) * max(0.0, 2 * size - 1)


def _crop(page: Page, made: _Cutting, start: int, end: int) -> tuple[Plane | None, Box]:
    """The ink of some pieces as `ink.measure` has it, and its box in the picture's pixels."""
    boxes = np.stack(made.boxes[start:end])
    left, top, right, bottom = (int(side) for side in (*boxes[:, :2].min(0), *boxes[:, 2:].max(0)))
    part = np.s_[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]
    numbers, ink = made.numbers[part], page.ink[part]
    own = (numbers > start) & (numbers <= end)
    strength = ink[own]
    middling = int(CORE * len(strength))
    core = max(float(np.partition(strength, middling)[middling]), 1e-6)
    soft = softened(ink * (dilation(own, 1) & (own | (numbers == 0))), core, page.low)
    ys, xs = np.nonzero(own)
    box = page.outline(ys + part[0].start, xs + part[1].start)
    return (soft if (soft > 0.3).any() else None), box
