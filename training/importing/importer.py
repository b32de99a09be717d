"""An uploaded file becomes a data set directory. Memory stays bounded: pictures go to disk as they are read.
A table is read by `training.importing.tables`.

zip of class folders -> headers (size, mode) -> one size for all -> decoded by a few threads --+
npz, idx             -> parts of arrays -------------------------------------------------------+-> images.npy
-> exact and near duplicates, splits that keep them on one side -> profile, digest
"""

import hashlib
import io
import json
import os
import re
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.files import write_atomically
from models.imported import IMAGES, LARGE, ROWS, TEST, TRAIN, VALIDATION
from models.preprocessing.pictures import Pixels, Resize, fit_into, to_planes
from training.errors import DatasetError
from training.importing import dataset, profile
from training.importing.archive import Archive
from training.importing.arrays import Part, idx_members, read_idx, read_npz
from training.importing.dataset import NAMES, PROFILE, SHARED, Imported, Options, as_table
from training.importing.layout import Entry, Layout, Split, read_layout
from training.importing.pictures import Header, load_rgb, read_header
from training.importing.splits import group_ids, hold_out, joined
from training.importing.tables.facts import TableDraft, TableOptions, TableProfile
from training.importing.tables.files import is_table
from training.importing.tables.importer import import_table

MAX_CLASSES = 1000
SIDES = (24, 28, 32, 48, 64, 96)  # what `auto` chooses from
GREY = 6  # the most that red, green and blue of a grey photograph differ, on average
PHOTOGRAPH = 96  # pixels along the shorter side
MOST_LARGE = 6_000  # pictures of which larger copies are kept
LARGE_SIDES = (224, 160)  # of these, for few and for many pictures
_LARGE, _HEADER = ".large", 128  # a file while it is written, and the bytes that its header will take
AHEAD = 64  # pictures that are decoded at once
_SPLIT: dict[Split, int] = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
Progress = Callable[[int, int], None]  # done, of


@dataclass
class Found:
    """What reading collects, row by row."""

    labels: list[str] = field(default_factory=list)
    splits: list[Split | None] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    looks: list[bytes] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    bad: list[dataset.BadFile] = field(default_factory=list)
    ignored: dict[str, tuple[str, ...]] = field(default_factory=dict)
    empty_classes: tuple[str, ...] = ()
    encodings: dict[str, int] = field(default_factory=dict)
    coloured: bool = False
    large: int | None = None  # side of larger copies


def import_any(
    source: Path, directory: Path, options: Options | TableOptions, progress: Progress
) -> Imported | TableProfile | TableDraft:
    """Read pictures or a table into `directory`, which must exist and be empty. Raises DatasetError."""
    if is_table(source):
        return import_table(source, directory, _for_table(options), progress)
    if isinstance(options, TableOptions):
        raise DatasetError("the file holds no table: options such as target and roles are of tables")
    return import_file(source, directory, options, progress)


def _for_table(options: Options | TableOptions) -> TableOptions:
    """What was said of the file, whatever it was taken for. Raises DatasetError for options of pictures."""
    if isinstance(options, TableOptions):
        return options
    said = {
        name
        for name in options.model_fields_set
        if getattr(options, name) != Options.model_fields[name].default
    }
    if wrong := sorted(said - set(SHARED)):
        raise DatasetError(f"the file holds a table: {', '.join(wrong)} is an option of pictures")
    return as_table(options)


def import_file(source: Path, directory: Path, options: Options, progress: Progress) -> Imported:
    """Read pictures (zip, npz) into `directory`, which must exist and be empty. Raises DatasetError."""
    found = Found()
    rgb = directory / ".rgb"
    try:
        if _is_npz(source):
            size, resize = _from_parts(read_npz(source), rgb, found, options, progress)
        else:
            with Archive(source) as archive:
                found.bad += [dataset.BadFile(path=r.path, reason=r.reason) for r in archive.refused]
                found.encodings = archive.encodings
                if idx_members(archive):
                    size, resize = _from_parts(read_idx(archive), rgb, found, options, progress)
                else:
                    size, resize = _from_pictures(archive, rgb, found, options, progress)
        return _finish(source, directory, rgb, found, options, size, resize)
    finally:
        rgb.unlink(missing_ok=True)
        rgb.with_name(_LARGE).unlink(missing_ok=True)


# -- pictures ----------------------------------------------------------------------------------------


