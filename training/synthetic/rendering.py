"""Pictures of digits as people send them, simulated: pens, paper, light, cameras, tablets, old scanners.

    python -m training.synthetic.rendering tests/data/pictures --count 26

writes the development set of this project from MNIST's training digits (the held-out ones) and from
strokes of our own, with `labels.json`. It knows nothing of the pictures that the service will meet.
"""

import argparse
import contextlib
import io
import json
import os
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from models.errors import NothingFound
from models.preprocessing.decode import Grey
from models.preprocessing.preprocess import preprocess_digit
from training.datasets import Split, load_dataset
from training.synthetic.strokes import WRITTEN, Strokes

OURS = 0.4  # share of digits that are written in our strokes
Ink = NDArray[np.float32]  # [height, width], 0 ground, 1 ink
Seen = tuple[bytes, str]  # an encoded picture and the ending of its file name


def enlarged(digit: NDArray[np.uint8], side: int, random: Generator) -> Ink:
    """A MNIST digit [28, 28] as a drawing of about `side` pixels, its edges sharp again."""
    large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    soft = np.asarray(large.filter(ImageFilter.GaussianBlur(side / 60)), np.float32) / 255
    return np.clip((soft - random.uniform(0.3, 0.5)) * side / 20 + 0.5, 0, 1).astype(np.float32)


def traced(digit: NDArray[np.uint8], side: int, width: float, random: Generator) -> Ink:
    """A MNIST digit as a pen of one width (a share of `side`) would follow its middle line."""
    large = Image.fromarray(digit).resize((112, 112), Image.Resampling.BICUBIC)
    ys, xs = np.nonzero(skeletonize(np.asarray(large) > 110))
    wave = random.normal(0, 1.2, (2, 4)), random.uniform(0, 6.28, (2, 4))
    shake = [
        sum(a * np.sin((i + 1) * (xs + ys) / 25 + p) / (i + 1) for i, (a, p) in enumerate(zip(*w, strict=True)))
        for w in zip(*wave, strict=True)
    ]
    points = zip((xs + shake[0]) / 112, (ys + shake[1]) / 112, strict=True)
    return _dots([(float(x), float(y)) for x, y in points], side, width)


def written(strokes: Strokes, side: int, width: float, random: Generator) -> Ink:
    """Strokes of our own, rounded, slanted and shaken, drawn with a pen of one width (a share of `side`)."""
    aspect, slant = random.uniform(0.45, 0.8), random.normal(0, 0.12)
    points: list[tuple[float, float]] = []
    for stroke in strokes:
        moved = np.array(stroke) + random.normal(0, 0.025, (len(stroke), 2))
        curve = _rounded(moved) if len(stroke) > 2 else moved
        for a, b in pairwise(curve):
            count = 2 + int(80 * np.hypot(*(b - a)))
            points += [(float(x), float(y)) for x, y in np.linspace(a, b, count)]
    x, y = np.array(points).T
    x = 0.5 + ((x - 0.5) * aspect - (y - 0.5) * slant) * 0.7
    y = 0.5 + (y - 0.5) * 0.7
    y, x = y + 0.004 * np.sin(x * 40 + random.uniform(0, 6)), x + 0.004 * np.sin(y * 40 + random.uniform(0, 6))
    return _dots(list(zip(x.tolist(), y.tolist(), strict=True)), side, width)


