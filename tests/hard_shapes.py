"""Digits in shapes that MNIST's writers hardly draw, point by point: a set to develop with, never to train on.

None of them comes from the programs of `training.synthetic`. Strokes that are `round` are smooth lines through
their points, the others straight from point to point. Digits are 1 high, y downwards.
"""

import json
from collections.abc import Iterator
from itertools import product

import numpy as np
from PIL import Image, ImageDraw

from models.preprocessing.decode import Grey
from models.preprocessing.preprocess import preprocess_digit
from tests.conftest import SAMPLE
from training.synthetic.curves import Path, through

SHAPES = SAMPLE / "hard_shapes.json"
PENS = (0.05, 0.09, 0.14)  # of the height
SLANTS = (-0.15, 0.0, 0.2, 0.4)
ROOM = 24  # pixels around a fine drawing


def drawings() -> Iterator[tuple[int, str, Grey]]:
    """Every shape with every pen and slant, finely and as a small bitmap: label, name, ink 0..255."""
    for shape in json.loads(SHAPES.read_text()):
        lines = [
            through(stroke["points"]) if stroke["round"] else np.array(stroke["points"])
            for stroke in shape["strokes"]
        ]
        for pen, slant in product(PENS, SLANTS):
            ink = _drawn(lines, pen, slant)
            yield shape["label"], shape["name"], np.pad(ink, ROOM)
            small = Image.fromarray(ink).resize((16, 16), Image.Resampling.BOX)
            yield shape["label"], shape["name"], np.where(np.asarray(small) > 80, 255, 0).astype(np.uint8)


def images() -> tuple[Grey, list[int], list[str]]:
    """All of them as a model sees them: [N, 28, 28], labels, names."""
    labels, names, pictures = zip(*drawings(), strict=True)
    return np.stack([preprocess_digit(Image.fromarray(p))[0] for p in pictures]), list(labels), list(names)


def _drawn(lines: list[Path], pen: float, slant: float, side: int = 160) -> Grey:
    """Ink without room around it, `side` pixels high; a bitmap of it widens it at most twice."""
    lines = [line @ np.array([[1, 0], [-slant, 1]]) for line in lines]
    every = np.concatenate(lines)
    low, high = every.min(0) - pen / 2, every.max(0) + pen / 2
    wide, tall = (int(np.ceil(side * v)) for v in high - low)
    canvas = Image.new("L", (wide, tall))
    draw = ImageDraw.Draw(canvas)
    for line in lines:
        points = [(float(x), float(y)) for x, y in (line - low) * side]
        draw.line(points, 255, round(pen * side), "curve")
        for x, y in points:
            r = pen * side / 2
            draw.ellipse((x - r, y - r, x + r, y + r), 255)
    ink = np.asarray(canvas)
    room = max(0, (tall // 2 - wide) // 2)
    return np.pad(ink, ((0, 0), (room, room)))
