"""Pictures of what is no digit, as the service would show them to a model of digits: characters, scribbles,
figures and noise.

A model that was trained on digits alone is as sure of these as of digits: it has to be shown them.
Source: Dhamija, Günther and Boult, "Reducing network agnostophobia" (arXiv:1811.04110).
"""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from models.errors import NothingFound
from models.preprocessing.decode import Grey
from models.preprocessing.preprocess import preprocess_digit
from training.synthetic.characters import LARGE, PEN, bent, invented, printed, rounded, stroked
from training.synthetic.hands import Ink

Kind = Callable[[Generator], Ink]

MARGIN = 12  # pixels around ink
RING = 0.15  # spread of the distances of a ring's points from its middle, as a share of their mean


def unfamiliar(count: int, seed: int) -> Tensor:
    """uint8 [count, 1, 28, 28], light on dark; the same for the same seed."""
    return pictures(KINDS, count, seed)


def pictures(kinds: Sequence[Kind], count: int, seed: int) -> Tensor:
    """`count` pictures of some kinds in turn, as `unfamiliar`."""
    random = np.random.default_rng(seed)
    found: list[Grey] = []
    while len(found) < count:
        ink = kinds[len(found) % len(kinds)](random)
        if not _may_be_a_digit(ink):
            with contextlib.suppress(NothingFound):
                found.append(_as_seen(ink, random))
    return torch.from_numpy(np.stack(found)[:, None])


def scribble(random: Generator) -> Ink:
    """One stroke that goes anywhere, round or with corners."""
    points = random.random((int(random.integers(5, 14)), 2))
    if random.random() < 0.5:
        points = np.cumsum(random.normal(size=points.shape), 0)
    if random.random() < 0.7:
        points = rounded(points)
    points = (points - points.min(0)) / max(float(np.ptp(points, 0).max()), 1e-6) * (LARGE * 0.8) + LARGE * 0.1
    image = Image.new("L", (LARGE, LARGE))
    width = max(1, round(2 * LARGE * random.uniform(*PEN)))
    ImageDraw.Draw(image).line([tuple(p) for p in points.tolist()], fill=255, width=width, joint="curve")
    return np.asarray(image, np.float32) / np.float32(255)


def figures(random: Generator) -> Ink:
    """Rectangles, ellipses, arcs and lines; the first two may be filled."""
    image = Image.new("L", (LARGE, LARGE))
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(2, 6))):  # an ellipse alone is a 0
        left, right = np.sort(random.uniform(5, LARGE - 5, 2))
        top, bottom = np.sort(random.uniform(5, LARGE - 5, 2))
        width, fill = int(random.integers(3, 10)), 255 if random.random() < 0.3 else None
        kind = int(random.integers(4)) if fill is None else int(random.integers(2))
        box = (left, top, right + 1, bottom + 1)
        if kind == 0:
            draw.rectangle(box, fill, 255, width)
        elif kind == 1:
            draw.ellipse(box, fill, 255, width)
        elif kind == 2:
            draw.arc(box, random.uniform(0, 360), random.uniform(0, 360), 255, width)
        else:
            draw.line((left, bottom, right, top), 255, width)
    return bent(image, random)


def texture(random: Generator) -> Ink:
    """Noise, spots, gradients: what is left of a picture in which nothing is written."""
    side = 28 if random.random() < 0.6 else int(random.integers(40, 160))
    noise: Ink = random.random((side, side), np.float32)
    if random.random() < 0.6:
        blurred = Image.fromarray((noise * 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(float(random.uniform(0.5, 3) * side / 28))
        )
        noise = np.asarray(blurred, np.float32) / np.float32(255)
        noise = (noise - noise.min()) / np.float32(max(float(np.ptp(noise)), 1e-6))
    if random.random() < 0.4:
        noise = (noise > random.uniform(0.4, 0.95)).astype(np.float32)
    return noise


def fragments(random: Generator) -> Ink:
    """Two characters that run into each other, or a part of one."""
    cut = int(random.uniform(0.3, 0.7) * LARGE)
    first = printed(random)
    if random.random() < 0.5:
        trimmed = slice(LARGE // 6, -LARGE // 6)
        return np.concatenate([first[:, trimmed], printed(random)[:, trimmed]], 1)
    return first[:cut] if random.random() < 0.5 else first[:, :cut]


KINDS: Sequence[Kind] = (
    *(printed,) * 9,
    *(stroked,) * 6,
    *(invented,) * 4,
    *(scribble,) * 3,
    *(figures,) * 2,
    texture,
    fragments,
)


def _may_be_a_digit(ink: Ink) -> bool:
    """Whether it may be a 1, as long, thin and upright as it is, or a 0, as a ring; or is nothing at all."""
    points = np.argwhere(ink > 0.3)[:, ::-1]  # x, y
    if len(points) < 3:
        return True
    sizes, axes = np.linalg.eigh(np.cov(points.T))
    if sizes[0] < 0.05 * sizes[1]:
        return bool(abs(axes[1, 1]) > 0.35)
    # an ellipse becomes a circle, whose points are all as far from the middle
    distances = np.linalg.norm((points - points.mean(0)) @ axes / np.sqrt(sizes), axis=1)
    return bool(distances.std() < RING * distances.mean())


def _as_seen(ink: Ink, random: Generator) -> Grey:
    """Raises NothingFound."""
    if ink.shape == (28, 28):  # of the size that goes to the model as it is
        return (ink * 255).astype(np.uint8)
    framed = np.pad(ink, MARGIN) * random.uniform(0.6, 1)
    page = 255 * (framed if random.random() < 0.3 else 1 - framed)
    return preprocess_digit(Image.fromarray(page.astype(np.uint8)))[0]
