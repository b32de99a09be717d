"""Where digits that touch can be cut apart: paths from top to bottom that cross little ink.

Source of the idea: Wang and Jean, "Segmentation of merged characters by neural networks and shortest path",
Pattern Recognition 27 (1994). Which cuts are digits' ends is not decided here: too many are proposed, and a
classifier chooses (`models.numbers`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.preprocessing.morphology import Mask, Plane

# Lengths are shares of the height of the line:
BAND = 0.2  # how far a path may stray to either side
STEP = 0.05  # between paths that are tried
APART = 0.14  # between two cuts, and from a cut to the end of the ink
SIDEWAYS = 0.12  # cost of a step to the side, in pixels of ink that are crossed
MOST_INK = 3.2  # that a cut crosses, in widths of a stroke
DENSITY = 2.2  # cuts, at most, for each height of width
MOST_CUTS = 12
SMALLEST = 0.06  # share of the ink that is cut off at least


@dataclass(frozen=True, slots=True)
class Cut:
    """A path through a component."""

    columns: NDArray[np.intp]  # of each row: the first column that is right of the path
    ink: float  # crossed, in widths of a stroke


def propose_cuts(ink: Plane, height: float, stroke: float) -> list[Cut]:
    """Cuts of a component's ink [rows, columns], from left to right; `stroke` is the width of its strokes."""
    rows, width = ink.shape
    most = min(MOST_CUTS, round(DENSITY * width / height))
    band = max(2, round(BAND * height))
    centres = np.arange(max(2, round(APART * height)), width - max(2, round(APART * height)) + 1)
    centres = centres[:: max(1, round(STEP * height))]
    if most < 1 or len(centres) == 0 or rows < 4:
        return []
    costs, paths = _paths(ink, centres, band)
    chosen: list[int] = []
    middles = paths.mean(1)
    for i in np.argsort(costs, kind="stable"):
        if len(chosen) == most or costs[i] > MOST_INK * stroke:
            break
        if all(abs(middles[i] - middles[j]) >= APART * height for j in chosen) and _parts(ink, paths[i]):
            chosen.append(int(i))
    return [Cut(paths[i], float(costs[i]) / stroke) for i in sorted(chosen, key=lambda i: middles[i])]


def left_of(cut: Cut, width: int) -> Mask:
    """What lies left of a cut, [rows, width]."""
    left: Mask = np.arange(width) < cut.columns[:, None]
    return left


def _paths(ink: Plane, centres: NDArray[np.intp], band: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """The cheapest path through the band around each centre: its cost, and its column in each row."""
    rows, width = ink.shape
    padded = np.pad(ink, ((0, 0), (band, band)))
    windows = sliding_window_view(padded, 2 * band + 1, axis=1)[:, centres]  # [rows, paths, band]
    side = np.float32(SIDEWAYS)
    cost = windows[0] + side * np.abs(np.arange(-band, band + 1, dtype=np.float32))
    moves = np.zeros((rows, *cost.shape), np.int8)
    far = np.full((len(centres), 1), np.inf, np.float32)
    for row in range(1, rows):
        choices = np.stack(
            [
                cost,
                np.concatenate([far, cost[:, :-1]], 1) + side,
                np.concatenate([cost[:, 1:], far], 1) + side,
            ]
        )
        moves[row] = choices.argmin(0)
        cost = choices.min(0) + windows[row]
    at = cost.argmin(1)
    total = cost.min(1)
    columns = np.empty((len(centres), rows), np.intp)
    every = np.arange(len(centres))
    for row in range(rows - 1, -1, -1):
        columns[:, row] = at
        at = at + np.array([0, -1, 1])[moves[row, every, at]]
    return total, (columns + centres[:, None] - band).clip(0, width)


def _parts(ink: Plane, path: NDArray[np.intp]) -> bool:
    """Whether a path leaves ink of some weight on both sides."""
    left = float(ink[np.arange(ink.shape[1]) < path[:, None]].sum())
    whole = float(ink.sum())
    return SMALLEST * whole < left < (1 - SMALLEST) * whole
