"""Lines that a pen follows, as points [n, 2]: x to the right, y downwards; a digit is 1 high, about 0.6 wide.

Angles are in degrees from east, clockwise on the paper: 90 is the bottom of a ring, 180 its left, 270 its top.
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Path = NDArray[np.float64]  # [n, 2]
Point = tuple[float, float]
Strokes = list[Path]

STEP = 12  # degrees between two points of an arc


def arc(
    centre: Point, radii: Point, start: float, sweep: float, grow: float = 1.0, squareness: float = 1.0
) -> Path:
    """A part of an ellipse, clockwise where `sweep` is positive; its radii change by `grow` on the way.

    A `squareness` below 1 fills the corners of its box.
    """
    angles = np.radians(start + np.linspace(0, sweep, max(4, int(abs(sweep) / STEP))))
    scale = np.linspace(1, grow, len(angles))
    directions = np.stack([np.cos(angles), np.sin(angles)], 1)
    directions = np.sign(directions) * np.abs(directions) ** squareness
    return np.array(centre) + directions * np.array(radii) * scale[:, None]


def bow(a: Point, b: Point, sag: float = 0.0) -> Path:
    """From `a` to `b`, bent to the left of the way (to the right where negative) by `sag` of its length."""
    t = np.linspace(0, 1, 9)[:, None]
    start, end = np.array(a), np.array(b)
    across = (end - start)[::-1] * np.array([1, -1])
    return start + (end - start) * t + across * (4 * sag * t * (1 - t))


def wave(a: Point, b: Point, height: float) -> Path:
    """From `a` to `b` with a hill and a dale, each `height` of its length."""
    t = np.linspace(0, 1, 13)[:, None]
    start, end = np.array(a), np.array(b)
    across = (end - start)[::-1] * np.array([1, -1])
    return start + (end - start) * t + across * (height * np.sin(2 * np.pi * t))


def bend(a: Point, towards: Point, b: Point) -> Path:
    """From `a` to `b`, leaving and arriving in the directions of `towards`."""
    t = np.linspace(0, 1, 11)[:, None]
    return np.array(a) * (1 - t) ** 2 + np.array(towards) * (2 * t * (1 - t)) + np.array(b) * t**2


def through(points: Sequence[Point]) -> Path:
    """A smooth line through points (Catmull and Rom)."""
    p = np.array(points, np.float64)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, 8, endpoint=False)[:, None, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    line = b + t * (c - a) / 2 + t**2 * (a - 2.5 * b + 2 * c - d / 2) + t**3 * (1.5 * (b - c) + (d - a) / 2)
    return np.concatenate([line.transpose(1, 0, 2).reshape(-1, 2), p[-2:-1]])


def join(*parts: Path) -> Path:
    """One stroke of several parts; what is between two of them is a straight line."""
    return np.concatenate(parts)


def end_of(path: Path) -> Point:
    """Its last point."""
    return float(path[-1, 0]), float(path[-1, 1])


def chance(random: Generator, share: float) -> bool:
    """True in this share of the draws."""
    return bool(random.random() < share)
