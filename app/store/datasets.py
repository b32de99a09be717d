"""Versions of data sets: rows, the imported folders, and the files that they came as.

    MINIST_HOME/datasets/<name>/<version>/     what was imported; never changed, appears by rename
    MINIST_HOME/datasets/.sources/<sha256>     the file that came, to import it again with other options

With an object store (`app.store.folders`) both are copies, fetched when somebody asks for them.

A version is ready when its row says so, with the digest of what was imported. Until then its status is that of
the job that imports it. Numbers are not used twice.
"""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

from sqlalchemy import RowMapping, Select, and_, func, insert, select, update
from sqlalchemy.engine import Connection

from app.store.database import Database
from app.store.errors import ArtifactsAway
from app.store.folders import Folders, Upload, files_of
from app.store.paths import HomePaths, dataset_place, source_place
from app.store.tables import datasets, jobs
from app.store.versions import DELETED, numbered
from models.errors import CheckpointError
from models.files import flush

IMPORTED = re.compile(r"([a-z0-9][a-z0-9-]{0,63})@([1-9][0-9]{0,8})")  # name and version, as a job names it
IMAGES, TABLE = "images", "table"  # kinds
INCOMING = ".incoming-"  # files that are being received
ALIVE = datasets.c.deleted.is_(False)  # rows that count
Status = Literal["importing", "needs_target", "ready", "failed"]


class NoSuchDataset(Exception):
    """There is no data set of that name, or it has no such version (any more)."""


class DatasetsFull(Exception):
    """The data sets take as many bytes as are allowed."""


@dataclass(frozen=True)
class Source:
    """A file that came: where it lies, its sha256 and size."""

    path: Path
    digest: str
    bytes: int


@dataclass(frozen=True)
class DatasetVersion:
    """One row, the state of its import, and where its files lie."""

    name: str
    version: int
    status: Status
    error: str | None
    job_id: str | None
    kind: str
    options: Mapping[str, Any]
    source: str
    source_bytes: int
    from_version: int | None
    corrections_of: str | None
    submitted_by: str | None
    created_at: float
    ready_at: float | None
    digest: str | None
    bytes: int
    summary: Mapping[str, Any] | None
    progress: Mapping[str, Any] | None
    directory: Path
    folders: Folders | None = field(default=None, compare=False, repr=False)

    @property
    def place(self) -> str:
        """Under MINIST_HOME, and in the object store."""
        return dataset_place(self.name, self.version)

    def bring(self, *names: str) -> Path:
        """The folder of what was imported; files (all or those named) are fetched where they are in the object
        store and not here.

        Raises ArtifactsAway where it cannot be fetched now, CheckpointError where it is gone.
        """
        if self.folders is not None:
            self.folders.bring(self.place, *names)
        return self.directory

    @property
    def reference(self) -> str:
        """How a job names it."""
        return f"{self.name}@{self.version}"

    def damage(self) -> str | None:
        """What is wrong with what was imported: missing, cut off, of another. None: nothing."""
        if self.digest is None:
            return None
        try:
            found = Imported.read(self.bring())
        except (CheckpointError, ArtifactsAway) as error:
            return str(error)
        if found.digest != self.digest:
            return f"{self.directory} holds another data set than the database says: import it again"
        size = size_of(self.directory)
        if size != self.bytes:
            return f"{self.directory} has {size:,} bytes, {self.bytes:,} were imported: import it again"
        return None


@dataclass(frozen=True)
class Imported:
    """What an import left: its folder, and what its profile says."""

    directory: Path
    kind: str
    digest: str
    source: str
    options: Mapping[str, Any]
    summary: Mapping[str, Any]

    @classmethod
    def read(cls, directory: Path) -> "Imported":
        """Raises CheckpointError where there is no profile that can be read."""
        try:
            profile = json.loads((directory / "profile.json").read_bytes())
            table = profile["kind"] != IMAGES
            summary = _of_table(profile) if table else _of_pictures(profile)
            digest, source, options = (profile[name] for name in ("digest", "source_digest", "options"))
            return cls(directory, TABLE if table else IMAGES, digest, source, options, summary)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise CheckpointError(f"{directory} holds no profile of a data set: {error}") from error


def _of_pictures(profile: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "images": profile["images"],
        "classes": len(profile["classes"]),
        "shape": [profile["channels"], profile["height"], profile["width"]],
        "bad_files": profile["bad_count"],
        "warnings": len(profile["warnings"]),
    }


def _of_table(profile: Mapping[str, Any]) -> dict[str, Any]:
    draft = profile["kind"] != TABLE
    return {
        "rows": profile["rows"],
        "columns": len(profile["columns"]),
        "target": None if draft else profile["input"]["target"],
        "classes": None if draft else len(profile["classes"]),
        "bad_rows": profile["bad_count"],
        "warnings": len(profile["warnings"]),
    }


