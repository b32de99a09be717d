"""Pictures of numbers: digits side by side, as people write them on sheets, envelopes and forms.

    writing   digits of one pen in a line, spaced, touching, with separators, in printed boxes
    page      one line or several, tilted
    scene     that page as a drawing, a scan, a photograph on paper or on a table

    python -m training.synthetic.numbers DIRECTORY --count 20

writes pictures of digits that training holds out, and `numbers.json`.
"""

import argparse
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

from training.datasets import load_dataset
from training.synthetic.camera import (
    Picture,
    lighting,
    pen_colour,
    photographed,
    ruled_lines,
    to_jpeg,
    to_png,
)
from training.synthetic.hands import Ink
from training.synthetic.rendering import Writer
from training.synthetic.scenes import trimmed

OVERLAP = 0.06  # of a touching pair, as a share of the height: how far one goes into the other at most
LEAST_GAP = 0.05  # between digits that do not touch, as a share of the height
ROOM = 0.35  # around a page of writing, as a share of the height of its digits
DARKEST_PAPER = 0.7


@dataclass(frozen=True, slots=True)
class Hand:
    """How one person writes one number; lengths are shares of the height of a digit."""

    height: int  # pixels of a digit
    pen: float | None  # width of its strokes; None: as MNIST has them
    gap: float  # between two digits, on average
    unsteady: float  # how much gaps, sizes and the base line vary
    touching: float = 0.0  # share of the pairs that touch
    copied: bool = False  # digits are MNIST's as they are

    @classmethod
    def any(cls, random: Generator, height: int, touching: float = 0.0) -> "Hand":
        pen = None if random.random() < 0.5 else random.uniform(0.02, 0.055)
        return cls(height, pen, random.uniform(0.15, 0.6), random.uniform(0.02, 0.08), touching)


def line_of(writer: Writer, digits: str, hand: Hand) -> Ink:
    """Digits side by side; any other character is drawn as the separator that it is, a blank is a wide gap."""
    random, height = writer.random, hand.height
    canvas = np.zeros((2 * height, (len(digits) + 2) * 2 * height), np.float32)
    end = height // 4
    touches = False
    for character in digits:
        if character == " ":
            end += int(height * random.uniform(0.4, 0.9))
            continue
        ink = _character(writer, character, hand)
        top = _top(character, ink.shape[0], height) + round(height * random.normal(0, hand.unsteady))
        top = min(max(top, 0), canvas.shape[0] - ink.shape[0])
        left = end + round(height * max(LEAST_GAP, hand.gap + random.normal(0, 2 * hand.unsteady)))
        if touches and character.isdigit():
            left = _touching(canvas, ink, top, end) - round(height * random.uniform(0, OVERLAP))
        touches = character.isdigit() and random.random() < hand.touching
        part = canvas[top : top + ink.shape[0], left : left + ink.shape[1]]
        np.maximum(part, ink, out=part)
        end = max(end, left + ink.shape[1])
    return trimmed(canvas)


def _character(writer: Writer, character: str, hand: Hand) -> Ink:
    random = writer.random
    if not character.isdigit():
        return _separator(character, hand, random)
    side = round(1.4 * hand.height * (1 + random.normal(0, hand.unsteady)))  # MNIST leaves 4 of 28 at each side
    if hand.copied:
        return trimmed(writer.copied(int(character), max(side, 12)))
    return trimmed(writer.ink(int(character), max(side, 12), hand.pen))


