"""Grey and binary morphology on small pictures, under the names of skimage.morphology."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]  # [height, width]
Numbers = NDArray[Any]  # whole numbers or fractions, one for each pixel or each piece
Mask = NDArray[np.bool_]  # [height, width]
Image = TypeVar("Image", Plane, Mask)


def dilation(image: Image, radius: int, axes: tuple[int, ...] = (0, 1)) -> Image:
    """The maximum over a square of `radius` pixels each way (fewer at the edges)."""
    return _rank(image, radius, np.maximum, axes)


def erosion(image: Image, radius: int, axes: tuple[int, ...] = (0, 1)) -> Image:
    """The minimum over a square of `radius` pixels each way (fewer at the edges)."""
    return _rank(image, radius, np.minimum, axes)


def _rank(image: Image, radius: int, best: np.ufunc, axes: tuple[int, ...]) -> Image:
    """The running maximum or minimum.

    A window that reaches r pixels becomes one that reaches r + s for any s up to 2 r + 1.
    """
    for axis in axes:
        reach = 0
        while reach < min(radius, image.shape[axis] - 1):
            step = min(2 * reach + 1, radius - reach, image.shape[axis] - 1)
            low, high = (np.s_[:-step], np.s_[step:]) if axis == 0 else (np.s_[:, :-step], np.s_[:, step:])
            wider = image.copy()
            best(wider[high], image[low], out=wider[high])
            best(wider[low], image[high], out=wider[low])
            image, reach = wider, reach + step
    return image


def box_blur(plane: Plane, radius: int) -> Plane:
    """The mean over `radius` pixels each way (fewer at the edges)."""
    for dim in (0, 1):
        length = plane.shape[dim]
        sums = np.cumsum(np.insert(plane, 0, 0, dim), dim, dtype=np.float64)
        low = (np.arange(length) - radius).clip(0)
        high = (np.arange(length) + radius + 1).clip(max=length)
        share = (high - low).reshape((-1, 1) if dim == 0 else (1, -1))
        plane = ((np.take(sums, high, dim) - np.take(sums, low, dim)) / share).astype(np.float32)
    return plane


def label(mask: Mask) -> tuple[Numbers, int]:
    """Pixels that touch (corners too) under one number from 1, 0 elsewhere; and the highest number.

    Works on the runs of each row: runs that overlap in neighbouring rows take the smaller number until
    nothing changes.
    """
    width = mask.shape[1]
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    row = width + 1
    first = np.searchsorted(ends, starts + row, "left")
    last = np.searchsorted(starts, ends + row, "right")
    touching = np.maximum(last - first, 0)
    a = np.repeat(np.arange(len(starts)), touching)
    b = np.arange(len(a)) - np.repeat(np.cumsum(touching) - touching, touching) + np.repeat(first, touching)
    root = np.arange(len(starts))
    while len(a):
        smaller = np.minimum(root[a], root[b])
        new = root.copy()
        for ends_of in (root[a], root[b], a, b):
            np.minimum.at(new, ends_of, smaller)
        new = new[new]
        if np.array_equal(new, root):
            break
        root = new
    names, number = np.unique(root, return_inverse=True)
    labels = np.zeros(mask.shape, np.int64)
    labels[mask] = np.repeat(number + 1, ends - starts)
    return labels, len(names)


def stroke_width(ink: Plane) -> float:
    """Twice the area of ink over the length of its outline, in pixels."""
    padded = np.pad(ink, 1)
    across, down = np.diff(padded, axis=1)[:-1], np.diff(padded, axis=0)[:, :-1]
    outline = float(np.sqrt(across**2 + down**2).sum())
    return 2 * float(ink.sum()) / max(outline, 1e-6)
