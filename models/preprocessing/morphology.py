"""Grey and binary morphology on small images, under the names of skimage.morphology and skimage.measure."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]  # [height, width]
Mask = NDArray[np.bool_]  # [height, width]
Labels = NDArray[np.int64]  # [height, width], 0 where there is nothing
Values = NDArray[Any]  # one number for each pixel or each component
Image = TypeVar("Image", Plane, Mask)


def dilation(image: Image, radius: int, axes: tuple[int, ...] = (0, 1)) -> Image:
    """The maximum over a square of `radius` pixels each way (fewer at the edges)."""
    return _rank(image, radius, np.maximum, axes)


def erosion(image: Image, radius: int, axes: tuple[int, ...] = (0, 1)) -> Image:
    """The minimum over a square of `radius` pixels each way (fewer at the edges)."""
    return _rank(image, radius, np.minimum, axes)


def closing(image: Image, radius: int) -> Image:
    """Dilation, then erosion: dark parts narrower than twice `radius` are filled."""
    return erosion(dilation(image, radius), radius)


def closing_beyond(image: Plane, radius: int) -> Plane:
    """The same of an image that goes on beyond its edges as it ends there: a dark strip along them stays."""
    height, width = image.shape
    rows = np.arange(-radius, height + radius).clip(0, height - 1)
    columns = np.arange(-radius, width + radius).clip(0, width - 1)
    closed = closing(image[rows[:, None], columns], radius)
    return closed[radius : radius + height, radius : radius + width]


def opening(image: Image, radius: int, axes: tuple[int, ...] = (0, 1)) -> Image:
    """Erosion, then dilation: bright parts narrower than twice `radius` are removed."""
    return dilation(erosion(image, radius, axes), radius, axes)


def grow(ink: Plane, radius: float) -> Plane:
    """Ink 0..1 dilated (or, below 0, eroded) by a fraction of pixels, padded so far that nothing is cut off."""
    step = dilation if radius > 0 else erosion
    whole = int(abs(radius))
    grown = step(framed(ink, whole + 1), whole)
    return grown + np.float32(abs(radius) - whole) * (step(grown, 1) - grown)


def _rank(image: Image, radius: int, extreme: np.ufunc, axes: tuple[int, ...]) -> Image:
    """The running maximum or minimum.

    A window that reaches r pixels becomes one that reaches r + s for any s up to 2 r + 1.
    """
    for axis in axes:
        reach = 0
        while reach < min(radius, image.shape[axis] - 1):
            step = min(2 * reach + 1, radius - reach, image.shape[axis] - 1)
            low, high = (np.s_[:-step], np.s_[step:]) if axis == 0 else (np.s_[:, :-step], np.s_[:, step:])
            wider = image.copy()
            extreme(wider[high], image[low], out=wider[high])
            extreme(wider[low], image[high], out=wider[low])
            image, reach = wider, reach + step
    return image


def reconstruction(seed: Plane, mask: Plane, iterations: int) -> Plane:
    """Reconstruction by erosion: `seed` (grey levels 0..255) sinks from pixel to pixel, never below `mask`.

    It ends after so many iterations, each of which reaches one pixel further. Source: Vincent,
    "Morphological grayscale reconstruction in image analysis" (1993).
    """
    level, floor = np.rint(seed).astype(np.uint8), np.rint(mask).astype(np.uint8)  # bytes are faster
    for _ in range(iterations):
        np.minimum(level[1:], level[:-1], out=level[1:])
        np.minimum(level[:-1], level[1:], out=level[:-1])
        np.minimum(level[:, 1:], level[:, :-1], out=level[:, 1:])
        np.minimum(level[:, :-1], level[:, 1:], out=level[:, :-1])
        np.maximum(level, floor, out=level)
    return level.astype(np.float32)


def box_blur(plane: Plane, radius: int) -> Plane:
    """The mean over a square of `radius` pixels each way (fewer at the edges)."""
    for axis in (0, 1):
        length = plane.shape[axis]
        sums = np.zeros([size + (dimension == axis) for dimension, size in enumerate(plane.shape)])
        np.cumsum(plane, axis, np.float64, sums[1:] if axis == 0 else sums[:, 1:])
        low = (np.arange(length) - radius).clip(0)
        high = (np.arange(length) + radius + 1).clip(max=length)
        share = (high - low).reshape((-1, 1) if axis == 0 else (1, -1))
        plane = ((np.take(sums, high, axis) - np.take(sums, low, axis)) / share).astype(np.float32)
    return plane


def framed(image: Image, width: int) -> Image:
    """With so many pixels of 0 around it; np.pad takes ten times as long."""
    height, wide = image.shape
    result = np.zeros((height + 2 * width, wide + 2 * width), image.dtype)
    result[width : width + height, width : width + wide] = image
    return result


def label(mask: Mask) -> tuple[Labels, int]:
    """Connected components (corners connect too), numbered from 1, and how many there are.

    Works on the runs of each row: runs that overlap in neighbouring rows take the smaller number until
    nothing changes.
    """
    width = mask.shape[1]
    rows = np.zeros((mask.shape[0], width + 2), np.int8)
    rows[:, 1:-1] = mask
    edges = rows[:, 1:] - rows[:, :-1]
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    row = width + 1
    first = np.searchsorted(ends, starts + row, "left")
    last = np.searchsorted(starts, ends + row, "right")
    touching = np.maximum(last - first, 0)
    a = np.repeat(np.arange(len(starts)), touching)
    b = np.arange(len(a)) - np.repeat(np.cumsum(touching) - touching, touching) + np.repeat(first, touching)
    root = np.arange(len(starts))
    while len(a):
        one, other = root[a], root[b]
        apart = one != other
        if not apart.any():
            break
        a, b, one, other = a[apart], b[apart], one[apart], other[apart]  # the rest stays together
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(root, further := root[root]):
            root = further
    roots, number = np.unique(root, return_inverse=True)
    labels = np.zeros(mask.shape, np.int64)
    labels[mask] = np.repeat(number + 1, ends - starts)
    return labels, len(roots)


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is set; right and bottom just outside. `mask` is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def border(image: Values) -> Values:
    """The outermost pixels of an image, in one row; corners count twice."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def rectangularity(mask: Mask) -> float:
    """The area of what is set, as a share of the smallest rectangle around it, at any angle."""
    ys, xs = np.nonzero(mask)
    angles = np.arange(36)[:, None] * np.pi / 72
    along, across = xs * np.cos(angles) + ys * np.sin(angles), ys * np.cos(angles) - xs * np.sin(angles)
    return float(len(ys) / ((np.ptp(along, axis=1) + 1) * (np.ptp(across, axis=1) + 1)).min())


def stroke_width(ink: Plane) -> float:
    """Twice the area of ink over the length of its outline, in pixels."""
    padded = framed(ink, 1)
    across, down = (padded[:, 1:] - padded[:, :-1])[:-1], (padded[1:] - padded[:-1])[:, :-1]
    outline = float(np.sqrt(across**2 + down**2).sum())
    return 2 * float(ink.sum()) / max(outline, 1e-6)