class Datasets:
    """The data sets that people brought, at most `keep_bytes` of them, files that came included."""

    def __init__(
        self, database: Database, paths: HomePaths, keep_bytes: int, folders: Folders | None = None
    ) -> None:
        self.database = database
        self.paths = paths
        self.keep_bytes = keep_bytes
        self.folders = folders or Folders(database, paths.root)

    # -- reading -----------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """All that have a version."""
        query = select(datasets.c.name).where(ALIVE).distinct().order_by(datasets.c.name)
        with self.database.read() as connection:
            return list(connection.scalars(query))

    def newest(self) -> list[DatasetVersion]:
        """The newest version of each, by name."""
        by_name = {version.name: version for version in self._all(_ROWS.where(ALIVE))}
        return [by_name[name] for name in sorted(by_name)]

    def versions(self, name: str) -> list[DatasetVersion]:
        """Newest first. Raises NoSuchDataset."""
        found = self._all(_ROWS.where(ALIVE, datasets.c.name == name))
        if not found:
            raise NoSuchDataset(f"there is no data set {name!r}")
        return found[::-1]

    def find(self, reference: str) -> DatasetVersion:
        """`NAME@2`, or the newest version of `NAME`. Raises NoSuchDataset."""
        name, at, number = reference.partition("@")
        for version in self.versions(name):
            if not at or number == str(version.version):
                return version
        raise NoSuchDataset(f"data set {name!r} has no version {number!r}")

    def all(self) -> list[DatasetVersion]:
        """Every version that was not deleted, by name and number."""
        return self._all(_ROWS.where(ALIVE))

    def used(self) -> int:
        """Bytes of all versions and of the files that they came as."""
        with self.database.read() as connection:
            return _used(connection)

    def _all(self, query: Select[Any]) -> list[DatasetVersion]:
        with self.database.read() as connection:
            return [self._version(row) for row in connection.execute(query).mappings()]

    def _version(self, row: RowMapping) -> DatasetVersion:
        directory = self.paths.dataset(row["name"], row["version"])
        status, error = _status(row, lambda: directory.is_dir() or self._is_stored(row))
        same = {name: row[name] for name in DatasetVersion.__dataclass_fields__ if name in datasets.c}
        own: dict[str, Any] = {"directory": directory, "folders": self.folders}
        return DatasetVersion(**same, status=status, error=error, progress=row["progress"], **own)

    def _is_stored(self, row: RowMapping) -> bool:
        return bool(self.folders.facts(dataset_place(row["name"], row["version"])))

    def bring(self, name: str, version: int) -> None:
        """Fetch what was imported, where it is in the object store and not here. Raises as `DatasetVersion`."""
        self.folders.bring(dataset_place(name, version))

    def bring_source(self, digest: str) -> Path:
        """The file that data sets came as, fetched where need be; it may be gone. Raises as `bring`."""
        self.folders.bring(source_place(digest))
        return self.paths.source(digest)

    def upload_source(self, source: Source) -> Upload | None:
        """Put a file that came into the object store, unless the same is there. Raises ArtifactsAway."""
        if self.folders.facts(source_place(source.digest)):
            return None
        return self.folders.upload("datasets/sources", {"": source.path})

    # -- importing; each in a transaction alone with `locks.DATASETS` ---------------------------------

    def of_source(self, connection: Connection, name: str, digest: str) -> list[DatasetVersion]:
        """The versions that came of the same bytes, oldest first."""
        mine = _ROWS.where(ALIVE, datasets.c.name == name, datasets.c.source == digest)
        return [self._version(row) for row in connection.execute(mine).mappings()]

    def keep_source(self, connection: Connection, source: Source, upload: Upload | None = None) -> None:
        """Move a file that came to where it stays, unless the same one is there.

        Raises DatasetsFull, or ArtifactsAway where the same one, in the object store, was deleted meanwhile.
        """
        taken = _used(connection)
        known = connection.scalar(select(func.count()).where(ALIVE, datasets.c.source == source.digest))
        if taken + (0 if known else source.bytes) > self.keep_bytes:
            raise DatasetsFull(
                f"the data sets take {taken:,} of {self.keep_bytes:,} bytes, this file has {source.bytes:,}"
            )
        there = self.paths.source(source.digest)
        if source.path != there:
            there.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            source.path.replace(there)
            flush(there.parent)
        self.folders.keep(connection, upload, source_place(source.digest))
        if not self.folders.holds(connection, source_place(source.digest)):
            raise ArtifactsAway(f"the same file as {source.path.name} was deleted meanwhile")

    def next_version(self, connection: Connection, name: str) -> int:
        newest = connection.scalar(select(func.max(datasets.c.version)).where(datasets.c.name == name))
        return 1 + max(newest or 0, *(0, *numbered(self.paths.datasets / name)))

    def add(self, connection: Connection, name: str, version: int, **values: Any) -> DatasetVersion:
        """Add the row of a version that is to be imported."""
        row = {"name": name, "version": version, "created_at": time.time(), "bytes": 0, **values}
        connection.execute(insert(datasets).values(**row))
        return self.inside(connection, name, version)

    def inside(self, connection: Connection, name: str, version: int) -> DatasetVersion:
        """The version of a row that is there, as the transaction sees it."""
        return self._version(connection.execute(_ROWS.where(_is(name, version))).mappings().one())

    def set_job(self, connection: Connection, version: DatasetVersion, job_id: str) -> None:
        """Note which job imports it."""
        row = _is(version.name, version.version)
        connection.execute(update(datasets).where(row).values(job_id=job_id))

    def set_options(self, connection: Connection, version: DatasetVersion, options: Mapping[str, Any]) -> None:
        """Note how it is to be imported after all."""
        row = _is(version.name, version.version)
        connection.execute(update(datasets).where(row).values(options=dict(options)))

    def forget_import(self, connection: Connection, version: DatasetVersion) -> None:
        """Note that it is not ready (any more): its files are gone."""
        values: dict[str, Any] = {"digest": None, "ready_at": None, "summary": None, "bytes": 0}
        connection.execute(update(datasets).where(_is(version.name, version.version)).values(**values))

    def upload(self, imported: Imported) -> Upload | None:
        """Put what was imported into the object store. Raises ArtifactsAway or OSError."""
        return self.folders.upload("datasets/imported", files_of(imported.directory))

    def complete(
        self,
        connection: Connection,
        name: str,
        version: int,
        imported: Imported,
        upload: Upload | None = None,
    ) -> None:
        """Move what was imported, and is on the disk, to its place; write that it is ready."""
        there = self.paths.dataset(name, version)
        if imported.directory != there:
            _replace(imported.directory, there)
        size = size_of(there)
        values: dict[str, Any] = {"digest": imported.digest, "summary": dict(imported.summary), "bytes": size}
        values |= {"kind": imported.kind, "options": dict(imported.options)}  # a zip may hold either kind
        row = update(datasets).where(_is(name, version)).values(**values, ready_at=time.time())
        connection.execute(row)
        self.folders.keep(connection, upload, dataset_place(name, version))

    # -- deleting ----------------------------------------------------------------------------------

    def delete(self, connection: Connection, version: DatasetVersion) -> list[Path]:
        """Mark a version as deleted and move its files aside; what is to be removed after the commit.

        The file that it came as goes with the last version that was made of it. If the transaction fails
        after all, `app.store.dataset_recovery` moves them back.
        """
        row = _is(version.name, version.version)
        connection.execute(update(datasets).where(row).values(deleted=True))
        self.folders.let_go(connection, version.place)
        gone = [version.directory]
        if not connection.scalar(select(func.count()).where(ALIVE, datasets.c.source == version.source)):
            gone.append(self.paths.source(version.source))
            self.folders.let_go(connection, source_place(version.source))
        return [aside for path in gone if (aside := _aside(path)) is not None]


