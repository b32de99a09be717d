"""Writes tests/data/strokes.json: test digits of MNIST as a pen would draw them, for the browser tests.

One image of each class from tests/data is skeletonize to lines of one pixel (Zhang and Suen, 1984), and the
lines are followed from end to end. Points are in pixels of the 28x28 image. `python -m tests.make_strokes`
"""

import json
from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tests.conftest import SAMPLE
from training.datasets import load_dataset

Mask = NDArray[np.bool_]  # [28, 28]
Pixel = tuple[int, int]  # row, column
AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))  # clockwise from north
TAKEN = {8: 1}  # which image of its class, where not the first: what thinning left of that no pen draws
SHORTEST = 3  # pixels; what is shorter is a spur of the thinning


def thin(ink: Mask) -> Mask:
    """The middle line of the ink."""
    ink = np.pad(ink, 1)
    while True:
        before = ink.sum()
        for first, second in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            ring = np.stack([np.roll(ink, (-y, -x), (0, 1)) for y, x in AROUND])
            steps = (~ring & np.roll(ring, -1, 0)).sum(0)
            gone = ink & (ring.sum(0) >= 2) & (ring.sum(0) <= 6) & (steps == 1)
            gone &= ~ring[list(first)].all(0) & ~ring[list(second)].all(0)
            ink = ink & ~gone
        if ink.sum() == before:
            return ink[1:-1, 1:-1]


def follow(line: Mask) -> Iterator[list[Pixel]]:
    """Strokes along the line, each from an end where there is one; straight on at crossings, loops closed."""
    every = {(int(y), int(x)) for y, x in np.argwhere(line)}
    left = set(every)
    while left:
        at = min(left, key=lambda pixel: (len(_beside(pixel, left)) != 1, pixel))
        stroke = [at]
        left.remove(at)
        while near := _beside(at, left):
            back = stroke[max(0, len(stroke) - 4)]
            at = max(near, key=partial(_straightness, at, back))
            left.remove(at)
            stroke.append(at)
        drawn = every - left
        ahead = _beside(stroke[-1], drawn - set(stroke[-4:]))[:1]
        behind = _beside(stroke[0], drawn - set(stroke))[:1]
        yield behind + stroke + ahead


def _beside(pixel: Pixel, among: set[Pixel]) -> list[Pixel]:
    """Its neighbours, straight ones first."""
    around = ((pixel[0] + y, pixel[1] + x) for y, x in (*AROUND[::2], *AROUND[1::2]))
    return [found for found in around if found in among]


def _straightness(at: Pixel, back: Pixel, to: Pixel) -> float:
    return _cosine((to[0] - at[0], to[1] - at[1]), (at[0] - back[0], at[1] - back[1]))


def _cosine(a: Pixel, b: Pixel) -> float:
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


def main() -> None:
    data = load_dataset("mnist", SAMPLE)
    images, labels = data.test.images.numpy().reshape(-1, 28, 28), data.test.labels.numpy()
    strokes = {}
    for label in range(10):
        index = int(np.flatnonzero(labels == label)[TAKEN.get(label, 0)])
        lines = [line for line in follow(thin(images[index] > 127)) if len(line) >= SHORTEST]
        strokes[str(label)] = [[[x, y] for y, x in line] for line in lines]
    text = json.dumps(strokes, separators=(",", ":")).replace('],"', '],\n"')
    (SAMPLE / "strokes.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
