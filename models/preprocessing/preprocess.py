"""Any picture of a digit to what a digit model was trained on.

MNIST means light ink on a dark ground, the digit scaled into a 20x20 box with its aspect kept, centred
by mass in 28x28 (yann.lecun.org/exdb/mnist). People send photographs, scans and drawings instead:

    picture -> scaled down -> background: what is darker than it (or lighter) may be ink
            -> lines: ruled lines and frames out -> components: which are the digit's -> 20x20 -> 28x28

All of it is arithmetic on small arrays: 1000x1000 pixels cost 3 to 9 ms on one core.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from models.errors import NothingFound
from models.preprocessing.background import SMALL
from models.preprocessing.decode import Grey, load, load_exact, load_picture, orientation, wrong_size
from models.preprocessing.drawing import find_levels
from models.preprocessing.grey import flatten
from models.preprocessing.ink import Box, Ink
from models.preprocessing.morphology import Plane, border, bounding_box, grow, stroke_width
from models.preprocessing.pictures import Pixels, Resize, to_pixels
from models.preprocessing.polarity import ink_is_dark
from models.preprocessing.segmentation import refine, segment, segment_drawing

PreprocessMode = Literal["auto", "none"]
WORK = 112  # pixels along the longer side, to find the digit in
ENOUGH = 400  # pixels along the longer side, of a JPEG that its decoder may shrink
EDGE = 0.3  # ink that still counts for the size of a digit
THINNEST, THICKENED = 1.8, 2.2  # width of strokes in the 20x20 box: thinner ones become the second number
THICKEST, THINNED = 4.5, 4.0  # the same for wider ones; 1 % of MNIST's training digits are wider than 4.5
ONE_COLOUR = 8  # grey levels between the darkest and the lightest pixel of a blank picture
DIM = 192  # pixels as trained have something at least this bright; all images of MNIST and Fashion-MNIST do
QUIET = 16  # grey level of the background of a digit as trained, at most; MNIST has 0
QUIET_MEAN = 13  # mean of the border once the background is black; MNIST has at most 9
ONE_SIDED = 4  # times further from the background the brightest pixel is than the darkest
NOISE = 24  # grey levels that an uneven background may reach
PADDED = 1024  # pixels along the longer side of a picture that is made square
_INVERTED = bytes(range(255, -1, -1))
_DIM = bytes(range(DIM))


class InputSpec(Protocol):
    """What of a model's card decides how a picture becomes its input. (`models.card` would bring pydantic and
    more into the decoding processes.)"""

    @property
    def shape(self) -> tuple[int, int, int]: ...  # channels, height, width

    @property
    def polarity(self) -> Literal["light-on-dark", "dark-on-light"] | None: ...

    @property
    def preprocessing(self) -> Literal["digit", "size", "picture"]: ...

    @property
    def resize(self) -> Resize: ...

    @property
    def ground(self) -> int: ...  # 0..255, the grey of what is not ink


@dataclass(frozen=True, slots=True)
class Look:
    """The first look at a picture."""

    picture: Image.Image  # grey
    inverted: bool | None  # where its transparency decided: whether its ink is dark
    found: Ink | None  # the digit, where there is one
    step: int  # pixels of the picture to one of this look


@dataclass(frozen=True, slots=True)
class InputInfo:
    """What was done to a picture before the model saw it; `size` and `box` are in its own pixels."""

    size: tuple[int, int]  # width, height
    inverted: bool
    box: Box


def read(image: Image.Image, spec: InputSpec, mode: PreprocessMode = "auto") -> tuple[Pixels, InputInfo]:
    """An opened image as the pixels that a model with this input takes, and what was done for that.

    A picture of the model's size and polarity is left as it is. Mode "none" takes no other size.

    Raises WrongImageSize (with none), NothingFound (with auto) or BrokenImage.
    """
    if spec.preprocessing == "picture":
        return _read_picture(image, spec, mode)
    height, width = spec.shape[1:]
    if mode == "none" or sorted(image.size) == [min(height, width), max(height, width)]:
        pixels = load_exact(image, (height, width), spec.ground)
        scaled = pixels if mode == "none" else scale_as_trained(pixels, spec)
        if scaled is not None:
            return scaled, InputInfo((width, height), False, (0, 0, width, height))
    picture, before = load(image, ENOUGH)
    if spec.preprocessing == "digit":
        pixels, inverted, box = preprocess_digit(picture, height)
    else:
        pixels, inverted, box = preprocess_size(picture, (height, width))
    if spec.polarity == "dark-on-light":
        pixels, inverted = 255 - pixels, not inverted
    return pixels, InputInfo(before, inverted, in_pixels_of(before, picture.size, box))


def in_pixels_of(size: tuple[int, int], reduced: tuple[int, int], box: Box) -> Box:
    """A box in a picture of this `size` that was `reduced`; it has an area, and lies within."""
    scale = max(size) / max(reduced)
    left, top, right, bottom = (round(scale * side) for side in box)
    left, top = min(max(left, 0), size[0] - 1), min(max(top, 0), size[1] - 1)
    return left, top, min(max(right, left + 1), size[0]), min(max(bottom, top + 1), size[1])


def _read_picture(image: Image.Image, spec: InputSpec, mode: PreprocessMode) -> tuple[Pixels, InputInfo]:
    """The whole picture, turned and resized."""
    channels, height, width = spec.shape
    turned = orientation(image) >= 5
    before = image.size[::-1] if turned else image.size
    if mode == "none" and before != (width, height):
        raise wrong_size(before, (height, width))
    pixels = to_pixels(load_picture(image, (height, width)), (height, width), spec.resize, channels)
    return pixels, InputInfo(before, False, (0, 0, *before))


def needs_no_preprocessing(pixels: bytes, spec: InputSpec) -> bool:
    """Whether pixels of the model's size are as trained: its background at the border, something bright."""
    if spec.preprocessing == "picture":
        return True
    ink = pixels if spec.ground == 0 else pixels.translate(_INVERTED)  # bytes are faster than arrays so small
    width = spec.shape[2]
    around = ink[:width] + ink[-width:] + ink[::width] + ink[width - 1 :: width]
    if spec.preprocessing == "size":
        quiet = sum(around) <= 127 * len(around)  # a coat fills its picture
    else:
        quiet = 2 * around.count(0) >= len(around) or sorted(around)[len(around) // 2] <= QUIET
    return quiet and len(ink.translate(None, _DIM)) > 0


def scale_as_trained(pixels: Grey, spec: InputSpec) -> Grey | None:
    """Pixels of the model's size with the levels that it was trained on; None where more must be done.

    Levels 0 and 1, or 0 to 15, dim pictures and dark grey backgrounds are scaled to 0..255.
    """
    if needs_no_preprocessing(pixels.tobytes(), spec):
        return pixels
    ink = (pixels if spec.ground == 0 else 255 - pixels).astype(np.float32)
    around = border(ink)
    low, high = float(np.median(around)), float(ink.max())
    clean = float(ink.min()) == low
    if high - low < (1 if clean else NOISE) or high - low < ONE_SIDED * (low - float(ink.min())):
        return None
    scaled = ((ink - low) * (255 / (high - low))).clip(0, 255)
    if border(scaled).mean() > QUIET_MEAN:
        return None
    result = np.rint(scaled).astype(np.uint8)
    return result if spec.ground == 0 else 255 - result


def preprocess_digit(image: Image.Image, side: int = 28) -> tuple[Grey, bool, Box]:
    """The digit in a picture ("L", "LA", "RGB" or "RGBA") as MNIST would show it.

    Returns pixels [side, side], light on dark, whether the picture had to be inverted for that, and
    where the digit was found. Raises NothingFound.
    """
    return read_digit(look_at(image), side)


def look_at(image: Image.Image) -> Look:
    """Where the digit is in a picture ("L", "LA", "RGB" or "RGBA"), roughly."""
    picture, inverted = flatten(image)
    step = -(-max(picture.size) // WORK)
    small = picture.reduce(step) if step > 1 else picture
    return Look(picture, inverted, _found(small, step, picture.size, inverted is not None), step)


def read_digit(look: Look, side: int) -> tuple[Grey, bool, Box]:
    """As `preprocess_digit`, after the first look."""
    found = look.found
    if found is None:
        raise NothingFound("nothing found in the picture", "send one digit, dark on light or light on dark")
    if look.step > 1:
        found = refine(look.picture, found)
    return center_by_mass(found.ink, side), found.dark if look.inverted is None else look.inverted, found.box


def _found(small: Image.Image, step: int, size: tuple[int, int], dark_only: bool) -> Ink | None:
    """The digit's ink in a picture of `size` that was reduced by `step`, dark or light."""
    page = np.asarray(small, np.float32)
    drawing = find_levels(page) if max(size) >= SMALL else None
    if drawing is not None:
        dark = drawing.ink_is_dark(page)
        if dark is not None or dark_only:
            return segment_drawing(page, drawing, dark_only or bool(dark), step, size)
    dark = dark_only or ink_is_dark(small)
    if drawing is not None:
        return segment_drawing(page, drawing, dark, step, size)
    found = segment(page, dark, step, size)
    if dark_only or (found is not None and (max(size) < SMALL or found.convinces)):
        return found
    other = segment(page, not dark, step, size)
    return other if found is None or (other is not None and other.is_better_than(found)) else found


def preprocess_size(image: Image.Image, size: tuple[int, int]) -> tuple[Grey, bool, Box]:
    """A picture as light on dark, made square with its ground, scaled to `size` (height, width).

    Raises NothingFound for a picture of one colour.
    """
    sheet, inverted = flatten(image)
    low, high = sheet.getextrema()
    if not isinstance(low, int) or not isinstance(high, int) or high - low < ONE_COLOUR:
        raise NothingFound("nothing found in the picture: it has one colour", "send a picture of one thing")
    step = max(1, max(sheet.size) // PADDED)
    sheet = sheet.reduce(step) if step > 1 else sheet
    ground = int(np.median(border(np.asarray(sheet))))
    long = max(sheet.size)
    square = Image.new("L", (long, long), ground)
    square.paste(sheet, ((long - sheet.width) // 2, (long - sheet.height) // 2))
    small = np.asarray(square.resize(size[::-1], Image.Resampling.HAMMING))
    contrast = max(ground - low, high - ground)
    dark = ground >= 128 if contrast >= DIM else ground - low > high - ground
    if contrast < DIM:
        difference = ground - small.astype(np.float32) if dark else small.astype(np.float32) - ground
        small = np.rint((difference * (255 / contrast)).clip(0, 255)).astype(np.uint8)
    elif dark:
        small = 255 - small
    return small, dark if inverted is None else inverted, (0, 0, *image.size)


def center_by_mass(ink: Plane, side: int) -> Grey:
    """Ink 0..1 scaled into a box of 20 of 28 pixels, its centre of mass in the middle of [side, side], 0..255.

    The middle is that of the pixel right and below the centre, as in MNIST (measured: 14.5 of 28).
    """
    inner = side * 20 // 28
    left, top, right, bottom = bounding_box(ink > EDGE)
    ink = _with_usual_strokes(ink[top:bottom, left:right], inner)
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


def _with_usual_strokes(ink: Plane, inner: int) -> Plane:
    """Ink whose strokes, once scaled into a box of `inner` pixels, are about as wide as those of MNIST.

    Thin ones would vanish in scaling; of wide ones MNIST has none, and their gaps and holes are narrow.
    """
    width = stroke_width(ink)
    unit = max(ink.shape) / inner  # pixels of `ink` in one of the box
    if width < THINNEST * unit:
        return grow(ink, (THICKENED * unit - width) / 2)
    if width <= THICKEST * unit:
        return ink
    thin = grow(ink, (THINNED * unit - width) / 2)
    if not (thin > 0.5).any():
        return ink
    left, top, right, bottom = bounding_box(thin > EDGE)
    return thin[top:bottom, left:right]
