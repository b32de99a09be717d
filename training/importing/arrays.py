"""Data sets that come as arrays: npz as in MedMNIST, idx files as in MNIST. Read a part at a time."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.idx import idx_header
from training.errors import DatasetError
from training.importing.archive import Archive, Member
from training.importing.layout import Split

CHUNK = 256  # pictures between two reads
MAX_BYTES = 16 * 1024**3
_NPZ: Mapping[Split, str] = {"train": "train", "validation": "val", "test": "test"}
_IDX: Mapping[Split, tuple[str, ...]] = {"train": ("train",), "test": ("t10k", "test")}
_ERRORS = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, struct.error)


@dataclass(frozen=True)
class Part:
    """Some pictures of one split: uint8 [N, H, W] or [N, H, W, 3 or 4], labels as text."""

    split: Split
    images: NDArray[np.uint8]
    labels: list[str]


class _Stream(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def read_npz(path: Path) -> Iterator[Part]:
    """`train_images`, `train_labels`, and `val_` and `test_` where they are there. Raises DatasetError."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            if not {"train_images", "train_labels"} <= names:
                raise DatasetError(
                    f"the npz file has {', '.join(sorted(names)) or 'nothing'}: it needs train_images and "
                    "train_labels, and may have val_ and test_ of both"
                )
            for split, prefix in _NPZ.items():
                if f"{prefix}_images" in names:
                    with archive.open(f"{prefix}_labels.npy") as file:
                        labels = _labels(_whole(file))
                    with archive.open(f"{prefix}_images.npy") as file:
                        yield from _parts(split, file, *_npy_header(file), labels)
    except KeyError as error:
        raise DatasetError(f"the npz file lacks {error}") from error
    except _ERRORS as error:
        raise DatasetError(f"the npz file cannot be read ({error}): write it with numpy.savez") from error


def idx_members(archive: Archive) -> dict[Split, tuple[Member, Member]]:
    """Images and labels of each split by their usual names (`train-images-idx3-ubyte`), also gzipped."""
    found: dict[Split, tuple[Member, Member]] = {}
    for split, prefixes in _IDX.items():
        pair = [_one(archive, prefixes, kind) for kind in ("images", "labels")]
        if pair[0] is not None and pair[1] is not None:
            found[split] = (pair[0], pair[1])
    return found


def read_idx(archive: Archive) -> Iterator[Part]:
    """The idx files of an archive. Raises DatasetError."""
    try:
        for split, (images, labels) in idx_members(archive).items():
            names = [str(label) for label in _idx_bytes(archive.read(labels), 1)[1]]
            shape, pixels = _idx_bytes(archive.read(images), 3)
            yield from _parts(split, io.BytesIO(pixels), shape, np.dtype(np.uint8), names)
    except _ERRORS as error:
        raise DatasetError(f"the idx files cannot be read ({error})") from error


def _one(archive: Archive, prefixes: tuple[str, ...], kind: str) -> Member | None:
    for member in archive.members:
        name = member.name.lower()
        if name.startswith(prefixes) and kind in name and "ubyte" in name:
            return member
    return None


def _idx_bytes(data: bytes, dimensions: int) -> tuple[tuple[int, ...], bytes]:
    if data[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            data = file.read(1024**3)
    shape, end = idx_header(data)
    if len(shape) != dimensions:
        raise ValueError(f"the file is not idx of unsigned bytes in {dimensions} dimensions")
    if len(data) - end != int(np.prod(shape, dtype=object)):
        raise ValueError(f"its header promises {shape}, {len(data) - end:,} bytes follow")
    return shape, data[end:]


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if fortran and len(shape) > 1:
        raise ValueError("an array is in Fortran order: save numpy.ascontiguousarray of it")
    if dtype.hasobject:
        raise ValueError("an array holds Python objects, which are never loaded")
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"an array of {shape} is too large")
    return shape, dtype


def _whole(file: IO[bytes]) -> NDArray[Any]:
    shape, dtype = _npy_header(file)
    count = int(np.prod(shape, dtype=object))
    if count > 50_000_000:
        raise ValueError(f"labels of shape {shape} are too many")
    return np.frombuffer(_exactly(file, count * dtype.itemsize), dtype).reshape(shape)


def _labels(labels: NDArray[Any]) -> list[str]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"labels have the shape {list(labels.shape)}: one label per picture is needed")
    if labels.dtype.kind == "f" and not np.array_equal(labels, labels.astype(np.int64)):
        raise ValueError("labels are fractions: a class needs a whole number or a text")
    return [str(label) for label in (labels.astype(np.int64) if labels.dtype.kind in "fb" else labels).tolist()]


def _parts(
    split: Split, file: _Stream, shape: tuple[int, ...], dtype: np.dtype[Any], labels: list[str]
) -> Iterator[Part]:
    colour = len(shape) == 4 and shape[3] in (1, 3, 4)
    if not (len(shape) == 3 or colour) or 0 in shape:
        raise ValueError(
            f"images have the shape {list(shape)}: [N, height, width] or [N, height, width, 3] is needed"
        )
    if len(labels) != shape[0]:
        raise ValueError(f"{split} has {shape[0]:,} images and {len(labels):,} labels")
    if max(shape[1:3]) > 4096:
        raise ValueError(
            f"images of {shape[2]}x{shape[1]} pixels are too large for an array: send a zip of files"
        )
    row = int(np.prod(shape[1:], dtype=object)) * dtype.itemsize
    step = max(1, min(CHUNK, 64 * 1024**2 // row))
    for start in range(0, shape[0], step):
        count = min(step, shape[0] - start)
        values = np.frombuffer(_exactly(file, count * row), dtype).reshape(count, *shape[1:])
        yield Part(split, _as_bytes(values), labels[start : start + count])


def _as_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """0..255: as they are; fractions 0..1 and booleans: times 255; whole numbers up to 65,535: 16 bits."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65_535):
        raise ValueError(f"pixels lie between {low:g} and {high:g}: 0..255, 0..1 or 16 bits are read")
    if values.dtype.kind == "f" and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    if high <= 255 and values.dtype.kind == "f":
        return np.rint(values).astype(np.uint8)
    return (values if high <= 255 else values // 257).astype(np.uint8)


def _exactly(file: _Stream, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"the array ends early: {size - len(data):,} bytes are missing")
    return data
