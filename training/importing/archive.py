"""A zip archive from outside, read within bounds. Nothing is unpacked to disk.

Refused whole: what is not a zip file, more members than `MAX_MEMBERS`, more unpacked bytes than `MAX_UNPACKED`.
Refused alone, with the reason: absolute paths, `..`, links, encrypted members, nested archives, members that
unpack to more than `MAX_MEMBER` bytes or to more than `MAX_RATIO` times their size.
"""

import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from training.errors import DatasetError

MAX_MEMBERS = 500_000
MAX_UNPACKED = 16 * 1024**3
MAX_MEMBER = 256 * 1024**2
MAX_RATIO = 200  # deflate reaches 1,032; pictures stay below 3, idx files below 20
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_ASIAN = ("shift_jis", "gbk", "big5", "euc_kr")
_UTF8 = 0x800
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Member:
    """A file of an archive: its path as it is shown, and its place in the archive's own list."""

    path: PurePosixPath
    index: int
    size: int  # unpacked, as announced

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class Refused:
    """A member that is left out, and why."""

    path: str
    reason: str


class Archive:
    """The members of a zip file. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises DatasetError for what is not a zip file, or is too large."""
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise DatasetError(
                f"{path.name} cannot be read as a zip file ({error}): send the whole file"
            ) from error
        self._infos = self._zip.infolist()
        if len(self._infos) > MAX_MEMBERS:
            raise DatasetError(
                f"the archive has {len(self._infos):,} members, at most {MAX_MEMBERS:,} are taken"
            )
        total = sum(info.file_size for info in self._infos)
        if total > MAX_UNPACKED:
            raise DatasetError(
                f"the archive unpacks to {total / 1024**3:.1f} GiB, at most {MAX_UNPACKED // 1024**3} are taken"
            )
        self.members: list[Member] = []
        self.folders: list[PurePosixPath] = []
        self.refused: list[Refused] = []
        self.encodings: dict[str, int] = {}  # of names that are not UTF-8
        for index, info in enumerate(self._infos):
            self._add(index, info)

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def read(self, member: Member) -> bytes:
        """The bytes of a member. Raises ValueError with the reason where they cannot be had."""
        info = self._infos[member.index]
        limit = min(MAX_MEMBER, max(1024**2, MAX_RATIO * info.compress_size))
        try:
            with self._zip.open(info) as file:
                data = file.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"the member is damaged ({error})") from error
        if len(data) > limit:
            raise ValueError(f"it unpacks to more than {limit:,} bytes")
        return data

    def open(self, member: Member) -> IO[bytes]:
        """The bytes of a member as a stream, whose length is not bounded here. Raises as zipfile does."""
        return self._zip.open(self._infos[member.index])

    def compressed(self, member: Member) -> int:
        """Bytes that it takes in the archive."""
        return self._infos[member.index].compress_size

    def _add(self, index: int, info: zipfile.ZipInfo) -> None:
        name = self._name(info)
        path = PurePosixPath(name.replace("\\", "/"))
        reason = _refusal(info, path, name)
        if reason:
            self.refused.append(Refused(name, reason))
        elif info.is_dir():
            self.folders.append(path)
        else:
            self.members.append(Member(path, index, info.file_size))

    def _name(self, info: zipfile.ZipInfo) -> str:
        """The member's name: UTF-8 where it is, whatever the flag says, else cp437 or an Asian code page."""
        if info.flag_bits & _UTF8:
            return info.filename
        raw = info.orig_filename.encode("cp437", "replace")
        if raw.isascii():
            return info.filename
        encoding, name = next(_readings(raw))
        if encoding != "utf-8":
            self.encodings[encoding] = self.encodings.get(encoding, 0) + 1
        return name


def _readings(raw: bytes) -> Iterator[tuple[str, str]]:
    """How a name may be read, the most likely first."""
    western = raw.decode("cp437")
    # cp437 reads every byte: box drawings, or words full of accents, were written in another code page
    drawn = any("\u2190" <= letter <= "\u25ff" for letter in western)
    letters = [letter for letter in western.rpartition(".")[0] or western if letter.isalpha()]
    accented = sum(not letter.isascii() for letter in letters) > len(letters) / 3
    for encoding in ("utf-8", *(_ASIAN if drawn or accented else ())):
        try:
            yield encoding, raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    yield "cp437", western


def _refusal(info: zipfile.ZipInfo, path: PurePosixPath, name: str) -> str | None:
    if path.is_absolute() or (len(name) > 1 and name[1] == ":"):
        return "its path is absolute"
    if ".." in path.parts:
        return "its path leads out of the archive"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "it is a link"
    if info.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    if path.suffix.lower() in _ARCHIVES and not _is_idx(path) and not is_zipped_table(path):
        return "it is an archive inside the archive: send its content itself"
    return None


def is_zipped_table(path: PurePosixPath) -> bool:
    """`train.csv.gz`: a table alone, not an archive."""
    return path.name.lower().endswith((".csv.gz", ".tsv.gz"))


def _is_idx(path: PurePosixPath) -> bool:
    return path.suffix == ".gz" and "ubyte" in path.name
