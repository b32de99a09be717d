"""Handwriting of our own: every digit in many ways, written by hands that differ.

way     how a digit is formed: a program with draws of its own (`round_digits`, `straight_digits`)
hand    how one person writes all of them: slant, width, speed, tremor, pen, pressure
ink     what the pen leaves, in any size
image   what `models.preprocessing` makes of it, as a model sees it: `hand_written`
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from models.preprocessing.decode import Grey
from models.preprocessing.preprocess import center_by_mass, preprocess_digit
from training.synthetic import round_digits as rounds
from training.synthetic import straight_digits as straight
from training.synthetic.curves import Path, Strokes, chance

Ink = NDArray[np.float32]  # [height, width], 0 ground, 1 ink
Way = Callable[[Generator], Strokes]

WAYS: Mapping[int, Sequence[tuple[float, Way]]] = {  # how often, and how
    0: ((6, rounds.ring), (2, rounds.looped_ring), (2, rounds.slashed_ring)),
    1: (
        (2, straight.stick),
        (4, straight.flagged),
        (3, straight.peaked),
        (2.5, straight.footed),
        (1, straight.hooked_one),
    ),
    2: ((4, rounds.two), (3, rounds.looped_two), (1, rounds.flat_two), (2, rounds.round_two)),
    3: ((5, rounds.three), (3, rounds.flat_three), (1, rounds.angular_three)),
    4: (
        (3, straight.open_four),
        (2, straight.cupped_four),
        (3, straight.closed_four),
        (2, straight.lightning_four),
        (1.5, straight.bolt_four),
    ),
    5: ((5, straight.five), (3, straight.five_at_once), (1.5, straight.five_without_bar)),
    6: ((5, rounds.six), (2, rounds.short_six), (1.5, rounds.straight_six)),
    7: ((3, straight.seven), (2, straight.hooked_seven), (4, straight.crossed_seven)),
    8: ((5, rounds.eight), (2, rounds.two_rings), (2, rounds.ribbon_eight)),
    9: (
        (3, rounds.nine),
        (2, rounds.low_nine),
        (3, rounds.curled_nine),
        (2, rounds.lifted_nine),
        (1.5, rounds.leaning_nine),
        (1, rounds.open_nine),
    ),
}

WIDEST_PEN: Mapping[Way, float] = {rounds.slashed_ring: 0.09}  # wider, and nobody could read it
UNSTEADY: Mapping[int, float] = {1: 0.5}  # bent more, a 1 with a foot is a 2
DIGITS_OF_A_HAND = 10  # that one hand writes in a row
HABIT = 0.7  # share of its digits that a hand writes in its usual way
FINE = 64  # pixels of the longer side of a digit, before it becomes an image
STEP = 0.02  # of the height, between two points of a stroke
SUPERSAMPLED = 2  # pixels drawn along each pixel
MOST_STRETCHED = 2.2  # how far a reduction may widen a digit: more would make a stick a block


@dataclass(frozen=True, slots=True)
class Hand:
    """How one person writes; lengths are shares of the height of a digit."""

    slant: float  # to the right for every unit upwards
    aspect: float  # times as wide as drawn
    tilt: float  # radians
    pen: float  # width of a stroke
    contrast: float  # how much the width changes with the direction of the stroke
    nib: float  # radians, the direction in which strokes are thinnest
    pressure: float  # how much the width changes along a stroke
    speed: float  # corners are rounded over this length
    tremor: float  # how far lines stray
    hurry: float  # how far strokes overshoot or fall short
    taper: float  # how much wider the upper half is
    sag: float  # how much lower the middle is
    curl: float  # how far the ends lie to the right of the middle
    habits: tuple[float, ...]  # of each digit, 0..1: which way is the usual one

    @classmethod
    def any(cls, random: Generator) -> "Hand":
        r = random
        return cls(
            slant=float(np.clip(r.normal(0.1, 0.18), -0.22, 0.55)),
            aspect=float(np.exp(np.clip(r.normal(0, 0.18), -0.4, 0.35))),
            tilt=r.normal(0, 0.05),
            pen=float(np.exp(r.uniform(np.log(0.03), np.log(0.15)))),
            contrast=abs(r.normal(0, 0.2)),
            nib=r.uniform(0, np.pi),
            pressure=abs(r.normal(0, 0.15)),
            speed=r.uniform(0.003, 0.045),
            tremor=abs(r.normal(0, 0.009)),
            hurry=abs(r.normal(0, 0.02)),
            taper=r.normal(0, 0.12),
            sag=r.normal(0, 0.035),
            curl=r.normal(0, 0.035),
            habits=tuple(r.random(10).tolist()),
        )


def way_of(label: int, hand: Hand, random: Generator) -> Way:
    """A way to write this digit, more often than not the hand's usual one."""
    share = hand.habits[label] if chance(random, HABIT) else random.random()
    weights, ways = zip(*WAYS[label], strict=True)
    return ways[int(np.searchsorted(np.cumsum(weights) / np.sum(weights), share))]


