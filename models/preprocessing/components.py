"""Which pieces of ink are the digit, and which are tables, shadows, frames, pens and specks."""

import numpy as np

from models.preprocessing.background import SMALL
from models.preprocessing.morphology import Mask, Numbers, Plane, dilation, label

ALONG = 0.4  # share of a piece's width and height that lies at the border, of what is no digit
ROUND = 1.2  # the same, of what lies along all sides
SOFT = 0.25  # width of what has no edge, as a share of its longer side


def pieces(ink: Plane, low: float, high: float, inset: int) -> tuple[Mask | None, Mask | None]:
    """The pixels of the digit: the heaviest piece that can be one, and its neighbours of some weight.

    A piece is joined ink above `low` that somewhere is above `high`; gaps of a pixel or two join. `inset` is
    how far from the border ink begins. Second, the pixels of what must go before the digit can be told: what
    lies along the border (a table, a shadow) and weighs more, or a printed box that the digit touches.
    """
    mask = ink > low
    reach = max(ink.shape) // 70
    labels, count = label(dilation(mask, reach) if reach else mask)
    if count == 0:
        return None, None
    labels = np.where(mask, labels, 0)
    ys, xs = np.nonzero(labels)
    of = labels[ys, xs]
    strength = ink[ys, xs]
    height, width = ink.shape
    large = max(height, width) >= SMALL

    def total(values: Numbers) -> Numbers:
        return np.bincount(of, values, count + 1)

    weight = total(strength**2)
    strong = total(strength > high) > 0
    boxes = _boxes(of, ys, xs, count + 1)
    wide, tall = boxes[2] - boxes[0], boxes[3] - boxes[1]
    long, short = np.maximum(wide, tall), np.minimum(wide, tall)
    edge = total((ys == inset) | (ys == height - 1 - inset) | (xs == inset) | (xs == width - 1 - inset))
    along = edge / np.maximum(wide + tall, 1)
    fills = (wide > 0.8 * width) & (tall > 0.8 * height) & (along < ROUND)  # cut out closely
    around = large & (along > ALONG) & ~fills
    line = (long > 0.9 * max(height, width)) & (short < 0.08 * long)
    frame = _frames(boxes, of, ys, xs, strength, weight, strong, ink.shape)
    alien = large & (around | (along > 0.55) | line | frame)
    pen = large & (edge > 0) & (long > 0.5 * max(height, width)) & (short < 0.2 * long)
    right, below = np.minimum(xs + 1, width - 1), np.minimum(ys + 1, height - 1)
    outline = total(np.abs(ink[ys, right] - strength) + np.abs(ink[below, xs] - strength))
    soft = large & (2 * total(strength) > SOFT * long * outline)  # a shadow
    score = weight * strong * (0.4 + _middle(boxes, width, height))
    score *= np.where(alien, 0.05, 1) * np.where(pen, 0.1, 1) * np.where(soft, 0.05, 1)
    score[0] = 0
    main = int(score.argmax())
    around &= strong & (weight > (0 if around[main] else 0.5 * weight[main]))
    around[0] = False
    beside: Mask | None = around[labels] & mask if around.any() else None
    if score[main] <= 0 or (alien[main] and not fills[main]):
        return None, beside
    box = _box_around(labels == main, boxes[:, main]) if large else None
    if box is not None:
        return None, box if beside is None else box | beside
    mean = weight / np.maximum(total(strength), 1e-6)
    chosen = _neighbours(main, boxes, weight, ~alien & strong & (mean > 0.5 * mean[main]))
    kept: Mask = chosen[labels] & mask
    return kept, beside


def _boxes(of: Numbers, ys: Numbers, xs: Numbers, count: int) -> Numbers:
    """Left, top, right, bottom [4, count] of the pixels of each label."""
    boxes = np.empty((4, count), np.int64)
    boxes[:2], boxes[2:] = 1 << 30, 0
    for row, values in ((0, xs), (1, ys)):
        np.minimum.at(boxes[row], of, values)
        np.maximum.at(boxes[row + 2], of, values + 1)
    return boxes