def _from_pictures(
    archive: Archive, rgb: Path, found: Found, options: Options, progress: Progress
) -> tuple[tuple[int, int], Resize]:
    layout = read_layout(archive.members, archive.folders)
    found.ignored, found.empty_classes = dict(layout.ignored), layout.empty_classes
    entries = _wanted(layout, options)
    headers = _headers(archive, entries, found, progress)
    size, resize = choose_size(list(headers.values()), options)
    found.large = choose_large(list(headers.values()))
    with (
        rgb.open("wb") as file,
        rgb.with_name(_LARGE).open("wb") as larger,
        started_threads(os.cpu_count() or 1) as pool,
    ):
        larger.write(bytes(_HEADER))
        readable = [entry for entry in entries if entry.member.index in headers]
        for done, (entry, both) in enumerate(_decoded(pool, archive, readable, size, resize, found.large)):
            pixels = both if isinstance(both, str) else both[0]
            if isinstance(pixels, str):
                found.bad.append(dataset.BadFile(path=str(entry.member.path), reason=pixels))
                continue
            header = headers[entry.member.index]
            found.sizes[f"{header.width}x{header.height}"] += 1
            found.modes[header.mode] += 1
            _add(found, file.write, pixels, _renamed(entry.label, options), entry.split, str(entry.member.path))
            if not isinstance(both, str) and both[1] is not None:
                larger.write(to_planes(both[1]))
            if done % 100 == 0:
                progress(len(entries) + done, 2 * len(entries))
    return size, resize


def _wanted(layout: Layout, options: Options) -> list[Entry]:
    entries = [entry for entry in layout.entries if entry.label not in options.drop]
    if not entries:
        raise DatasetError("every class was dropped: keep two at least")
    return entries


def _headers(archive: Archive, entries: Sequence[Entry], found: Found, progress: Progress) -> dict[int, Header]:
    headers: dict[int, Header] = {}
    for done, entry in enumerate(entries):
        try:
            headers[entry.member.index] = read_header(archive.read(entry.member))
        except ValueError as error:
            found.bad.append(dataset.BadFile(path=str(entry.member.path), reason=str(error)))
        if done % 500 == 0:
            progress(done, 2 * len(entries))
    if not headers:
        raise DatasetError(f"none of the {len(entries):,} files is a picture that can be read")
    return headers


def choose_size(headers: Sequence[Header], options: Options) -> tuple[tuple[int, int], Resize]:
    """(height, width) of all pictures, and how they are brought to it.

    Small pictures of one size stay as they are. Else it is a square of the largest of `SIDES` not larger
    than most pictures' shorter side; shapes that differ much are padded.
    """
    shapes = Counter((header.height, header.width) for header in headers)
    (common, _), *_ = shapes.most_common(1)
    aspects = np.array([header.width / header.height for header in headers])
    differ = float(np.quantile(aspects, 0.95) / np.quantile(aspects, 0.05)) > 1.15
    resize: Resize = ("pad" if differ else "stretch") if options.resize == "auto" else options.resize
    if options.size is not None:
        return (options.size, options.size), resize
    if len(shapes) == 1 and max(common) <= SIDES[-1] and min(common) >= 8:
        return common, "stretch"
    shorter = float(np.quantile([min(header.height, header.width) for header in headers], 0.25))
    side = max([side for side in SIDES if side <= shorter], default=SIDES[0])
    side = min(side, 64)
    aspect = float(np.median(aspects))
    if not differ and (aspect > 1.25 or aspect < 0.8):  # all wide, or all tall: keep that
        return (side, min(round(side * aspect), 2 * side)) if aspect > 1 else (
            min(round(side / aspect), 2 * side),
            side,
        ), resize
    return (side, side), resize


