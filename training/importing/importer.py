"""An uploaded file becomes a data set directory. Memory stays bounded: pictures go to disk as they are read.
A table is read by `training.importing.tables`.

zip of class folders -> headers (size, mode) -> one size for all -> decoded by a few threads --+
npz, idx             -> parts of arrays -------------------------------------------------------+-> images.npy
-> exact and near duplicates, splits that keep them on one side -> profile, digest (see `writing.py`)
"""

import hashlib
import os
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from models.preprocessing.pictures import Pixels, Resize, fit_into, to_planes
from training.errors import DatasetError
from training.importing import dataset, profile
from training.importing.archive import Archive
from training.importing.arrays import Part, idx_members, read_idx, read_npz
from training.importing.dataset import SHARED, Imported, Options, as_table
from training.importing.found import Found
from training.importing.layout import Entry, Layout, Split, read_layout
from training.importing.pictures import Header, load_rgb, read_header
from training.importing.tables.facts import TableDraft, TableOptions, TableProfile
from training.importing.tables.files import is_table
from training.importing.tables.importer import import_table
from training.importing.writing import HEADER_BYTES, LARGE_ROWS, write_dataset

SIDES = (24, 28, 32, 48, 64, 96)  # what `auto` chooses from
GREY = 6  # the most that red, green and blue of a grey photograph differ, on average
PHOTOGRAPH = 96  # pixels along the shorter side
MOST_LARGE = 6_000  # pictures of which larger copies are kept
LARGE_SIDES = (224, 160)  # of these, for few and for many pictures
AHEAD = 64  # pictures that are decoded at once
Progress = Callable[[int, int], None]  # done, of


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
        return write_dataset(source, directory, rgb, found, options, size, resize)
    finally:
        rgb.unlink(missing_ok=True)
        rgb.with_name(LARGE_ROWS).unlink(missing_ok=True)


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
        rgb.with_name(LARGE_ROWS).open("wb") as larger,
        started_threads(os.cpu_count() or 1) as pool,
    ):
        larger.write(bytes(HEADER_BYTES))
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


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)