def moved(strokes: Strokes, hand: Hand, random: Generator, unsteady: float = 1.0) -> Strokes:
    """Strokes as this hand moves the pen: evenly spaced points, corners rounded, bent, slanted, unsteady."""
    bent = _bending(hand, random, unsteady)
    aspect = hand.aspect * float(np.exp(random.normal(0, 0.06)))
    turn, slant = hand.tilt + random.normal(0, 0.03), hand.slant + random.normal(0, 0.04)
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    matrix = np.array([[aspect, 0.0], [-slant, 1.0]]) @ turned
    return [bent(_traced(stroke, hand, random)) @ matrix for stroke in strokes]


def _traced(stroke: Path, hand: Hand, random: Generator) -> Path:
    """A stroke in evenly spaced points, as far as a pen of this speed follows it, not quite in its place."""
    points = _evenly(_lengthened(stroke, hand.hurry, random))
    return _rounded(points, hand.speed * min(hand.aspect, 1) / STEP) + random.normal(0, 0.008, 2)


def _bending(hand: Hand, random: Generator, unsteady: float) -> Callable[[Path], Path]:
    """How one digit of this hand differs from its drawing, the same for all of its strokes."""
    taper, sag, curl = (unsteady * (v + random.normal(0, 0.02)) for v in (hand.taper, hand.sag, hand.curl))
    heights = random.normal(0, unsteady * (hand.tremor + 0.004), (2, 3))
    phases = random.uniform(0, 2 * np.pi, (2, 3))

    def bend(points: Path) -> Path:
        x, y = points.T
        waves = (np.arange(3) + 1) * 2.2 * (1.6 * x + y)[:, None]
        shaken = [(h * np.sin(waves + p)).sum(1) for h, p in zip(heights, phases, strict=True)]
        middle = np.sin(np.pi * y.clip(0, 1))
        wide = 0.3 + (x - 0.3) * (1 - taper * (2 * y - 1)) - curl * middle
        return np.stack([wide + shaken[0], y + sag * middle + shaken[1]], 1)

    return bend


def _lengthened(stroke: Path, hurry: float, random: Generator) -> Path:
    """A stroke whose ends lie a little further out or in."""
    stroke = stroke.copy()
    for end, before in ((0, 1), (-1, -2)):
        way = stroke[end] - stroke[before]
        stroke[end] += way / max(float(np.hypot(*way)), 0.05) * random.normal(0, hurry)
    return stroke


def _evenly(points: Path) -> Path:
    """The same line with points at equal distances."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    places = np.linspace(0, along[-1], max(4, int(along[-1] / STEP)))
    return np.stack([np.interp(places, along, points[:, i]) for i in (0, 1)], 1)


def _rounded(points: Path, spread: float) -> Path:
    """Points averaged with their neighbours (a Gaussian, `spread` in points); the ends stay."""
    reach = max(1, min(round(3 * spread), len(points) - 1))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(spread, 0.1)) ** 2)
    kernel /= kernel.sum()
    before, after = 2 * points[0] - points[reach:0:-1], 2 * points[-1] - points[-2 : -reach - 2 : -1]
    padded = np.concatenate([before, points, after])
    return np.stack([np.convolve(padded[:, i], kernel, "valid") for i in (0, 1)], 1)


def drawn(strokes: Strokes, hand: Hand, side: int, pen: float, random: Generator) -> Ink:
    """The ink of strokes, their longer side `side` pixels, without room around it; `pen` is its width."""
    every = np.concatenate(strokes)
    low, high = every.min(0) - pen / 2, every.max(0) + pen / 2
    scale = side * SUPERSAMPLED / float((high - low).max())
    wide, tall = (int(np.ceil(v * scale)) + 1 for v in high - low)
    canvas = Image.new("L", (wide, tall))
    draw = ImageDraw.Draw(canvas)
    for stroke in strokes:
        _draw(draw, (stroke - low) * scale, _widths(stroke, hand, pen, random) * scale)
    return (np.asarray(canvas.reduce(SUPERSAMPLED)) / np.float32(255)).astype(np.float32)


def _widths(stroke: Path, hand: Hand, pen: float, random: Generator) -> NDArray[np.float64]:
    """The width of the line at each of its points, after the direction and the pressure."""
    ahead = np.gradient(stroke, axis=0)
    across = np.abs(np.sin(np.arctan2(ahead[:, 1], ahead[:, 0]) - hand.nib))
    place = np.linspace(0, 1, len(stroke))
    pressing = hand.pressure * np.sin(2 * np.pi * (random.uniform(0.3, 1.2) * place + random.random()))
    widths: NDArray[np.float64] = pen * (1 - hand.contrast * (1 - across) + pressing).clip(0.45, 1.5)
    return widths


def _draw(draw: ImageDraw.ImageDraw, points: Path, widths: NDArray[np.float64]) -> None:
    """Thick lines between points, round at each of them."""
    spots = np.concatenate([points - widths[:, None] / 2, points + widths[:, None] / 2], 1).tolist()
    for spot in spots:
        draw.ellipse(spot, fill=255)
    pieces = points.tolist()
    for (a, b), width in zip(pairwise(pieces), widths.tolist(), strict=False):
        draw.line((*a, *b), fill=255, width=max(1, round(width)))


def ink_of(
    label: int, hand: Hand, side: int, random: Generator, pen: float | None = None, least_pen: float = 0.0
) -> Ink:
    """A digit in this hand, its longer side `side` pixels; `pen` is the width of strokes, if not the hand's."""
    way = way_of(label, hand, random)
    pen = min(hand.pen if pen is None else pen, WIDEST_PEN.get(way, 1.0))
    pen = pen if pen > least_pen else least_pen * random.uniform(1, 2.3)
    return drawn(moved(way(random), hand, random, UNSTEADY.get(label, 1.0)), hand, side, pen, random)