def choose_large(headers: Sequence[Header]) -> int | None:
    """The side of the larger copies that are kept of photographs, for models that were trained on such.

    None where most pictures are smaller, or they are so many that they teach enough by themselves.
    """
    shorter = float(np.quantile([min(header.height, header.width) for header in headers], 0.25))
    if shorter < PHOTOGRAPH or len(headers) > MOST_LARGE:
        return None
    return LARGE_SIDES[len(headers) > MOST_LARGE // 3]


@contextmanager
def started_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose threads run already, while there is memory: for one that dies of a MemoryError as it starts,
    `Thread.start` would wait without end."""
    together = threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        try:
            for each in [pool.submit(together.wait) for _ in range(count)]:
                each.result()
        except BaseException:
            together.abort()
            raise
        yield pool


Both = tuple[Pixels, Pixels | None]  # and the larger copy


def _decoded(
    pool: ThreadPoolExecutor,
    archive: Archive,
    entries: Sequence[Entry],
    size: tuple[int, int],
    resize: Resize,
    large: int | None,
) -> Iterator[tuple[Entry, Both | str]]:
    """Pixels or the reason why not, in order; a bounded number of pictures is in memory."""
    rest = iter(entries)
    waiting: list[tuple[Entry, Future[Both | str]]] = []

    def submit(count: int) -> None:
        for entry in islice(rest, count):
            try:
                data = archive.read(entry.member)  # zipfile reads in this thread only
            except ValueError as error:
                waiting.append((entry, pool.submit(str, error)))
                continue
            waiting.append((entry, pool.submit(_load, data, size, resize, large)))

    submit(AHEAD)
    while waiting:
        entry, future = waiting.pop(0)
        yield entry, future.result()
        submit(1)


def _load(data: bytes, size: tuple[int, int], resize: Resize, large: int | None) -> Both | str:
    try:
        small = np.asarray(fit_into(load_rgb(data, size), size, resize))
        if large is None:
            return small, None
        sides = (large, large)  # decoded again, as it will be for a model of that size
        return small, np.asarray(fit_into(load_rgb(data, sides), sides, resize))
    except ValueError as error:
        return str(error)


# -- arrays ------------------------------------------------------------------------------------------


def _from_parts(
    parts: Iterator[Part], rgb: Path, found: Found, options: Options, progress: Progress
) -> tuple[tuple[int, int], Resize]:
    size: tuple[int, int] | None = None
    with rgb.open("wb") as file:
        for part in parts:
            size = size or _array_size(part, options)
            if part.images.shape[1:3] != size and options.size is None:
                raise DatasetError(f"{part.split} has pictures of another size than the splits before")
            for pixels, label in zip(part.images, part.labels, strict=True):
                if label in options.drop:
                    continue
                image = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
                found.sizes[f"{image.width}x{image.height}"] += 1
                found.modes[image.mode] += 1
                small = np.asarray(fit_into(image.convert("RGB"), size, "stretch"))
                name = f"{part.split}/{len(found.names)}"
                _add(found, file.write, small, _renamed(label, options), part.split, name)
            progress(len(found.names), 0)
    if size is None:
        raise DatasetError("the file holds no pictures")
    return size, "stretch"


def _array_size(part: Part, options: Options) -> tuple[int, int]:
    height, width = part.images.shape[1:3]
    if options.size is not None:
        return options.size, options.size
    if max(height, width) > SIDES[-1]:
        return SIDES[-1], SIDES[-1]
    return height, width


# -- both --------------------------------------------------------------------------------------------


def _add(
    found: Found, write: Callable[[bytes], object], pixels: Pixels, label: str, split: Split | None, name: str
) -> None:
    data = pixels.tobytes()
    write(data)
    found.labels.append(label)
    found.splits.append(split)
    found.names.append(name)
    found.digests.append(hashlib.sha256(data).digest()[:16])
    found.looks.append(profile.look(pixels))
    if not found.coloured:
        spread = pixels.max(2).astype(np.int16) - pixels.min(2)
        found.coloured = float(spread.mean()) > GREY


def _renamed(label: str, options: Options) -> str:
    return options.rename.get(label, label)


def _finish(
    source: Path,
    directory: Path,
    rgb: Path,
    found: Found,
    options: Options,
    size: tuple[int, int],
    resize: Resize,
) -> Imported:
    classes = tuple(sorted(set(found.labels)))
    _check_classes(classes, found)
    number = {label: index for index, label in enumerate(classes)}
    labels = np.array([number[label] for label in found.labels], np.int64)
    groups = _groups(found, options)
    splits = _split(found, labels, groups, options)
    images = _write_images(rgb, directory / IMAGES, len(labels), size, found.coloured)
    if found.large and found.coloured:
        _name_large(rgb.with_name(_LARGE), directory / LARGE, (len(labels), 3, found.large, found.large))
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
    assert len(header.getvalue()) == _HEADER
    with raw.open("r+b") as file:
        file.write(header.getvalue())
    raw.replace(path)


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ITU-R 601-2 luma, as Pillow's `convert("L")`; [N, H, W, 3] to [N, 1, H, W]."""
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[:, None]


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
