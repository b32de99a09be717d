"""The ground that a digit is written on, in any light, and what is darker than it."""

import numpy as np
from PIL import Image

from models.preprocessing.morphology import Mask, Plane, dilation, erosion, label

SMALL = 64  # pixels along the longer side: smaller pictures are no photographs, but cut out closely
NARROW, WIDE = 0.1, 0.3  # half of the widest stroke, as a share of the picture
DIM = 80  # a ground darker than this counts as this one: the grain of the dark is no ink
BETWEEN = 0.3  # share of the page that is neither sheet nor table, at most
AROUND = 0.6  # share of the border that is no sheet, where a sheet lies on a table


def black_tophat(page: Plane, view: float) -> tuple[Plane, Plane]:
    """The share of its ground's light that each pixel lacks, 0..1, and that ground: uneven light falls out.

    The ground is a grey closing: whatever is darker and narrower than twice `view` (a share of the
    picture) is filled.
    """
    height, width = page.shape
    step = 1 if max(page.shape) < SMALL else 2
    small = np.asarray(Image.fromarray(page).reduce(step)) if step > 1 else page
    radius = max(2, round(max(small.shape) * view))
    ground = erosion(dilation(small, radius), radius)
    if view == NARROW:
        ground = reconstruction(ground, small, 2 * radius)
    if step > 1:
        ground = np.asarray(Image.fromarray(ground).resize((width, height), Image.Resampling.BILINEAR))
    return ((ground - page) / np.maximum(ground, DIM)).clip(0, 1).astype(np.float32), ground


def reconstruction(ground: Plane, page: Plane, times: int) -> Plane:
    """A ground that takes in what hangs together with its dark parts: corners of shadows, strips of a table.

    This is reconstruction by erosion (Vincent, "Morphological grayscale reconstruction in image analysis",
    1993), ended after so many pixels, for what crosses a shadow is ink.
    """
    ground, page = np.rint(ground).astype(np.uint8), np.rint(page).astype(np.uint8)  # bytes are quicker
    for _ in range(times):
        np.minimum(ground[1:], ground[:-1], out=ground[1:])
        np.minimum(ground[:-1], ground[1:], out=ground[:-1])
        np.minimum(ground[:, 1:], ground[:, :-1], out=ground[:, 1:])
        np.minimum(ground[:, :-1], ground[:, 1:], out=ground[:, :-1])
        np.maximum(ground, page, out=ground)
    return ground.astype(np.float32)


def sheet_on(ground: Plane) -> Mask | None:
    """Where a sheet lies that is clearly brighter than what is around it; None where there is none.

    It is one piece, nearly as large as its box, its edge is sharp, and most of the border is not sheet.
    """
    height, width = ground.shape
    ground = ground[::2, ::2]
    tenth = ground.size // 10
    ranked = np.partition(ground, (tenth, ground.size - 1 - tenth), axis=None)
    low, high = float(ranked[tenth]), float(ranked[-1 - tenth])
    if low >= 0.8 * high:
        return None
    between = (ground > low + 0.35 * (high - low)) & (ground < low + 0.65 * (high - low))
    if np.count_nonzero(between) > BETWEEN * ground.size:
        return None
    threshold = (low + high) / 2
    for _ in range(3):  # towards the middle of the two means (Ridler and Calvard, 1978)
        threshold = float(ground[ground <= threshold].mean() + ground[ground > threshold].mean()) / 2
    dark = ground <= threshold
    border = np.concatenate([dark[0], dark[-1], dark[:, 0], dark[:, -1]])
    if np.count_nonzero(border) < AROUND * border.size:
        return None
    labels, count = label(dark)
    outside = np.zeros(count + 1, np.bool_)
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        outside[side] = True
    outside[0] = False
    labels, count = label(~dilation(outside[labels], 1))  # without the grain of the table
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    sheet = dilation(labels == sizes.argmax(), 1)
    ys, xs = np.nonzero(sheet)
    box = (np.ptp(ys) + 1) * (np.ptp(xs) + 1)
    if len(ys) < 0.6 * box or box < 0.1 * ground.size:
        return None
    inner, outer = ~dilation(~sheet, 1), dilation(sheet, 1)
    within, beyond = inner & dilation(~inner, 1), dilation(outer, 1) & ~outer
    if not (within.any() and beyond.any()):
        return None
    if ground[within].mean() - ground[beyond].mean() < 0.4 * (high - low):
        return None
    return np.repeat(np.repeat(inner, 2, 0), 2, 1)[:height, :width]
