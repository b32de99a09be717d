"""Clean digits as a page's canvas leaves them: strokes of our own, a round pen of one width, smooth edges."""

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from models.preprocessing.decode import Grey
from tests.strokes import WRITTEN

SMOOTH = 4  # pixels drawn along each pixel


def drawn(
    label: int,
    way: int = 0,
    pen: float = 20,
    size: float = 0.7,
    at: tuple[float, float] = (0.5, 0.5),
    side: int = 280,
) -> Grey:
    """A digit as ink 0..255 on a canvas of `side` pixels.

    `size` 1 is 0.7 of the canvas high, without the pen's own width (pixels of 280); `at` is where in the
    room that is left, from left and top.
    """
    ways = WRITTEN[label]
    strokes = ways[way % len(ways)]
    unit = side * SMOOTH / 280
    wide, tall = 196 * size * 0.6 * unit, 196 * size * unit
    radius = pen / 2 * unit
    room = side * SMOOTH - np.array([wide, tall]) - 2 * radius
    left, top = room.clip(0) * at + radius
    canvas = Image.new("L", (side * SMOOTH, side * SMOOTH))
    draw = ImageDraw.Draw(canvas)
    for stroke in strokes:
        points = [(left + x * wide, top + y * tall) for x, y in stroke]
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        for a, b in pairwise(points):
            draw.line([a, b], fill=255, width=max(1, round(2 * radius)))
    return np.asarray(canvas.reduce(SMOOTH))
