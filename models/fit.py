"""Any picture of a digit to what a digit model was trained on.

MNIST means light ink on a dark ground, the digit scaled into a 20x20 box with its aspect kept, centred
by mass in 28x28 (yann.lecun.org/exdb/mnist). People send photographs, scans and drawings instead:

    picture -> scaled down -> ground estimated -> ink = what is darker than its ground (or lighter)
            -> ruled lines out -> pieces -> the digit's pieces -> 20x20 -> 28x28

All of it is arithmetic on small arrays: 1000x1000 pixels cost about 2 ms on one core.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.card import Card
from models.errors import NothingFound
from models.images import Grey, exact, page

Fit = Literal["auto", "none"]
Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom just outside
Plane = NDArray[np.float32]  # [height, width]
Numbers = NDArray[Any]  # whole numbers or fractions, one for each pixel or each piece
Mask = NDArray[np.bool_]  # [height, width]

WORK = 112  # pixels along the longer side, to find the digit in
ENOUGH = 800  # pixels along the longer side, of a JPEG that its decoder may shrink
CLOSE = 96  # pixels along the longer side, to look at a small digit again
NARROW, WIDE = 0.1, 0.3  # half of the widest stroke, as a share of the picture
FRAME = 0.15  # ink of a frame at the border
EDGE = 0.3  # ink that still counts for the size of a digit
DIM = 80  # a ground darker than this counts as this one: the grain of the dark is no ink
FAINT = 0.05  # a stroke that takes less of the light than this is no ink
_INVERTED = bytes(range(255, -1, -1))
STROKE = (1.8, 2.2)  # width of strokes in the 20x20 box: thinner ones become at least the first number


@dataclass(frozen=True, slots=True)
class Input:
    """What was done to a picture before the model saw it; `size` and `box` are in its own pixels."""

    size: tuple[int, int]  # width, height
    inverted: bool
    box: Box


@dataclass(frozen=True, slots=True)
class _Ink:
    """Ink 0..1 on a crop of a picture, where in the picture that lies, and the share of light that 1 takes."""

    ink: Plane
    box: Box
    core: float


def read(image: Image.Image, card: Card, fit: Fit = "auto") -> tuple[Grey, Input]:
    """An opened image as the pixels that a model with this card takes, and what was done for that.

    A picture of the card's size and polarity is left as it is. `fit` none takes no other size.

    Raises WrongImageSize (with none), NothingFound (with auto) or BrokenImage.
    """
    height, width = card.input_shape[1:]
    if fit == "none" or sorted(image.size) == [min(height, width), max(height, width)]:
        pixels = exact(image, (height, width), card.ground)
        if fit == "none" or as_trained(pixels.tobytes(), card, image.has_transparency_data):
            return pixels, Input((width, height), False, (0, 0, width, height))
    before = image.size
    sheet = page(image, ENOUGH)
    if (sheet.width < sheet.height) != (before[0] < before[1]):
        before = before[::-1]  # an EXIF rotation was undone
    if card.fit == "digit":
        pixels, inverted, box = fit_digit(sheet, height)
    else:
        pixels, inverted, box = fit_size(sheet, (height, width))
    scale = before[0] / sheet.width
    left, top, right, bottom = (round(scale * side) for side in box)
    if card.polarity == "dark-on-light":
        pixels, inverted = 255 - pixels, not inverted
    return pixels, Input(before, inverted, (left, top, min(right, before[0]), min(bottom, before[1])))


def as_trained(pixels: bytes, card: Card, transparent: bool = False) -> bool:
    """Whether grey pixels of the card's size have its ground, told by the border, and something on it.

    Transparency can hide ink of the ground's own colour: then the ink must stand out.
    """
    ink = pixels if card.ground == 0 else pixels.translate(_INVERTED)  # bytes are quicker than arrays so small
    width = card.input_shape[2]
    border = ink[:width] + ink[-width:] + ink[::width] + ink[width - 1 :: width]
    if sum(border) > 127 * len(border):
        return False
    return max(ink) > 127 if transparent else ink.count(0) < len(ink)


def fit_digit(image: Image.Image, side: int = 28) -> tuple[Grey, bool, Box]:
    """The digit in a picture (grey, "L", or grey with alpha, "LA") as MNIST would show it.

    Returns pixels [side, side], light on dark, whether the picture had to be inverted for that, and
    where the digit was found. Raises NothingFound.
    """
    sheet, inverted = _opaque(image)
    step = -(-max(sheet.size) // WORK)
    small = sheet.reduce(step) if step > 1 else sheet
    dark = inverted is not None or _ink_is_dark(small)
    found = _find(sheet, small, step, dark)
    if found is None and inverted is None:
        dark = not dark
        found = _find(sheet, small, step, dark)
    if found is None:
        raise NothingFound("nothing found in the picture", "send one digit, dark on light or light on dark")
    return _set(found.ink, side), dark if inverted is None else inverted, found.box


def fit_size(image: Image.Image, size: tuple[int, int]) -> tuple[Grey, bool, Box]:
    """A picture as light on dark, made square with its ground, scaled to `size` (height, width).

    Raises NothingFound for a picture of one colour.
    """
    sheet, inverted = _opaque(image)
    pixels = np.asarray(sheet)
    if int(pixels.max()) - int(pixels.min()) < 8:
        raise NothingFound("nothing found in the picture: it has one colour", "send a picture of one thing")
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = int(np.median(border))
    long = max(sheet.size)
    square = Image.new("L", (long, long), ground)
    square.paste(sheet, ((long - sheet.width) // 2, (long - sheet.height) // 2))
    small = np.asarray(square.resize(size[::-1], Image.Resampling.HAMMING))
    dark = ground >= 128
    return (255 - small if dark else small), dark if inverted is None else inverted, (0, 0, *image.size)


def _opaque(image: Image.Image) -> tuple[Image.Image, bool | None]:
    """A picture as opaque grey; and, where only alpha tells the ink, whether that ink is dark.

    Then the picture is the alpha, as dark ink on white.
    """
    if image.mode == "L":
        return image, None
    grey, alpha = image.split()
    step = max(1, max(image.size) // 128)
    seen, shades = np.asarray(alpha.reduce(step)), np.asarray(grey.reduce(step))
    if int(seen.min()) > 127:
        return grey, None
    shade = shades[seen > 127]
    if shade.size == 0 or np.percentile(shade, 95) - np.percentile(shade, 5) < 60:
        ink_is_dark = shade.size == 0 or float(np.median(shade)) < 128
        return ImageOps.invert(alpha), ink_is_dark
    sheet = Image.new("L", image.size, int(np.median(shade)))
    sheet.paste(grey, mask=alpha)
    return sheet, None


def _ink_is_dark(image: Image.Image) -> bool:
    """Strokes take less room than their ground: which side of the local mean is the rarer one?

    The third moment of the detail says so in any light; the border helps where a digit fills the picture.
    """
    step = -(-max(image.size) // 64)
    page = np.asarray(image.reduce(step) if step > 1 else image, np.float32)
    small = max(image.size) < 64  # no photograph: no shadows, and neither a frame whose border lies
    detail = page - (page.mean() if small else _box_blur(page, max(page.shape) // 5))
    spread = float(detail.std()) + 1e-3
    skew = float((detail * detail * detail).mean()) / spread**3
    border = float(np.median(np.concatenate([page[0], page[-1], page[:, 0], page[:, -1]])))
    lighter = (border - float(page.mean())) / (float(page.std()) + 1e-3)
    trust = 2 if small else 0.6
    return min(max(lighter, -trust), trust) - skew > 0


def _find(sheet: Image.Image, small: Image.Image, step: int, dark: bool) -> _Ink | None:
    """The digit's ink: looked for in a small copy, and once more from close by where it is small there."""
    found = _find_in(np.asarray(small, np.float32), dark, step, sheet.size)
    if found is None or step == 1:
        return found
    left, top, right, bottom = found.box
    long = max(right - left, bottom - top)
    if long > 0.5 * max(sheet.size):
        return found
    margin = long // 4 + 2 * step
    left, top = max(left - margin, 0), max(top - margin, 0)
    near = sheet.crop((left, top, min(right + margin, sheet.width), min(bottom + margin, sheet.height)))
    step = -(-max(near.size) // CLOSE)
    page = np.asarray(near.reduce(step) if step > 1 else near, np.float32)
    again = _find_in(page, dark, step, near.size)
    if again is None:
        return found
    x0, y0, x1, y1 = again.box
    return _Ink(again.ink, (x0 + left, y0 + top, x1 + left, y1 + top), again.core)


def _find_in(page: Plane, dark: bool, step: int, size: tuple[int, int]) -> _Ink | None:
    """The digit's ink in a page whose pixels stand for `step` x `step` of the picture's.

    The ground is told from close by, for then shadows are no ink. Where a digit fills the page its strokes
    may be wider than that: then a wider view has more ink, and as strong.
    """
    page = page if dark else 255 - page
    if max(page.shape) < 64:
        return _find_on(_lacking(page, WIDE), step, size)
    near = _lacking(page, NARROW)
    found = _find_on(near.copy(), step, size)
    if found is not None:
        left, top, right, bottom = found.box
        if max((right - left) / size[0], (bottom - top) / size[1]) < 0.8:
            return found
    wide = _lacking(page, WIDE)
    if found is not None and not _more(wide, near, found):
        return found
    return _find_on(wide, step, size) or found


def _more(ink: Plane, before: Plane, found: _Ink) -> bool:
    """Whether there is clearly more of what is as strong as the ink that was found before."""
    strong = 0.7 * found.core
    return bool(np.count_nonzero(ink > strong) > 1.3 * np.count_nonzero(before > strong))


def _find_on(ink: Plane, step: int, size: tuple[int, int]) -> _Ink | None:
    _unframe(ink)
    if max(ink.shape) > 80:
        _unrule(ink)
        _unrule(ink.T)
    strongest = max(6, ink.size // 200)
    third = ink.size // 3
    ranked = np.partition(ink, (third, max(ink.size - strongest, third)), axis=None)
    peak = float(ranked[-strongest:].mean())
    low = max(0.3 * peak, 3 * float(ranked[third]))
    if peak < FAINT or low > 0.8 * peak:
        return None
    kept = _pieces(ink, low, 0.5 * peak)
    if kept is None:
        return None
    ys, xs = np.nonzero(kept.any(1))[0], np.nonzero(kept.any(0))[0]
    y0, y1, x0, x1 = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
    core = float(np.percentile(ink[kept], 60))
    grown = np.s_[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1]
    soft = np.where(_grown(kept, 1), ink, 0)[grown] / core
    floor = 0.4 * low / core
    soft = ((soft - floor) / (0.95 - floor)).clip(0, 1)
    box = (x0 * step, y0 * step, min(x1 * step, size[0]), min(y1 * step, size[1]))
    return _Ink(soft.astype(np.float32), box, core)


def _lacking(page: Plane, view: float) -> Plane:
    """The share of its ground's light that each pixel lacks, 0..1: uneven light falls out of it.

    The ground is a grey closing: whatever is darker and narrower than twice `view` (a share of the
    picture) is filled.
    """
    height, width = page.shape
    step = 1 if max(page.shape) < 64 else 2
    small = np.asarray(Image.fromarray(page).reduce(step)) if step > 1 else page
    radius = max(2, round(max(small.shape) * view))
    ground = _running(_running(small, radius, np.maximum), radius, np.minimum)
    if step > 1:
        ground = np.asarray(Image.fromarray(ground).resize((width, height), Image.Resampling.BILINEAR))
    return ((ground - page) / np.maximum(ground, DIM)).clip(0, 1).astype(np.float32)


def _unframe(ink: Plane) -> None:
    """Take a printed frame that is the picture's very border out of `ink` (in place)."""
    for inset in range(max(1, max(ink.shape) // 24)):
        inner = ink[inset : ink.shape[0] - inset, inset : ink.shape[1] - inset]
        sides = (inner[0], inner[-1], inner[:, 0], inner[:, -1])
        if min(inner.shape) < 3 or min(np.count_nonzero(side > FRAME) / side.size for side in sides) < 0.9:
            return
        for side in sides:
            side[:] = 0


def _unrule(ink: Plane) -> None:
    """Take ruled lines, nearly along the rows, out of `ink` (in place).

    A line is a thin ridge that runs through the whole width at one slope; what is much darker than the
    line stays, for it is ink that crosses it.
    """
    height, width = ink.shape
    strips = width // 8
    if strips < 6:
        return
    coarse = ink[:, : strips * 8].reshape(height, strips, 8).mean(2)
    rows = np.arange(height)[:, None]
    centre = np.arange(strips) - (strips - 1) / 2
    slopes = np.linspace(-0.06, 0.06, 9)
    shifts = np.rint(slopes[:, None] * 8 * centre).astype(int)
    capped = np.minimum(coarse, 0.2)
    levels = capped[(rows + shifts[:, None]).clip(0, height - 1), np.arange(strips)].mean(2)
    at = int(np.square(np.diff(levels, axis=1)).sum(1).argmax())
    slope = slopes[at]
    level = coarse[(rows + shifts[at]).clip(0, height - 1), np.arange(strips)]
    profile = np.partition(level, strips // 6, 1)[:, strips // 6]
    base = _running(_running(profile[:, None], 2, np.minimum, (0,)), 2, np.maximum, (0,))[:, 0]
    ridge = profile - base
    if float(ridge.max()) < 0.02:
        return
    ridge[: height // 16] = ridge[-(height // 16) :] = 0  # the bar of a 7 that was cut out closely
    ridge = np.where(ridge > max(0.015, 0.25 * float(ridge.max())), ridge, 0)
    ridge = _running(ridge[:, None], 1, np.maximum, (0,))[:, 0]
    shift = np.rint(slope * (np.arange(width) - (strips * 8 - 1) / 2)).astype(int)
    line = ridge[(rows - shift).clip(0, height - 1)]
    ink[(line > 0) & (ink < 2.5 * line + 0.05)] = 0


def _pieces(ink: Plane, low: float, high: float) -> Mask | None:
    """The pixels of the digit: the heaviest piece that can be one, and its neighbours of some weight.

    A piece is joined ink above `low` that somewhere is above `high`; gaps of a pixel or two join.
    """
    mask = ink > low
    reach = max(ink.shape) // 70
    labels, count = _labelled(_grown(mask, reach) if reach else mask)
    if count == 0:
        return None
    labels = np.where(mask, labels, 0)
    ys, xs = np.nonzero(labels)
    of = labels[ys, xs]
    strength = ink[ys, xs]
    weight = np.bincount(of, strength**2, count + 1)
    strong = np.bincount(of, strength > high, count + 1) > 0
    height, width = ink.shape
    edge = np.bincount(of, (ys == 0) | (ys == height - 1) | (xs == 0) | (xs == width - 1), count + 1)
    boxes = _boxes(of, ys, xs, count + 1)
    extent = (boxes[2] - boxes[0]) + (boxes[3] - boxes[1])
    along = edge / np.maximum(extent, 1)
    middle = _middle(boxes, width, height)
    wide, tall = boxes[2] - boxes[0], boxes[3] - boxes[1]
    long, short = np.maximum(wide, tall), np.minimum(wide, tall)
    alien = (along > 0.55) | ((long > 0.9 * max(height, width)) & (short < 0.08 * long))
    alien |= _frames(boxes, of, ys, xs, strength, weight, ink.shape)
    score = weight * strong * (0.4 + middle) * np.where(alien, 0.05, 1)
    score[0] = 0
    main = int(score.argmax())
    fills = wide[main] > 0.8 * width and tall[main] > 0.8 * height
    if score[main] <= 0 or (alien[main] and not fills):
        return None
    chosen = _neighbours(main, boxes, weight, ~alien & strong)
    kept: Mask = chosen[labels] & mask
    return kept


def _boxes(of: Numbers, ys: Numbers, xs: Numbers, count: int) -> Numbers:
    """Left, top, right, bottom [4, count] of the pixels of each label."""
    boxes = np.empty((4, count), np.int64)
    boxes[:2], boxes[2:] = 1 << 30, 0
    for row, values in ((0, xs), (1, ys)):
        np.minimum.at(boxes[row], of, values)
        np.maximum.at(boxes[row + 2], of, values + 1)
    return boxes


def _middle(boxes: Numbers, width: int, height: int) -> Numbers:
    """1 for a piece in the middle of the picture, 0 for one at its edge."""
    x, y = (boxes[0] + boxes[2]) / width - 1, (boxes[1] + boxes[3]) / height - 1
    middle: Numbers = 1 - np.maximum(np.abs(x), np.abs(y)).clip(0, 1)
    return middle


def _frames(
    boxes: Numbers,
    of: Numbers,
    ys: Numbers,
    xs: Numbers,
    strength: Numbers,
    weight: Numbers,
    shape: tuple[int, ...],
) -> Mask:
    """Which pieces are printed frames: large, and all of their ink near the sides of their box."""
    wide, tall = boxes[2] - boxes[0], boxes[3] - boxes[1]
    inset = np.minimum(
        np.minimum(xs - boxes[0][of], boxes[2][of] - 1 - xs) / np.maximum(wide[of], 1),
        np.minimum(ys - boxes[1][of], boxes[3][of] - 1 - ys) / np.maximum(tall[of], 1),
    )
    outer = np.bincount(of, strength**2 * (inset < 0.08), len(weight))
    large = (wide > 0.4 * shape[1]) & (tall > 0.4 * shape[0])
    frames: Mask = large & (outer > 0.85 * weight)
    return frames


def _neighbours(main: int, boxes: Numbers, weight: Numbers, allowed: Mask) -> Mask:
    """Which pieces belong to the digit: near it, and neither specks nor heavier things."""
    chosen = np.zeros(len(weight), np.bool_)
    chosen[main] = True
    box = boxes[:, main].copy()
    for _ in range(3):
        long = max(box[2] - box[0], box[3] - box[1])
        gap = np.maximum(
            np.maximum(boxes[0] - box[2], box[0] - boxes[2]), np.maximum(boxes[1] - box[3], box[1] - boxes[3])
        )
        more = allowed & ~chosen & (gap <= 0.2 * long) & (weight >= 0.04 * weight[main])
        if not more.any():
            break
        chosen |= more
        box[:2] = boxes[:2, chosen].min(1)
        box[2:] = boxes[2:, chosen].max(1)
    return chosen


def _set(ink: Plane, side: int) -> Grey:
    """Ink 0..1 on its box into the middle of [side, side], by mass, 0..255.

    The middle is that of the pixel right and below of the centre, as on MNIST (measured: 14.5 of 28).
    """
    inner = side * 20 // 28
    clear = ink > EDGE
    rows, columns = np.flatnonzero(clear.any(1)), np.flatnonzero(clear.any(0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    ink = _thickened(ink, inner)
    height, width = ink.shape
    scale = inner / max(height, width)
    small = Image.fromarray(ink).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))),
        Image.Resampling.HAMMING if scale < 1 else Image.Resampling.BICUBIC,
    )
    digit = np.asarray(small).clip(0, 1)
    digit = digit / max(float(digit.max()), 0.2)
    mass = float(digit.sum())
    height, width = digit.shape
    y = float((digit.sum(1) * (np.arange(height) + 0.5)).sum()) / mass
    x = float((digit.sum(0) * (np.arange(width) + 0.5)).sum()) / mass
    top = min(max(round((side + 1) / 2 - y), 0), side - height)
    left = min(max(round((side + 1) / 2 - x), 0), side - width)
    pixels = np.zeros((side, side), np.uint8)
    pixels[top : top + height, left : left + width] = np.rint(digit * 255)
    return pixels


def _thickened(ink: Plane, inner: int) -> Plane:
    """Thin strokes made as wide as a pen's on MNIST's forms: scaled down they would vanish.

    The width of a stroke is twice its area over the length of its outline.
    """
    padded = np.pad(ink, 1)
    across, down = np.diff(padded, axis=1)[:-1], np.diff(padded, axis=0)[:, :-1]
    outline = float(np.sqrt(across**2 + down**2).sum())
    wide = 2 * float(ink.sum()) / max(outline, 1e-6)
    unit = max(ink.shape) / inner  # pixels of `ink` in one of the box
    if wide >= STROKE[0] * unit:
        return ink
    radius = (STROKE[1] * unit - wide) / 2
    whole = int(radius)
    grown = _running(np.pad(ink, whole + 1), whole, np.maximum)
    return grown + np.float32(radius - whole) * (_running(grown, 1, np.maximum) - grown)


def _running(plane: Plane, radius: int, best: np.ufunc, axes: tuple[int, ...] = (0, 1)) -> Plane:
    """The running maximum or minimum over `radius` pixels each way (fewer at the edges).

    A window that reaches r pixels becomes one that reaches r + s for any s up to 2 r + 1.
    """
    for axis in axes:
        reach = 0
        while reach < min(radius, plane.shape[axis] - 1):
            step = min(2 * reach + 1, radius - reach, plane.shape[axis] - 1)
            low, high = (np.s_[:-step], np.s_[step:]) if axis == 0 else (np.s_[:, :-step], np.s_[:, step:])
            wider = plane.copy()
            best(wider[high], plane[low], out=wider[high])
            best(wider[low], plane[high], out=wider[low])
            plane, reach = wider, reach + step
    return plane


def _grown(mask: Mask, radius: int) -> Mask:
    return _running(mask, radius, np.logical_or)  # type: ignore[arg-type,return-value]


def _box_blur(plane: Plane, radius: int) -> Plane:
    """The mean over `radius` pixels each way (fewer at the edges)."""
    for dim in (0, 1):
        length = plane.shape[dim]
        sums = np.cumsum(np.insert(plane, 0, 0, dim), dim, dtype=np.float64)
        low = (np.arange(length) - radius).clip(0)
        high = (np.arange(length) + radius + 1).clip(max=length)
        share = (high - low).reshape((-1, 1) if dim == 0 else (1, -1))
        plane = ((np.take(sums, high, dim) - np.take(sums, low, dim)) / share).astype(np.float32)
    return plane


def _labelled(mask: Mask) -> tuple[Numbers, int]:
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
