"""Ink: digits of MNIST or of our own hands, drawn large with pens of many widths."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from training.synthetic.hands import DIGITS_OF_A_HAND, Hand, Ink, ink_of

OUR_SHARE = 0.4  # of the digits, written by our hands
TALL = 0.7  # of the box: height of what they write


def enlarged(digit: NDArray[np.uint8], side: int, random: Generator) -> Ink:
    """A MNIST digit [28, 28] as a drawing of about `side` pixels, its edges sharp again."""
    large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    soft = np.asarray(large.filter(ImageFilter.GaussianBlur(side / 60)), np.float32) / 255
    return np.clip((soft - random.uniform(0.3, 0.5)) * side / 20 + 0.5, 0, 1).astype(np.float32)


def resized(digit: NDArray[np.uint8], side: int) -> Ink:
    """A MNIST digit [28, 28] as it is, with its soft edges."""
    large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(large, np.float32) / np.float32(255)


def traced(digit: NDArray[np.uint8], side: int, width: float, random: Generator) -> Ink:
    """A MNIST digit as a pen of one width (a share of `side`) would follow its middle line."""
    large = Image.fromarray(digit).resize((112, 112), Image.Resampling.BICUBIC)
    ys, xs = np.nonzero(skeletonize(np.asarray(large) > 110))
    wave = random.normal(0, 1.2, (2, 4)), random.uniform(0, 6.28, (2, 4))
    shake = [
        sum(a * np.sin((i + 1) * (xs + ys) / 25 + p) / (i + 1) for i, (a, p) in enumerate(zip(*w, strict=True)))
        for w in zip(*wave, strict=True)
    ]
    points = zip((xs + shake[0]) / 112, (ys + shake[1]) / 112, strict=True)
    return dots([(float(x), float(y)) for x, y in points], side, width)


def dots(points: list[tuple[float, float]], side: int, width: float) -> Ink:
    """Where a pen of one width (a share of `side`) has been, at x and y in shares of `side`."""
    image = Image.new("L", (side * 2, side * 2))
    draw = ImageDraw.Draw(image)
    r = max(width * side, 1.0)
    for x, y in points:
        draw.ellipse((x * side * 2 - r, y * side * 2 - r, x * side * 2 + r, y * side * 2 + r), fill=255)
    return (np.asarray(image.reduce(2)) / 255).astype(np.float32)


def skeletonize(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The middle line of a shape (Zhang and Suen, 1984)."""
    mask = np.pad(mask, 1)
    changed = True
    while changed:
        changed = False
        for odd in (False, True):
            n = [np.roll(mask, (-dy, -dx), (0, 1)) for dy, dx in _RING]
            count = np.sum(n, axis=0)
            turns = sum((~a & b).astype(int) for a, b in zip(n, n[1:] + n[:1], strict=True))
            up, right, down, left = n[0], n[2], n[4], n[6]
            edges = (
                ~(up & right & left) & ~(up & down & left)
                if odd
                else ~(up & right & down) & ~(right & down & left)
            )
            gone = mask & (count >= 2) & (count <= 6) & (turns == 1) & edges
            changed |= bool(gone.any())
            mask = mask & ~gone
    return mask[1:-1, 1:-1]


_RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


class Writer:
    """Writes digits on request, in the shapes of MNIST or by hands of our own."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        random: Generator,
        our_share: float = OUR_SHARE,
    ) -> None:
        self.images, self.labels, self.random, self.our_share = images, labels, random, our_share
        self._hand: Hand | None = None
        self._written = 0

    def ink(self, label: int, side: int, width: float | None = None) -> Ink:
        """A digit in a box of `side` pixels; with strokes of `width` (a share of `side`), or as they are."""
        if self.random.random() < self.our_share:
            return self._by_hand(label, side, width)
        digit = self._digit(label)
        if width is None:
            return enlarged(digit, side, self.random)
        return traced(digit, side, width, self.random)

    def _by_hand(self, label: int, side: int, width: float | None) -> Ink:
        """By the hand of the digits before, or from time to time by another."""
        if self._hand is None or self._written % DIGITS_OF_A_HAND == 0:
            self._hand = Hand.any(self.random)
        self._written += 1
        ink = ink_of(label, self._hand, max(1, round(TALL * side)), self.random, width and width / TALL)
        box = np.zeros((side, side), np.float32)
        top, left = (side - ink.shape[0]) // 2, (side - ink.shape[1]) // 2
        box[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
        return box

    def copied(self, label: int, side: int) -> Ink:
        """A digit of MNIST in a box of `side` pixels, as it is."""
        return resized(self._digit(label), side)

    def _digit(self, label: int) -> NDArray[np.uint8]:
        return self.images[self.random.choice(np.nonzero(self.labels == label)[0])]
