"""Which connected components of ink are the digit: the heaviest that can be one, and its neighbours."""

from dataclasses import dataclass

import numpy as np

from models.preprocessing.background import SMALL
from models.preprocessing.components import FRAME_LARGE, Components
from models.preprocessing.morphology import Mask, Plane, Values

# What is no digit by the rules of components, most of them only in pictures that may be photographs (SMALL):
ALONG_FULL = 0.55  # touches the border with more than this share, also where it fills the picture
ALIEN_SCORE, PEN_SCORE, SOFT_SCORE = 0.05, 0.1, 0.05  # what it keeps of its score
ALL_SIDES = 3  # sides of the picture that a table or a shadow touches, in a clean drawing at least
EDGE_SCORE = 0.4  # score of a component at the picture's edge, next to 1.4 in its middle
AROUND_WEIGHT = 0.5  # what lies along the border is taken out where it weighs this share of the best

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
