"""What was read becomes a data set on disk: classes, groups and splits, pictures, profile and digest."""

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.files import write_atomically
from models.imported import IMAGES, LARGE, ROWS, TEST, TRAIN, VALIDATION
from models.preprocessing.pictures import Resize
from training.errors import DatasetError
from training.importing import dataset, profile
from training.importing.dataset import NAMES, PROFILE, Imported, Options
from training.importing.found import Found
from training.importing.layout import Split
from training.importing.splits import group_ids, hold_out, joined

MAX_CLASSES = 1000
LARGE_ROWS, HEADER_BYTES = ".large", 128  # a file while it is written, and the bytes that its header will take
_SPLIT: dict[Split, int] = {"train": TRAIN, "validation": VALIDATION, "test": TEST}


def write_dataset(
    source: Path,
    directory: Path,
    rgb: Path,
    found: Found,
    options: Options,
    size: tuple[int, int],
    resize: Resize,
) -> Imported:
    """Write all of it; `rgb` holds the pixels [N, height, width, 3] that were gathered. Raises DatasetError."""
    classes = tuple(sorted(set(found.labels)))
    _check_classes(classes, found)
    number = {label: index for index, label in enumerate(classes)}
    labels = np.array([number[label] for label in found.labels], np.int64)
    groups = _groups(found, options)
    splits = _split(found, labels, groups, options)
    images = _write_images(rgb, directory / IMAGES, len(labels), size, found.coloured)
    if found.large and found.coloured:
        _name_large(rgb.with_name(LARGE_ROWS), directory / LARGE, (len(labels), 3, found.large, found.large))
    np.savez(directory / ROWS, labels=labels, splits=splits.astype(np.int8), groups=groups)
    write_atomically(directory / NAMES, json.dumps(found.names, ensure_ascii=False).encode())
    digest = hashlib.sha256()
    for part in (labels, splits.astype(np.int64)):
        digest.update(part.tobytes())
    for start in range(0, len(images), 4096):
        digest.update(images[start : start + 4096].tobytes())
    channels, height, width = images.shape[1:]
    facts = profile.profile(found, labels, splits, classes)
    described = dataset.ImageProfile(
        digest=digest.hexdigest(),
        source_digest=_digest(source),
        options=options,
        images=len(labels),
        channels=channels,
        height=height,
        width=width,
        resize=resize,
        classes=classes,
        **facts,
    )
    write_atomically(directory / PROFILE, described.model_dump_json(indent=2).encode() + b"\n")
    return Imported(directory)


def _check_classes(classes: tuple[str, ...], found: Found) -> None:
    if not classes:
        raise DatasetError(
            f"no picture could be read: {len(found.bad):,} files were left out, such as "
            + (f"{found.bad[0].path}: {found.bad[0].reason}" if found.bad else "none")
        )
    if len(classes) < 2:
        raise DatasetError(
            f"there is one class, {classes[0]!r}: a classifier needs two at least, each in a folder of its own"
            + (
                f"; {len(found.bad)} files were left out, such as {found.bad[0].path}: {found.bad[0].reason}"
                if found.bad
                else ""
            )
        )
    if len(classes) > MAX_CLASSES:
        raise DatasetError(
            f"there are {len(classes):,} classes, at most {MAX_CLASSES:,} are taken: is each file a class?"
        )


def _groups(found: Found, options: Options) -> NDArray[np.int64]:
    """Duplicates are one group; so are pictures whose paths say so."""
    groups = group_ids(found.digests)
    if options.group_pattern is None:
        return groups
    try:
        pattern = re.compile(options.group_pattern)
    except re.error as error:
        raise DatasetError(f"the group pattern is not a regular expression ({error})") from error
    keys = [
        (m.group((m.lastindex and 1) or 0) if (m := pattern.search(name)) else name) for name in found.names
    ]
    return joined(groups, group_ids(keys))


def _split(
    found: Found, labels: NDArray[np.int64], groups: NDArray[np.int64], options: Options
) -> NDArray[np.int64]:
    """Given splits are honoured; a missing test or validation split is cut from training."""
    splits = np.array([_SPLIT[split] if split else TRAIN for split in found.splits], np.int64)
    if not (splits == TEST).any():
        splits[hold_out(labels, groups, np.flatnonzero(splits == TRAIN), options.test_share, options.seed)] = (
            TEST
        )
    if not (splits == VALIDATION).any():
        rows = np.flatnonzero(splits == TRAIN)
        splits[hold_out(labels, groups, rows, options.validation_share, options.seed + 1)] = VALIDATION
    return splits


def _write_images(
    rgb: Path, path: Path, count: int, size: tuple[int, int], coloured: bool
) -> NDArray[np.uint8]:
    """images.npy from the RGB rows that were gathered, grey where nothing has a colour."""
    height, width = size
    source = np.memmap(rgb, np.uint8, "r", shape=(count, height, width, 3))
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 3 if coloured else 1, height, width))
    for start in range(0, count, 1024):
        part = source[start : start + 1024]
        images[start : start + 1024] = part.transpose(0, 3, 1, 2) if coloured else _grey(part)
    images.flush()
    found: NDArray[np.uint8] = images
    return found


def _name_large(raw: Path, path: Path, shape: tuple[int, int, int, int]) -> None:
    """large.npy from the rows that were gathered behind room for its header."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    assert len(header.getvalue()) == HEADER_BYTES
    with raw.open("r+b") as file:
        file.write(header.getvalue())
    raw.replace(path)


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ITU-R 601-2 luma, as Pillow's `convert("L")`; [N, H, W, 3] to [N, 1, H, W]."""
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[:, None]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