def hand_written(labels: Sequence[int] | NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
    """Digits in many hands, images [N, 1, 28, 28] as `models.preprocessing` shows clean ink to a model.

    They come from fine drawings and from small bitmaps (`BITMAPS`). The same seed gives the same images.
    About 3 ms each.
    """
    random = np.random.default_rng(seed)
    images: list[Grey] = []
    hand = Hand.any(random)
    for number, label in enumerate(labels):
        if number % DIGITS_OF_A_HAND == 0:
            hand = Hand.any(random)
        images.append(seen(int(label), hand, random))
    return np.stack(images)[:, None]


@dataclass(frozen=True, slots=True)
class Bitmap:
    """A small square in which a digit is kept, and which it fills."""

    side: int
    grey: bool
    stretched: float  # share of the digits that lose their aspect
    least_pen: float  # of the height: thinner strokes would break


BITMAPS = (  # share of the images, and which
    (0.3, Bitmap(16, grey=False, stretched=0.85, least_pen=0.07)),
    (0.15, Bitmap(16, grey=True, stretched=0.2, least_pen=0.05)),
    (0.05, Bitmap(32, grey=False, stretched=0.5, least_pen=0.04)),
    (0.05, Bitmap(8, grey=True, stretched=0.4, least_pen=0.1)),
)


def seen(label: int, hand: Hand, random: Generator) -> Grey:
    """A digit as a model sees it, [28, 28]: finely drawn, or by way of a bitmap."""
    which = int(np.searchsorted(np.cumsum([share for share, _ in BITMAPS]), random.random()))
    if which == len(BITMAPS):
        return center_by_mass(_softened(ink_of(label, hand, FINE, random), random), 28)
    bitmap = BITMAPS[which][1]
    ink = _reduced(ink_of(label, hand, FINE, random, least_pen=bitmap.least_pen), bitmap, random)
    small = ink if bitmap.grey else ink + random.normal(0, 0.07, ink.shape) > random.uniform(0.25, 0.5)
    return preprocess_digit(Image.fromarray((small * 255).astype(np.uint8)))[0]


def _softened(ink: Ink, random: Generator) -> Ink:
    """The same with softer edges."""
    padded = Image.fromarray(np.pad((ink * 255).astype(np.uint8), 3))
    return np.asarray(padded.filter(ImageFilter.BoxBlur(random.uniform(0, 2))), np.float32) / np.float32(255)


def _reduced(ink: Ink, bitmap: Bitmap, random: Generator) -> Ink:
    """Ink in the square of a bitmap, stretched or with its aspect kept."""
    tall, wide = ink.shape
    if chance(random, bitmap.stretched):
        wide, tall = min(max(wide, tall), int(wide * MOST_STRETCHED)), max(wide, tall)
    scale = bitmap.side / max(tall, wide)
    inner = max(1, round(wide * scale)), max(1, round(tall * scale))
    square = np.zeros((bitmap.side, bitmap.side), np.float32)
    top, left = (bitmap.side - inner[1]) // 2, (bitmap.side - inner[0]) // 2
    small = np.asarray(Image.fromarray(ink).resize(inner, Image.Resampling.BOX))
    square[top : top + inner[1], left : left + inner[0]] = small
    return square
