"""The corrections of a model as a file that imports as any other: class folders in a zip, or a table."""

import csv
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.serving.samples import encode, folders
from app.store.feedback import Correction
from models.tables import TableInput

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


def write_rows(path: Path, rows: Sequence[tuple[Mapping[str, Any], str]], spec: TableInput) -> None:
    """Write a CSV file of rows and their right classes; `spec` is what the model takes."""
    names = [column.name for column in spec.columns]
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        table = csv.writer(file)
        table.writerow([*names, spec.target])
        for row, label in rows:
            table.writerow([*("" if row[name] is None else row[name] for name in names), label])


def options_of_rows(rows: Sequence[tuple[Mapping[str, Any], str]], spec: TableInput) -> dict[str, Any]:
    """What the import cannot tell from a few rows: the target, and what the columns are."""
    roles = {}
    for column in spec.columns:
        values = {row[column.name] for row, _ in rows} - {None}
        if values:  # truth values that are all the same could be anything
            roles[column.name] = "categorical" if column.role == "boolean" and len(values) < 2 else column.role
    form = {"header": True, "separator": ",", "encoding": "utf-8"}
    return {"target": spec.target, "roles": roles, "numeric_target": "classes", **form}
