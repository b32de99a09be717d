"""The corrections of a model as a zip of class folders, which imports as any other."""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.serving.samples import encode, folders
from app.store.feedback import Correction

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same corrections give the same bytes


def write_corrections(path: Path, corrections: Sequence[Correction], shape: tuple[int, int, int]) -> None:
    """Write `CLASS/ID.png` of each; `shape` is (channels, height, width) of the model's input."""
    labels = sorted({correction.label for correction in corrections})
    folder = dict(zip(labels, folders(labels), strict=True))
    with zipfile.ZipFile(path, "w") as archive:
        for correction in sorted(corrections, key=lambda one: one.id):
            pixels = np.frombuffer(correction.pixels, np.uint8)
            side = math.isqrt(pixels.size)  # of a version that took another shape
            image = pixels.reshape(shape if pixels.size == math.prod(shape) else (1, side, side))
            name = f"{folder[correction.label]}/{correction.id}.png"
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), encode(image))