_ROWS = (
    select(datasets, jobs.c.status.label("job_status"), jobs.c.error, jobs.c.progress)
    .select_from(datasets.outerjoin(jobs, jobs.c.id == datasets.c.job_id))
    .order_by(datasets.c.name, datasets.c.version)
)


def _is(name: str, version: int) -> Any:
    return and_(datasets.c.name == name, datasets.c.version == version)


def _used(connection: Connection) -> int:
    imported = connection.scalar(select(func.sum(datasets.c.bytes)).where(ALIVE)) or 0
    files = select(datasets.c.source, func.max(datasets.c.source_bytes).label("size")).where(ALIVE)
    each = files.group_by(datasets.c.source).subquery()
    return int(imported) + int(connection.scalar(select(func.sum(each.c.size))) or 0)  # Postgres: Decimal


def _status(row: RowMapping, is_there: Callable[[], bool]) -> tuple[Status, str | None]:
    if row["digest"] is not None:
        if is_there():
            waits = row["kind"] == TABLE and (row["summary"] or {}).get("target") is None
            return ("needs_target" if waits else "ready"), None
        return "failed", "its files are not under MINIST_HOME any more: import it again"
    if row["job_status"] in ("queued", "running"):
        return "importing", None
    if row["job_status"] == "cancelled":
        return "failed", "the import was cancelled"
    return "failed", row["error"] or "the import has not ended, and its job is gone"


def _replace(directory: Path, there: Path) -> None:
    there.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if there.exists():  # of an attempt that died before its commit
        shutil.rmtree(there)
    directory.rename(there)
    flush(there.parent)


def _aside(path: Path) -> Path | None:
    """Rename what is deleted, at once for all who read it; None where there is nothing."""
    aside = path.with_name(f"{DELETED}{path.name}-{token_hex(4)}")
    with suppress(FileNotFoundError):
        path.rename(aside)
        return aside
    return None


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def size_of(directory: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in _files(directory))


def source_damage(path: Path) -> str | None:
    """What is wrong with a file that data sets came as, which is named by its sha256. None: nothing."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{path}: {error.strerror or error}; upload the file again to import it with other options"
    return None if digest == path.name else f"{path} is damaged: upload the file again"


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())