def _middle(boxes: Numbers, width: int, height: int) -> Numbers:
    """1 for a piece in the middle of the picture, 0 for one at its edge."""
    x, y = (boxes[0] + boxes[2]) / width - 1, (boxes[1] + boxes[3]) / height - 1
    middle: Numbers = 1 - np.maximum(np.abs(x), np.abs(y)).clip(0, 1)
    return middle


def _frames(
    boxes: Numbers,
    of: Numbers,
    ys: Numbers,
    xs: Numbers,
    strength: Numbers,
    weight: Numbers,
    strong: Mask,
    shape: tuple[int, ...],
) -> Mask:
    """Which pieces are printed frames: large, and all of their ink near the sides of their box.

    Near three sides at least, or two where something of weight lies within.
    """
    wide, tall = boxes[2] - boxes[0], boxes[3] - boxes[1]
    insets = (
        (xs - boxes[0][of]) / np.maximum(wide[of], 1),
        (boxes[2][of] - 1 - xs) / np.maximum(wide[of], 1),
        (ys - boxes[1][of]) / np.maximum(tall[of], 1),
        (boxes[3][of] - 1 - ys) / np.maximum(tall[of], 1),
    )
    outer = np.bincount(of, strength**2 * (np.minimum.reduce(insets) < 0.08), len(weight))
    sides = sum(
        (np.bincount(of, strength**2 * (i < 0.08), len(weight)) > 0.15 * weight).astype(int) for i in insets
    )
    large = (wide > 0.4 * shape[1]) & (tall > 0.4 * shape[0])
    frames: Mask = large & (outer > 0.85 * weight) & (sides >= 2)
    for i in np.flatnonzero(frames & (sides == 2)):
        margin = 0.05 * np.array([wide[i], tall[i]])[:, None]
        within = (boxes[:2] > boxes[:2, i, None] + margin) & (boxes[2:] < boxes[2:, i, None] - margin)
        frames[i] = bool((within.all(0) & strong & (weight > 0.05 * weight[i])).any())
    return frames


def _box_around(piece: Mask, box: Numbers) -> Mask | None:
    """The pixels of a printed box that a digit within touches; None where this is no box."""
    left, top, right, bottom = (int(side) for side in box)
    high, wide = bottom - top, right - left
    if min(high, wide) < 0.4 * min(piece.shape):
        return None
    near = max(1, round(0.05 * max(high, wide)))
    rows, columns = slice(top, bottom), slice(left, right)
    result = np.zeros_like(piece)
    sides = 0
    for axis, side in (
        (0, (slice(top, top + near), columns)),
        (0, (slice(bottom - near, bottom), columns)),
        (1, (rows, slice(left, left + near))),
        (1, (rows, slice(right - near, right))),
    ):
        if piece[side].any(axis).mean() > 0.85:
            result[side] = piece[side]
            sides += 1
    return result if sides >= 3 else None


def _neighbours(main: int, boxes: Numbers, weight: Numbers, allowed: Mask) -> Mask:
    """Which pieces belong to the digit: near it, and neither specks nor longer than it."""
    chosen = np.zeros(len(weight), np.bool_)
    chosen[main] = True
    longest = np.maximum(boxes[2] - boxes[0], boxes[3] - boxes[1])
    box = boxes[:, main].copy()
    bar = np.zeros(len(weight), np.bool_)  # above or below, and longer at both ends; or left or right
    for along, across in ((0, 1), (1, 0)):
        both = (boxes[along] < box[along]) & (boxes[along + 2] > box[along + 2])
        bar |= both & ((boxes[across] >= box[across + 2]) | (boxes[across + 2] <= box[across]))
    for _ in range(3):
        long = max(box[2] - box[0], box[3] - box[1])
        gap = np.maximum(
            np.maximum(boxes[0] - box[2], box[0] - boxes[2]), np.maximum(boxes[1] - box[3], box[1] - boxes[3])
        )
        more = allowed & ~chosen & (gap <= 0.2 * long) & (weight >= 0.04 * weight[main])
        more &= (longest <= 1.3 * longest[main]) & ~bar
        if not more.any():
            break
        chosen |= more
        box[:2] = boxes[:2, chosen].min(1)
        box[2:] = boxes[2:, chosen].max(1)
    return chosen
