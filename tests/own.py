"""Small data sets of one's own, drawn in the test: what a person would bring, in seconds."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.importing.dataset import Imported, Options
from training.importing.importer import import_file
from training.recipes import Config

COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (50, 60, 200)}


def drawing(label: str, random: np.random.Generator, side: int = 48, mode: str = "RGB") -> Image.Image:
    """A disc of a colour anywhere on a pale ground; grey: an arrow to the left or to the right."""
    ground = tuple(int(value) for value in random.integers(200, 250, 3))
    image = Image.new("RGB", (side, side), ground)
    pen = ImageDraw.Draw(image)
    x, y = (int(value) for value in random.integers(side // 4, 3 * side // 4, 2))
    size = side // 5
    if label in COLOURS:
        pen.ellipse((x - size, y - size, x + size, y + size), fill=COLOURS[label])
    else:
        tip = -size if label == "left" else size
        pen.line((x - size, y, x + size, y), fill=(20, 20, 20), width=max(2, side // 14))
        pen.polygon([(x + tip, y - size // 2), (x + tip, y + size // 2), (x + 2 * tip, y)], fill=(20, 20, 20))
    return image.convert(mode)


def archive(path: Path, labels: tuple[str, ...], each: int, side: int = 48, mode: str = "RGB") -> Path:
    """A zip of class folders."""
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as file:
        for label in labels:
            for number in range(each):
                stream = io.BytesIO()
                drawing(label, random, side, mode).save(stream, "PNG")
                file.writestr(f"{label}/{number}.png", stream.getvalue())
    return path


def imported(folder: Path, name: str, labels: tuple[str, ...], each: int, **drawn: object) -> Imported:
    """Version 1 of a data set under `folder`, as training looks for it."""
    directory = folder / name / "1"
    directory.mkdir(parents=True)
    source = archive(folder / f"{name}.zip", labels, each, **drawn)  # type: ignore[arg-type]
    return import_file(source, directory, Options(), lambda done, of: None)


def undecided(small: Config, transfer: Config) -> tuple[str, str]:
    """In place of a comparison, where there must be none."""
    raise AssertionError("nothing is to be compared")