def _separator(character: str, hand: Hand, random: Generator) -> Ink:
    """A dot, a dash, a slash or a plus."""
    height, thick = hand.height, max(2, round(hand.height * (hand.pen or 0.07) * 1.2))
    if character in ".,":
        return np.ones((thick + 1, thick + 1), np.float32)
    long = round(height * random.uniform(0.25, 0.45))
    if character == "-":
        return np.ones((thick, long), np.float32)
    if character == "+":
        plus = np.zeros((long, long), np.float32)
        middle = slice((long - thick) // 2, (long - thick) // 2 + thick)
        plus[middle] = plus[:, middle] = 1
        return plus
    tall = round(height * random.uniform(1.1, 1.4))
    y, x = np.mgrid[:tall, : round(tall * random.uniform(0.4, 0.6))]
    return (np.abs(x - (1 - y / tall) * x.max()) < 0.6 * thick).astype(np.float32)


def _top(character: str, tall: int, height: int) -> int:
    """Where it begins on a canvas whose base line is at one and a half heights."""
    base = height + height // 2
    if character in ".,":
        return base - tall
    if character in "-+":
        return base - height // 2 - tall // 2
    return base - tall + (round(0.15 * height) if character == "/" else 0)


def _touching(canvas: Ink, ink: Ink, top: int, end: int) -> int:
    """The place where it just meets the ink before it."""
    rows = canvas[top : top + ink.shape[0]] > 0.5
    for left in range(end, max(end - ink.shape[1] // 3, 0), -1):
        if (rows[:, left : left + ink.shape[1]] & (ink > 0.5)).any():
            return left
    return end


def boxed(writer: Writer, digits: str, hand: Hand) -> Ink:
    """A digit in each of a row of printed boxes, side by side or apart."""
    random = writer.random
    cell = round(hand.height * random.uniform(1.3, 1.7))
    wide = round(cell * random.uniform(0.75, 1.0))
    apart = round(cell * random.uniform(0.1, 0.3)) if random.random() < 0.5 else 0
    thick = max(1, round(cell * random.uniform(0.015, 0.035)))
    ink = np.zeros((cell, len(digits) * (wide + apart) + thick), np.float32)
    for number, digit in enumerate(digits):
        drawn = _character(writer, digit, hand)[: cell - 2 * thick, : wide - 2 * thick]
        left = number * (wide + apart)
        y = thick + random.integers(0, cell - 2 * thick - drawn.shape[0] + 1)
        x = left + thick + random.integers(0, wide - 2 * thick - drawn.shape[1] + 1)
        ink[y : y + drawn.shape[0], x : x + drawn.shape[1]] = drawn
        _frame(ink[:, left : left + wide + thick], thick)
    return ink


def _frame(ink: Ink, thick: int) -> None:
    ink[:thick] = ink[-thick:] = 1
    ink[:, :thick] = ink[:, -thick:] = 1


def page_of(lines: list[Ink], height: int, tilt: float, random: Generator) -> Ink:
    """Lines one below the other, turned by `tilt` degrees, with room around."""
    between = round(height * random.uniform(0.4, 0.9))
    width = max(line.shape[1] for line in lines)
    page = np.zeros((sum(line.shape[0] + between for line in lines), width), np.float32)
    top = 0
    for line in lines:
        page[top : top + line.shape[0], : line.shape[1]] = line
        top += line.shape[0] + between
    image = Image.fromarray((page[:-between] * 255).astype(np.uint8))
    image = image.rotate(tilt, Image.Resampling.BICUBIC, expand=True)
    return np.pad(np.asarray(image, np.float32) / 255, round(ROOM * height))


# -- scenes -----------------------------------------------------------------------------------------


def drawn(page: Ink, random: Generator) -> Picture:
    """Black on white or white on black, as a canvas leaves it."""
    return to_png(Image.fromarray(((page if random.random() < 0.3 else 1 - page) * 255).astype(np.uint8)))


def scanned(page: Ink, random: Generator) -> Picture:
    """Nearly black and white, with specks."""
    for _ in range(int(random.integers(0, 8))):
        y, x = random.integers(0, min(page.shape) - 3, 2)
        page[y : y + int(random.integers(1, 3)), x : x + int(random.integers(1, 3))] = 1
    levels = 255 - page * random.uniform(120, 255)
    levels += random.normal(0, random.uniform(0, 5), page.shape)
    return to_png(Image.fromarray(levels.clip(0, 255).astype(np.uint8)))


def photo(paper: str) -> Callable[[Ink, Generator], Picture]:
    """A sheet of `paper` (white, lined, grid) that fills the picture."""

    def take(page: Ink, random: Generator) -> Picture:
        margins = [(round(room * random.random()), round(room * random.random())) for room in page.shape]
        ink = np.pad(page, margins)
        rules = ruled_lines(paper, ink.shape[0], ink.shape[1], random)
        tint = np.array([1, random.uniform(0.9, 1), random.uniform(0.75, 1)]) * random.uniform(DARKEST_PAPER, 1)
        line = np.array([random.uniform(0.55, 0.85), random.uniform(0.65, 0.9), random.uniform(0.8, 0.97)])
        colour = tint * (1 - rules[..., None] * (1 - line)) * (1 - ink[..., None] * (1 - pen_colour(random)))
        lit = colour * lighting(ink.shape[0], ink.shape[1], random)[..., None] * 255
        picture = photographed(Image.fromarray(lit.clip(0, 255).astype(np.uint8)), random)
        return to_jpeg(picture, int(random.integers(50, 92)))

    return take


def on_table(page: Ink, random: Generator) -> Picture:
    """A note or an envelope on a table, wholly in the picture."""
    tint = np.array([random.uniform(0.8, 1), random.uniform(0.75, 1), random.uniform(0.5, 1)])
    paper = (tint * (1 - page[..., None] * (1 - pen_colour(random))) * 255).astype(np.uint8)
    margins = [
        (round(20 + 0.3 * room * random.random()), round(20 + 0.3 * room * random.random()))
        for room in page.shape
    ]
    height, width = (side + sum(margin) for side, margin in zip(page.shape, margins, strict=True))
    grain = np.repeat(random.uniform(-0.5, 0.5, (height, width // 16 + 1)), 16, axis=1)[:, :width, None]
    scene = np.array([0.45, 0.3, 0.18]) * random.uniform(0.6, 1.3) * (1 + 0.25 * grain) * 255
    scene[margins[0][0] : margins[0][0] + page.shape[0], margins[1][0] : margins[1][0] + page.shape[1]] = paper
    lit = scene * lighting(height, width, random)[..., None]
    picture = photographed(Image.fromarray(lit.clip(0, 255).astype(np.uint8)), random)
    return to_jpeg(picture, int(random.integers(50, 92)))


# -- kinds of numbers -------------------------------------------------------------------------------

Scene = Callable[[Ink, Generator], Picture]
SCENES: tuple[Scene, ...] = (drawn, scanned, photo("white"), photo("lined"), photo("grid"), on_table)


def digits_of(random: Generator, count: int) -> str:
    return "".join(str(digit) for digit in random.integers(0, 10, count))


def plain_line(
    writer: Writer, scene: Scene = drawn, touching: float = 0.0, count: int = 5, copied: bool = False
) -> tuple[str, Picture]:
    """So many digits in one line; `copied`: in the shapes of MNIST, as they are."""
    random = writer.random
    digits, height = digits_of(random, count), int(random.integers(36, 90))
    hand = Hand.any(random, height, touching)
    ink = line_of(writer, digits, hand if not copied else replace(hand, copied=True))
    return digits, scene(page_of([ink], height, random.normal(0, 2), random), random)


def telephone(writer: Writer, scene: Scene) -> tuple[str, Picture]:
    """Groups of digits with separators between."""
    random = writer.random
    mark = str(random.choice([" ", ".", "-", "/", " - "]))
    text = mark.join(digits_of(random, int(count)) for count in random.integers(2, 5, random.integers(2, 4)))
    text = ("+" if random.random() < 0.3 else "") + text
    height = int(random.integers(36, 70))
    page = page_of([line_of(writer, text, Hand.any(random, height))], height, random.normal(0, 2), random)
    return "".join(character for character in text if character.isdigit()), scene(page, random)


def postcode(writer: Writer, scene: Scene) -> tuple[str, Picture]:
    """Five digits in printed boxes."""
    random = writer.random
    digits, height = digits_of(random, 5), int(random.integers(36, 80))
    page = page_of([boxed(writer, digits, Hand.any(random, height))], height, random.normal(0, 1.5), random)
    return digits, scene(page, random)


def several_lines(writer: Writer, scene: Scene) -> tuple[str, Picture]:
    """Two to four numbers, one below the other."""
    random = writer.random
    numbers = [digits_of(random, int(count)) for count in random.integers(2, 7, random.integers(2, 5))]
    height = int(random.integers(36, 60))
    hand = Hand.any(random, height)
    page = page_of([line_of(writer, one, hand) for one in numbers], height, random.normal(0, 2), random)
    return "\n".join(numbers), scene(page, random)


def tilted(writer: Writer, scene: Scene) -> tuple[str, Picture]:
    """A line that climbs or falls."""
    random = writer.random
    digits, height = digits_of(random, int(random.integers(3, 9))), int(random.integers(36, 70))
    ink = line_of(writer, digits, Hand.any(random, height))
    return digits, scene(page_of([ink], height, random.uniform(5, 14) * random.choice([-1, 1]), random), random)


def touching_pairs(writer: Writer, scene: Scene) -> tuple[str, Picture]:
    """A line in which a third of the neighbours touch."""
    return plain_line(writer, scene, 0.33, int(writer.random.integers(2, 7)))


def spaced(writer: Writer, scene: Scene) -> tuple[str, Picture]:
    """A line of two to ten digits that stand apart."""
    return plain_line(writer, scene, count=int(writer.random.integers(2, 11)))


KINDS: Mapping[str, Callable[[Writer, Scene], tuple[str, Picture]]] = {
    "spaced": spaced,
    "touching": touching_pairs,
    "telephone": telephone,
    "postcode": postcode,
    "lines": several_lines,
    "tilted": tilted,
}


def simulate(writer: Writer, count: int) -> list[tuple[str, str, Picture]]:
    """`count` pictures of each kind, scenes in turn: kind, number (lines apart), picture."""
    return [
        (kind, *make(writer, SCENES[i % len(SCENES)])) for kind, make in KINDS.items() for i in range(count)
    ]


def main() -> None:
    """Write pictures and `numbers.json` into a directory."""
    parser = argparse.ArgumentParser(
        prog="python -m training.synthetic.numbers", description="Simulate pictures of numbers."
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--count", type=int, default=12, help="pictures of each kind (default 12)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("MINIST_DATA_DIR", "data")))
    options = parser.parse_args()
    _, held_out = load_dataset("mnist", options.data_dir).hold_out(5000, 0)
    assert held_out is not None
    random = np.random.default_rng(options.seed)
    writer = Writer(held_out.images[:, 0].numpy(), held_out.labels.numpy(), random)
    options.directory.mkdir(parents=True, exist_ok=True)
    numbers = {}
    for at, (kind, number, (data, ending)) in enumerate(simulate(writer, options.count)):
        name = f"{kind}-{at % options.count:02d}.{ending}"
        (options.directory / name).write_bytes(data)
        numbers[name] = number
    (options.directory / "numbers.json").write_text(json.dumps(numbers, indent=0) + "\n")


if __name__ == "__main__":
    main()
