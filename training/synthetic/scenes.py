"""Pictures of digits as people send them, simulated: paper, cameras, tablets, canvases, old scanners.

Nothing here was fitted to the pictures that the service will meet.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter

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


def photograph(paper: str) -> Callable[[Writer, int], Picture]:
    """A kind of picture: a sheet of `paper` (white, lined, grid) under a camera."""

    def take(writer: Writer, label: int) -> Picture:
        random = writer.random
        height, width = (int(v) for v in random.integers(260, 640, 2))
        side = int(min(height, width) * random.uniform(0.45, 1.0))
        thin = random.random() < 0.6
        ink = writer.ink(label, side, random.uniform(0.015, 0.06) if thin else None)
        sheet = np.zeros((height, width), np.float32)
        top, left = (int(random.integers(0, room + 1)) for room in (height - side, width - side))
        sheet[top : top + side, left : left + side] = ink
        rules = ruled_lines(paper, height, width, random)
        tint = np.array([1, random.uniform(0.94, 1), random.uniform(0.82, 1)]) * random.uniform(0.75, 1)
        pen = pen_colour(random)
        line = np.array([random.uniform(0.55, 0.85), random.uniform(0.65, 0.9), random.uniform(0.8, 0.97)])
        colour = tint * (1 - rules[..., None] * (1 - line)) * (1 - sheet[..., None] * (1 - pen))
        photo = Image.fromarray(
            (colour * lighting(height, width, random)[..., None] * 255).clip(0, 255).astype(np.uint8)
        )
        photo = photographed(photo, random)
        return to_jpeg(photo, int(random.integers(40, 92)))

    return take


def table(writer: Writer, label: int) -> Picture:
    """A note or a sheet on a table, wholly in the picture."""
    random = writer.random
    side = int(random.integers(150, 300))
    ink = writer.ink(label, side, random.uniform(0.02, 0.06) if random.random() < 0.7 else None)
    sheet = np.zeros([int(side * v) for v in random.uniform(1.15, 2, 2)], np.float32)
    top, left = (int(random.integers(0, room + 1)) for room in np.subtract(sheet.shape, side))
    sheet[top : top + side, left : left + side] = ink
    tint = np.array([random.uniform(0.8, 1), random.uniform(0.8, 1), random.uniform(0.5, 1)])
    paper = Image.fromarray(((tint * (1 - sheet[..., None] * (1 - pen_colour(random)))) * 255).astype(np.uint8))
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
    lit = np.asarray(photo) * lighting(height, width, random)[..., None]
    return to_jpeg(photographed(Image.fromarray(lit.astype(np.uint8)), random), int(random.integers(40, 92)))


def pencil(writer: Writer, label: int) -> Picture:
    """Thin, pale and broken by the grain of the paper."""
    random = writer.random
    side = int(random.integers(180, 420))
    ink = writer.ink(label, side, random.uniform(0.01, 0.025))
    grain = Image.fromarray(random.integers(0, 256, (side, side), np.uint8)).filter(
        ImageFilter.GaussianBlur(0.7)
    )
    ink = ink * (np.asarray(grain) > random.uniform(60, 120)) * random.uniform(0.25, 0.6)
    page = (1 - ink) * lighting(side, side, random) * random.uniform(180, 255)
    page = page + random.normal(0, random.uniform(0, 4), page.shape)
    return to_jpeg(Image.fromarray(page.clip(0, 255).astype(np.uint8)), int(random.integers(50, 95)))


def tablet(writer: Writer, label: int) -> Picture:
    """A stroke with alpha: dark or light ink on a transparent canvas."""
    random = writer.random
    side = int(random.integers(64, 300))
    ink = writer.ink(label, side, random.uniform(0.02, 0.09))
    colour = [(0, 0, 0), (255, 255, 255), (30, 60, 200), (250, 220, 60)][random.integers(4)]
    image = Image.new("RGBA", (side, side), (*colour, 0))
    image.putalpha(Image.fromarray((ink * 255).astype(np.uint8)))
    return to_png(image)


def mouse(writer: Writer, label: int) -> Picture:
    """Drawn on a web page: one width, black on white or white on black, anywhere on the canvas."""
    random = writer.random
    side = int(random.choice([100, 150, 200, 280, 400]))
    part = int(side * random.uniform(0.5, 1.0))
    canvas = np.zeros((side, side), np.float32)
    top, left = random.integers(0, side - part + 1, 2)
    canvas[top : top + part, left : left + part] = writer.ink(label, part, random.uniform(0.02, 0.12))
    if random.random() < 0.5:
        canvas = 1 - canvas
    return to_png(Image.fromarray((canvas * 255).astype(np.uint8)))


def crop(writer: Writer, label: int) -> Picture:
    """Cut out without any margin, from a photograph or a scan."""
    random = writer.random
    side = int(random.integers(40, 400))
    ink = trimmed(writer.ink(label, side, random.uniform(0.03, 0.1) if random.random() < 0.5 else None))
    dark, light = random.uniform(0, 90), random.uniform(150, 255)
    page = (light - ink * (light - dark)) * lighting(ink.shape[0], ink.shape[1], random)
    page = page + random.normal(0, random.uniform(0, 6), ink.shape)
    image = Image.fromarray(page.clip(0, 255).astype(np.uint8))
    return to_jpeg(image.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 0.01)) * side)), 75)


def scan(writer: Writer, label: int) -> Picture:
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
    return to_png(Image.fromarray(page.astype(np.uint8)))


def small_grey(writer: Writer, label: int) -> Picture:
    """16x16, grey, fills its box with the aspect kept, as digits cut from envelopes in the eighties."""
    random = writer.random
    ink = trimmed(writer.ink(label, 120, random.uniform(0.05, 0.13) if random.random() < 0.3 else None))
    ink = _squared(ink)
    small = Image.fromarray((ink * 255).astype(np.uint8)).resize((16, 16), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float32).clip(0, 255)
    pixels = pixels if random.random() < 0.5 else 255 - pixels
    return to_png(Image.fromarray(pixels.astype(np.uint8)))


def small_binary(writer: Writer, label: int) -> Picture:
    """16x16, black and white, stretched to fill the box."""
    random = writer.random
    ink = trimmed(writer.ink(label, 120, random.uniform(0.02, 0.09) if random.random() < 0.6 else None))
    small = Image.fromarray((ink * 255).astype(np.uint8)).resize((16, 16), Image.Resampling.BOX)
    pixels = np.asarray(small) > random.uniform(70, 140)
    if random.random() < 0.5:
        pixels = ~pixels
    return to_png(Image.fromarray((pixels * 255).astype(np.uint8)))


def small_counts(writer: Writer, label: int) -> Picture:
    """8x8: of a bitmap of 32x32 that the digit fills, the share of ink in each square of 4x4."""
    random = writer.random
    ink = trimmed(writer.ink(label, 120, random.uniform(0.04, 0.12) if random.random() < 0.4 else None))
    bitmap = Image.fromarray((_squared(ink) * 255).astype(np.uint8)).resize((32, 32), Image.Resampling.BOX)
    counts = (np.asarray(bitmap) > random.uniform(70, 140)).reshape(8, 4, 8, 4).sum((1, 3))  # 0..16
    pixels = counts if random.random() < 0.25 else counts * 255 // 16
    return to_png(Image.fromarray(pixels.astype(np.uint8)))


def trimmed(ink: Ink) -> Ink:
    """What has ink, without the room around it."""
    ys, xs = np.nonzero(ink > 0.3)
    return ink[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def _squared(ink: Ink) -> Ink:
    height, width = ink.shape
    side = max(height, width)
    square = np.zeros((side, side), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = ink
    return square


KINDS: Mapping[str, Callable[[Writer, int], Picture]] = {
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
    "small-counts": small_counts,
}
