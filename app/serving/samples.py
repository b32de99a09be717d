"""Pictures of an imported data set, as a model will see them and as they came; rows of a table."""

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.serving.evaluation import read_test_set

SPLITS = ("train", "validation", "test")  # as the numbers in rows.npz
ORIGINALS = "originals.zip"  # small JPEGs of some pictures, by their row
ROW_SAMPLES = "samples.json"  # of a table: some rows as they came
_BLOCK = 64 * 1024


@dataclass(frozen=True)
class Sample:
    """One picture: its row, class and split by index, a PNG, and where it is kept a JPEG of what came."""

    row: int
    label: int
    split: int
    image: bytes
    original: bytes | None


def samples(directory: Path, label: int | None, split: str | None, limit: int) -> list[Sample]:
    """Some pictures, the first of each class and split before the second. Raises OSError."""
    labels, splits = _rows(directory)
    wanted = np.ones(len(labels), bool)
    if label is not None:
        wanted &= labels == label
    if split is not None:
        wanted &= splits == SPLITS.index(split)
    images = _images(directory)
    rows = first_of_each(labels, splits, np.flatnonzero(wanted))[:limit]
    originals = _originals(directory, rows)
    return [
        Sample(int(row), int(labels[row]), int(splits[row]), encode(images[row]), originals.get(int(row)))
        for row in rows
    ]


def first_of_each(
    labels: NDArray[np.int64], splits: NDArray[np.int8], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """`rows`, the first of each class and split first, then the second of each."""
    group = labels[rows] * len(SPLITS) + splits[rows]
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    return rows[np.lexsort((rows, group, rank))]


def built_in_samples(name: str, data_dir: Path, label: int | None, limit: int) -> list[Sample]:
    """Pictures of the test set of `mnist` or `fashion-mnist`, of one class or of each. Raises NoTestSet."""
    test = read_test_set(name, data_dir)
    labels, split = test.labels.numpy(), SPLITS.index("test")
    rows = np.flatnonzero(np.ones(len(labels), bool) if label is None else labels == label)
    chosen = first_of_each(labels, np.full(len(labels), split, np.int8), rows)[:limit]
    return [
        Sample(int(row), int(labels[row]), split, encode(test.images[int(row)].numpy()), None) for row in chosen
    ]


@dataclass(frozen=True)
class RowSample:
    """A row of a table: its number, class and split by index, and its values as they came."""

    row: int
    label: int
    split: int
    values: Mapping[str, str]


def row_samples(directory: Path, label: int | None, split: str | None, limit: int) -> list[RowSample]:
    """Some rows of a table, as `samples` chooses pictures. Raises OSError."""
    labels, splits = _rows(directory)
    kept = {sample["row"]: sample["values"] for sample in json.loads((directory / ROW_SAMPLES).read_bytes())}
    rows = np.array(sorted(kept), np.int64)
    if label is not None:
        rows = rows[labels[rows] == label]
    if split is not None:
        rows = rows[splits[rows] == SPLITS.index(split)]
    return [
        RowSample(int(row), int(labels[row]), int(splits[row]), kept[int(row)])
        for row in first_of_each(labels, splits, rows)[:limit]
    ]


def export_rows(directory: Path) -> Iterator[bytes]:
    """The rows of a table as they came, with their split: a CSV file, piece by piece. Raises OSError."""
    with (directory / "rows.csv").open("rb") as file:
        while piece := file.read(_BLOCK):
            yield piece


def export(directory: Path, classes: Sequence[str]) -> Iterator[bytes]:
    """A zip file, piece by piece: `train/CLASS/000001.png`, which imports again with the same splits."""
    labels, splits = _rows(directory)
    images = _images(directory)
    names = folders(classes)
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w") as archive:
        for row in range(len(labels)):
            name = f"{SPLITS[splits[row]]}/{names[labels[row]]}/{row:06}.png"
            archive.writestr(name, encode(images[row]))
            if pieces.size > _BLOCK:
                yield pieces.take()
    yield pieces.take()


def encode(image: NDArray[np.uint8]) -> bytes:
    """A picture [1 or 3, H, W] as a PNG file."""
    stream = io.BytesIO()
    pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class _Pieces(io.RawIOBase):
    """Takes what a zip file consists of, until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        self.size += len(data)
        return len(data)

    def take(self) -> bytes:
        found = b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        return found


def folders(classes: Sequence[str]) -> list[str]:
    """A folder for each class: names from outside, so nothing in them leads elsewhere when it is unpacked."""
    found: list[str] = []
    for index, label in enumerate(classes):
        name = re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", label).strip(". ")[:100] or "class"
        found.append(name if name not in found else f"{name}-{index}")
    return found


def _rows(directory: Path) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    with np.load(directory / "rows.npz", allow_pickle=False) as rows:
        return rows["labels"], rows["splits"]


def _images(directory: Path) -> NDArray[np.uint8]:
    images: NDArray[np.uint8] = np.load(directory / "images.npy", mmap_mode="r", allow_pickle=False)
    return images


def _originals(directory: Path, rows: NDArray[np.int64]) -> dict[int, bytes]:
    try:
        with zipfile.ZipFile(directory / ORIGINALS) as archive:
            there = set(archive.namelist())
            return {int(row): archive.read(f"{row}.jpg") for row in rows if f"{row}.jpg" in there}
    except FileNotFoundError:  # of arrays there are none
        return {}
