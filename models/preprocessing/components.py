"""Connected components of ink, their features, and the rules that tell what cannot be a digit."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.preprocessing.morphology import Labels, Mask, Plane, Values, dilation, label

# Rules that tell a component from a digit; all of them only in pictures that may be photographs (SMALL):
ALONG = 0.4  # touches the border with more than this share of its width and height: a table, a shadow
AROUND = 1.2  # a digit that was cut out closely touches all sides, but less than this
FILLS = 0.8  # share of the picture's width and height that such a digit has
LINE_LONG, LINE_THIN = 0.9, 0.08  # a ruled line or an edge: share of the picture, share of its own length
PEN_LONG, PEN_THIN = 0.5, 0.2  # a pen or a finger that comes in from the border: the same shares
SOFT = 0.25  # twice its area over its outline, as a share of its longer side: a shadow has no edge

FRAME_NEAR = 0.08  # share of its width and height in which a printed frame has its ink
FRAME_LARGE = 0.4  # share of the picture's width and height that a frame has at least
FRAME_WEIGHT = 0.85  # share of its weight that is near its sides
FRAME_SIDE = 0.15  # share of its weight that is near each of them
FRAME_CONTENT = 0.05  # weight of what stands inside a frame of two sides, as a share of the frame's


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
            boxes=boxes_of(number, ys, xs, count + 1),
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


def boxes_of(number: Values, ys: Values, xs: Values, count: int) -> Values:
    """Left, top, right, bottom [4, count] of the pixels of each component."""
    boxes = np.empty((4, count), np.int64)
    boxes[:2], boxes[2:] = 1 << 30, 0
    for row, values in ((0, xs), (1, ys)):
        np.minimum.at(boxes[row], number, values)
        np.maximum.at(boxes[row + 2], number, values + 1)
    return boxes
