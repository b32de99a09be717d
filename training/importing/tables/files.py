"""The tables in a file that came: a CSV file, also gzipped, a parquet file, or a zip of them; within bounds.

Of a zip, files that are named train, validation or test (or lie in such a folder) are these splits.
"""

import gzip
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from training.errors import DatasetError
from training.importing.archive import Archive, Member
from training.importing.arrays import idx_members
from training.importing.layout import SPLITS, Split

MAX_UNPACKED = 8 * 1024**3  # bytes of one table
MAX_RATIO = 200  # times its compressed size; a table of counts reaches 15
FREE = 64 * 1024**2  # bytes that may unpack at any ratio
CHUNK = 1024**2
_GZIP, _PARQUET, _ZIP = b"\x1f\x8b", b"PAR1", b"PK\x03\x04"
_TABLES = (".csv", ".tsv", ".parquet", ".txt", ".data", ".tab")
_ZIPPED = (".csv.gz", ".tsv.gz")
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif", ".ppm", ".pgm", ".npy")
_ERRORS = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class TableFile:
    """One table: its name as it is shown, the split that it is, and how to open it (unpacked)."""

    name: str
    split: Split | None
    open: Callable[[], IO[bytes]]
    limit: int  # bytes that it may unpack to

    def chunks(self) -> Iterator[bytes]:
        """Its bytes. Raises DatasetError where it is damaged or unpacks to too much."""
        total = 0
        with self._named(), closing(self.open()) as stream:
            while chunk := stream.read(CHUNK):
                total += len(chunk)
                if total > self.limit:
                    raise DatasetError(
                        f"{self.name} unpacks to more than {self.limit:,} bytes: send it as it is"
                    )
                yield chunk

    def head(self, size: int) -> bytes:
        """Its first bytes. Raises DatasetError."""
        with self._named(), closing(self.open()) as stream:
            return stream.read(size)

    @property
    def is_parquet(self) -> bool:
        return self.head(len(_PARQUET)) == _PARQUET

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            raise DatasetError(f"{self.name} is damaged ({error}): send the whole file") from error


@contextmanager
def table_files(source: Path) -> Iterator[Sequence[TableFile]]:
    """The tables of a file, training first. Raises DatasetError where it is not clear which."""
    with source.open("rb") as file:
        head = file.read(4)
    if head == _ZIP:
        with Archive(source) as archive:
            yield _of_archive(archive)
    elif head[:2] == _GZIP:
        yield [TableFile("the file", None, partial(_unzipped, source), _limit(source.stat().st_size))]
    else:
        yield [TableFile("the file", None, partial(_plain, source), MAX_UNPACKED)]


def _unzipped(source: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(source))


def _member(archive: Archive, member: Member) -> IO[bytes]:
    return archive.open(member)


def _unzipped_member(archive: Archive, member: Member) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(archive.open(member)))


def _plain(source: Path) -> IO[bytes]:
    return source.open("rb")


def is_table(source: Path) -> bool:
    """Whether a file is to be read as a table: no zip, or tables without pictures. Raises DatasetError."""
    with source.open("rb") as file:
        head = file.read(4)
    if head != _ZIP:
        return not _is_empty_zip(head)
    with Archive(source) as archive:
        if idx_members(archive) or any(m.name.lower().endswith(_PICTURES) for m in archive.members):
            return False
        return bool(_tables(archive.members))


def _is_empty_zip(head: bytes) -> bool:
    return head[:2] == b"PK"


def _limit(compressed: int) -> int:
    return min(MAX_UNPACKED, max(FREE, MAX_RATIO * compressed))


def _tables(members: Sequence[Member]) -> list[Member]:
    found = [m for m in members if m.name.lower().endswith((*_TABLES, *_ZIPPED)) and not _is_hidden(m.path)]
    certain = [m for m in found if not m.name.lower().endswith(".txt")]
    return certain or found


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _of_archive(archive: Archive) -> list[TableFile]:
    members = _tables(archive.members)
    splits = {member: split for member in members if (split := _split(member.path)) is not None}
    chosen: list[Member] = list(splits) or members
    names = ", ".join(str(member.path) for member in members[:10])
    if not chosen:
        raise DatasetError("the archive holds no table: send a CSV file, or train.csv and test.csv in a zip")
    if len(set(splits.values())) != len(splits) or (len(chosen) > 1 and not splits):
        raise DatasetError(
            f"the archive holds {len(members)} tables ({names}): send one, or name them train.csv and test.csv"
        )
    if len(splits) == 1 and "train" not in splits.values():
        raise DatasetError(f"the archive holds a {next(iter(splits.values()))} table alone: add train.csv")
    order = ("train", "validation", "test")
    chosen.sort(key=lambda member: order.index(splits.get(member, "train")))
    return [
        TableFile(
            str(member.path),
            splits.get(member) if len(splits) > 1 else None,
            partial(_unzipped_member if member.name.lower().endswith(_ZIPPED) else _member, archive, member),
            _limit(archive.compressed(member)),
        )
        for member in chosen
    ]


def _split(path: PurePosixPath) -> Split | None:
    """By a word of its name, else by its folder."""
    for part in (path.stem, *reversed(path.parts[:-1])):
        found = {SPLITS[word] for word in re.split(r"[^a-z]+", part.lower()) if word in SPLITS}
        if len(found) == 1:
            return found.pop()
    return None