def _rounded(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chaikin's corner cutting, three times."""
    for _ in range(3):
        cut = np.stack([points[:-1] * 0.75 + points[1:] * 0.25, points[:-1] * 0.25 + points[1:] * 0.75], 1)
        points = np.concatenate([points[:1], cut.reshape(-1, 2), points[-1:]])
    return points


def _dots(points: list[tuple[float, float]], side: int, width: float) -> Ink:
    image = Image.new("L", (side * 2, side * 2))
    draw = ImageDraw.Draw(image)
    r = max(width * side, 1.0)
    for x, y in points:
        draw.ellipse((x * side * 2 - r, y * side * 2 - r, x * side * 2 + r, y * side * 2 + r), fill=255)
    return (np.asarray(image.reduce(2)) / 255).astype(np.float32)


def skeletonize(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The middle line of a shape (Zhang and Suen, 1984)."""
    mask = np.pad(mask, 1)
    changed = True
    while changed:
        changed = False
        for odd in (False, True):
            n = [np.roll(mask, (-dy, -dx), (0, 1)) for dy, dx in _RING]
            count = np.sum(n, axis=0)
            turns = sum((~a & b).astype(int) for a, b in zip(n, n[1:] + n[:1], strict=True))
            up, right, down, left = n[0], n[2], n[4], n[6]
            edges = (
                ~(up & right & left) & ~(up & down & left)
                if odd
                else ~(up & right & down) & ~(right & down & left)
            )
            gone = mask & (count >= 2) & (count <= 6) & (turns == 1) & edges
            changed |= bool(gone.any())
            mask = mask & ~gone
    return mask[1:-1, 1:-1]


_RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


class Writer:
    """Someone who writes the digits that are asked for, sometimes copying MNIST, sometimes in our strokes."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], random: Generator) -> None:
        self.images, self.labels, self.random = images, labels, random

    def ink(self, label: int, side: int, width: float | None = None) -> Ink:
        """A digit in a box of `side` pixels; with strokes of `width` (a share of `side`) or MNIST's own."""
        if self.random.random() < OURS:
            ways = WRITTEN[label]
            way = ways[int(self.random.integers(len(ways)))]
            return written(way, side, width or self.random.uniform(0.03, 0.1), self.random)
        digit = self.images[self.random.choice(np.nonzero(self.labels == label)[0])]
        if width is None:
            return enlarged(digit, side, self.random)
        return traced(digit, side, width, self.random)


def photograph(paper: str) -> Callable[[Writer, int], Seen]:
    """A kind of picture: a sheet of `paper` (white, lined, grid) under a camera."""

    def take(writer: Writer, label: int) -> Seen:
        random = writer.random
        height, width = (int(v) for v in random.integers(260, 640, 2))
        side = int(min(height, width) * random.uniform(0.45, 1.0))
        thin = random.random() < 0.6
        ink = writer.ink(label, side, random.uniform(0.015, 0.06) if thin else None)
        sheet = np.zeros((height, width), np.float32)
        top, left = (int(random.integers(0, room + 1)) for room in (height - side, width - side))
        sheet[top : top + side, left : left + side] = ink
        rules = _rules(paper, height, width, random)
        tint = np.array([1, random.uniform(0.94, 1), random.uniform(0.82, 1)]) * random.uniform(0.75, 1)
        pen = _pen(random)
        line = np.array([random.uniform(0.55, 0.85), random.uniform(0.65, 0.9), random.uniform(0.8, 0.97)])
        colour = tint * (1 - rules[..., None] * (1 - line)) * (1 - sheet[..., None] * (1 - pen))
        photo = Image.fromarray(
            (colour * _light(height, width, random)[..., None] * 255).clip(0, 255).astype(np.uint8)
        )
        photo = _camera(photo, random)
        return _jpeg(photo, int(random.integers(40, 92)))

    return take


def _pen(random: Generator) -> NDArray[np.float64]:
    """What an ink leaves of red, green and blue light."""
    kind = random.integers(4)
    if kind == 0:  # ball pen, blue
        return np.array([0.1, 0.2, 0.6]) + random.uniform(0, 0.2)
    if kind == 1:  # pencil
        return np.ones(3) * random.uniform(0.35, 0.65)
    if kind == 2:  # red or green
        return np.array([[0.75, 0.15, 0.15], [0.1, 0.5, 0.25]][random.integers(2)])
    return np.ones(3) * random.uniform(0.02, 0.25)


def _rules(paper: str, height: int, width: int, random: Generator) -> Ink:
    """Ruled lines or a grid, a little turned, as ink of the printer's."""
    if paper == "white":
        return np.zeros((height, width), np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = random.normal(0, 0.02)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    gap, thick = random.uniform(0.08, 0.25) * min(height, width), random.uniform(0.8, 2.2)
    lines = np.abs((v + random.uniform(0, gap)) % gap - gap / 2) < thick / 2
    if paper == "grid":
        lines |= np.abs((u + random.uniform(0, gap)) % gap - gap / 2) < thick / 2
    return lines.astype(np.float32) * random.uniform(0.4, 1)


def _light(height: int, width: int, random: Generator) -> Ink:
    """A gradient, corners that are darker, sometimes the edge of a shadow."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    turn = random.uniform(0, 6.28)
    along = x * np.cos(turn) + y * np.sin(turn)
    light = 1 - random.uniform(0, 0.3) * (along + 1) / 2 - random.uniform(0, 0.2) * (x**2 + y**2) / 2
    if random.random() < 0.3:
        soft = random.uniform(0.1, 0.5)
        light = light * (
            1 - random.uniform(0.1, 0.4) / (1 + np.exp(-(along - random.uniform(-0.6, 0.6)) / soft * 6))
        )
    return light.astype(np.float32)


def _camera(photo: Image.Image, random: Generator) -> Image.Image:
    """Perspective, a blurred lens, grain."""
    width, height = photo.size
    corners = np.array([[0, 0], [0, height], [width, height], [width, 0]], float)
    corners += random.normal(0, 0.02, (4, 2)) * [width, height]
    photo = photo.transform(
        photo.size,
        Image.Transform.QUAD,
        corners.flatten().tolist(),
        Image.Resampling.BILINEAR,
        fillcolor=tuple(np.asarray(photo).reshape(-1, 3).mean(0).astype(int).tolist()),
    )
    photo = photo.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 0.004)) * width))
    grain = random.normal(0, random.uniform(0, 7), (height, width, 1))
    return Image.fromarray((np.asarray(photo, np.float32) + grain).clip(0, 255).astype(np.uint8))


def table(writer: Writer, label: int) -> Seen:
    """A note or a sheet on a table, all of it in the picture."""
    random = writer.random
    side = int(random.integers(150, 300))
    ink = writer.ink(label, side, random.uniform(0.02, 0.06) if random.random() < 0.7 else None)
    sheet = np.zeros([int(side * v) for v in random.uniform(1.15, 2, 2)], np.float32)
    top, left = (int(random.integers(0, room + 1)) for room in np.subtract(sheet.shape, side))
    sheet[top : top + side, left : left + side] = ink
    tint = np.array([random.uniform(0.8, 1), random.uniform(0.8, 1), random.uniform(0.5, 1)])
    paper = Image.fromarray(((tint * (1 - sheet[..., None] * (1 - _pen(random)))) * 255).astype(np.uint8))
    height, width = (int(v) for v in np.array(sheet.shape) * random.uniform(1.15, 1.6, 2) + side * 0.1)
    wood = np.array([0.45, 0.3, 0.18]) * random.uniform(0.6, 1.5)
    grain = np.asarray(Image.fromarray(random.integers(0, 256, (height, width // 16 + 1), np.uint8)))
    grain = np.repeat(grain, 16, axis=1)[:, :width, None] / 255 - 0.5
    colour = (wood * (1 + 0.25 * grain) * 255).clip(0, 255).astype(np.uint8)
    photo = Image.fromarray(colour)
    angle = float(random.normal(0, 6))
    whole = Image.new("L", paper.size, 255).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    paper = paper.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    room = photo.width - paper.width, photo.height - paper.height
    at = (int(room[0] * random.uniform(0.1, 0.9)), int(room[1] * random.uniform(0.1, 0.9)))
    photo.paste(paper, at, whole)
    lit = np.asarray(photo) * _light(height, width, random)[..., None]
    return _jpeg(_camera(Image.fromarray(lit.astype(np.uint8)), random), int(random.integers(40, 92)))


def pencil(writer: Writer, label: int) -> Seen:
    """Thin, pale and broken by the grain of the paper."""
    random = writer.random
    side = int(random.integers(180, 420))
    ink = writer.ink(label, side, random.uniform(0.01, 0.025))
    grain = Image.fromarray(random.integers(0, 256, (side, side), np.uint8)).filter(
        ImageFilter.GaussianBlur(0.7)
    )
    ink = ink * (np.asarray(grain) > random.uniform(60, 120)) * random.uniform(0.25, 0.6)
    page = (1 - ink) * _light(side, side, random) * random.uniform(180, 255)
    page = page + random.normal(0, random.uniform(0, 4), page.shape)
    return _jpeg(Image.fromarray(page.clip(0, 255).astype(np.uint8)), int(random.integers(50, 95)))


def tablet(writer: Writer, label: int) -> Seen:
    """A stroke with alpha: dark or light ink on nothing."""
    random = writer.random
    side = int(random.integers(64, 300))
    ink = writer.ink(label, side, random.uniform(0.02, 0.09))
    colour = [(0, 0, 0), (255, 255, 255), (30, 60, 200), (250, 220, 60)][random.integers(4)]
    image = Image.new("RGBA", (side, side), (*colour, 0))
    image.putalpha(Image.fromarray((ink * 255).astype(np.uint8)))
    return _png(image)


def mouse(writer: Writer, label: int) -> Seen:
    """Drawn on a web page: one width, black on white or white on black, anywhere on the canvas."""
    random = writer.random
    side = int(random.choice([100, 150, 200, 280, 400]))
    part = int(side * random.uniform(0.5, 1.0))
    canvas = np.zeros((side, side), np.float32)
    top, left = random.integers(0, side - part + 1, 2)
    canvas[top : top + part, left : left + part] = writer.ink(label, part, random.uniform(0.02, 0.12))
    if random.random() < 0.5:
        canvas = 1 - canvas
    return _png(Image.fromarray((canvas * 255).astype(np.uint8)))


def crop(writer: Writer, label: int) -> Seen:
    """Cut out without any margin, from a photograph or a scan."""
    random = writer.random
    side = int(random.integers(40, 400))
    ink = _trimmed(writer.ink(label, side, random.uniform(0.03, 0.1) if random.random() < 0.5 else None))
    dark, light = random.uniform(0, 90), random.uniform(150, 255)
    page = (light - ink * (light - dark)) * _light(ink.shape[0], ink.shape[1], random)
    page = page + random.normal(0, random.uniform(0, 6), ink.shape)
    image = Image.fromarray(page.clip(0, 255).astype(np.uint8))
    return _jpeg(image.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 0.01)) * side)), 75)


def scan(writer: Writer, label: int) -> Seen:
    """A form that was scanned: nearly black and white, with specks, sometimes inside a printed box."""
    random = writer.random
    side = int(random.integers(50, 200))
    ink = writer.ink(label, side, random.uniform(0.02, 0.07) if random.random() < 0.5 else None)
    for _ in range(int(random.integers(0, 6))):
        y, x = random.integers(0, side - 3, 2)
        ink[y : y + int(random.integers(1, 3)), x : x + int(random.integers(1, 3))] = 1
    if random.random() < 0.3:
        thick = max(1, side // 60)
        for edge in (np.s_[:thick], np.s_[-thick:]):
            ink[edge] = 1
            ink[:, edge] = 1
    page = 255 - ink * random.uniform(150, 255)
    if random.random() < 0.5:
        page = np.where(page > 160, 255, 0)
    return _png(Image.fromarray(page.astype(np.uint8)))


def small_grey(writer: Writer, label: int) -> Seen:
    """16x16, grey, its box filled with the aspect kept: an envelope of the eighties."""
    random = writer.random
    ink = _trimmed(writer.ink(label, 120, random.uniform(0.05, 0.13) if random.random() < 0.3 else None))
    ink = _squared(ink)
    small = Image.fromarray((ink * 255).astype(np.uint8)).resize((16, 16), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float32).clip(0, 255)
    pixels = pixels if random.random() < 0.5 else 255 - pixels
    return _png(Image.fromarray(pixels.astype(np.uint8)))


def small_binary(writer: Writer, label: int) -> Seen:
    """16x16, black and white, stretched to fill the box."""
    random = writer.random
    ink = _trimmed(writer.ink(label, 120, random.uniform(0.02, 0.09) if random.random() < 0.6 else None))
    small = Image.fromarray((ink * 255).astype(np.uint8)).resize((16, 16), Image.Resampling.BOX)
    pixels = np.asarray(small) > random.uniform(70, 140)
    if random.random() < 0.5:
        pixels = ~pixels
    return _png(Image.fromarray((pixels * 255).astype(np.uint8)))


KINDS: Mapping[str, Callable[[Writer, int], Seen]] = {
    "photo-white": photograph("white"),
    "photo-lined": photograph("lined"),
    "photo-grid": photograph("grid"),
    "pencil": pencil,
    "tablet": tablet,
    "mouse": mouse,
    "crop": crop,
    "scan": scan,
    "small-grey": small_grey,
    "small-binary": small_binary,
    "photo-table": table,
}


def _trimmed(ink: Ink) -> Ink:
    ys, xs = np.nonzero(ink > 0.3)
    return ink[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def _squared(ink: Ink) -> Ink:
    height, width = ink.shape
    side = max(height, width)
    square = np.zeros((side, side), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = ink
    return square


def _png(image: Image.Image) -> Seen:
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue(), "png"


def _jpeg(image: Image.Image, quality: int) -> Seen:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue(), "jpg"


def simulate(writer: Writer, count: int) -> list[tuple[str, int, Seen]]:
    """`count` pictures of each kind, labels in turn: kind, label, picture."""
    return [(kind, i % 10, take(writer, i % 10)) for kind, take in KINDS.items() for i in range(count)]


def synthetic_split(train: Split, count: int, seed: int) -> Split:
    """`count` simulated pictures of training digits, as the service would show them to a model.

    Photographs are left out: they cost most, and what `models.preprocessing` makes of them looks like the rest.
    """
    random = np.random.default_rng(seed)
    writer = Writer(train.images[:, 0].numpy(), train.labels.numpy(), random)
    images: list[Grey] = []
    labels: list[int] = []
    while len(images) < count:
        label = int(random.integers(10))
        data, _ = KINDS[_CHEAP[len(images) % len(_CHEAP)]](writer, label)
        with contextlib.suppress(NothingFound), Image.open(io.BytesIO(data)) as image:
            images.append(preprocess_digit(image.convert("LA" if image.mode == "RGBA" else "L"))[0])
            labels.append(label)
    return Split(torch.from_numpy(np.stack(images)[:, None]), torch.tensor(labels))


_CHEAP = ("mouse", "small-grey", "small-binary", "tablet", "small-grey", "small-binary", "crop", "scan")


def main() -> None:
    """Write pictures and `labels.json` into a directory."""
    parser = argparse.ArgumentParser(
        prog="python -m training.synthetic.rendering", description="Simulate pictures of digits."
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--count", type=int, default=26, help="pictures of each kind (default 26)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("MINIST_DATA_DIR", "data")))
    chosen = parser.parse_args()
    _, held_out = load_dataset("mnist", chosen.data_dir).hold_out(5000, 0)
    assert held_out is not None
    random = np.random.default_rng(chosen.seed)
    writer = Writer(held_out.images[:, 0].numpy(), held_out.labels.numpy(), random)
    chosen.directory.mkdir(parents=True, exist_ok=True)
    labels = {}
    for number, (kind, label, (data, ending)) in enumerate(simulate(writer, chosen.count)):
        name = f"{kind}-{number % chosen.count:02d}.{ending}"
        (chosen.directory / name).write_bytes(data)
        labels[name] = label
    (chosen.directory / "labels.json").write_text(json.dumps(labels, indent=0) + "\n")


if __name__ == "__main__":
    main()
