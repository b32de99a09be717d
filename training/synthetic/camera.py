"""From ink to an image file: coloured pens, ruled paper, light, the camera, the encoder."""

import io

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training.synthetic.hands import Ink

Picture = tuple[bytes, str]  # an encoded picture and the ending of its file name


def pen_colour(random: Generator) -> NDArray[np.float64]:
    """The share of red, green and blue light that an ink reflects."""
    kind = random.integers(4)
    if kind == 0:  # ball pen, blue
        return np.array([0.1, 0.2, 0.6]) + random.uniform(0, 0.2)
    if kind == 1:  # pencil
        return np.ones(3) * random.uniform(0.35, 0.65)
    if kind == 2:  # red or green
        return np.array([[0.75, 0.15, 0.15], [0.1, 0.5, 0.25]][random.integers(2)])
    return np.ones(3) * random.uniform(0.02, 0.25)


def ruled_lines(paper: str, height: int, width: int, random: Generator) -> Ink:
    """Printed lines or a grid, slightly rotated, as ink."""
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


def lighting(height: int, width: int, random: Generator) -> Ink:
    """Light on each pixel, 0..1: a gradient, darker corners, sometimes the edge of a shadow."""
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


def photographed(photo: Image.Image, random: Generator) -> Image.Image:
    """The picture with perspective, blur and grain."""
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


def to_png(image: Image.Image) -> Picture:
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue(), "png"


def to_jpeg(image: Image.Image, quality: int) -> Picture:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue(), "jpg"
