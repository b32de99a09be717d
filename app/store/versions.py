"""Versions of models on disk, and the aliases that choose among them.

    MINIST_HOME/models/<model>/<version>/    weights, card, what its run left; never changed, appears by rename

With an object store (`app.store.folders`) the folder is a copy, fetched when somebody asks for the weights.

`production` is the alias that a bare model name means. Whatever happens to an alias stands in the audit list.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from secrets import token_hex
from tempfile import mkdtemp

from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from app.store import audit as audit_list
from app.store import locks
from app.store.audit import AuditEntry, Change, note
from app.store.database import Database
from app.store.folders import Folders, Upload, files_of
from app.store.paths import HomePaths, version_place
from app.store.tables import aliases, audit, unloaded, versions
from app.store.tables import traffic as traffic_table
from app.store.traffic import Traffic, running
from models.card import Card, read_card
from models.errors import CheckpointError
from models.files import flush, flush_directory

PRODUCTION = "production"
STAGED = ".staged-"  # folders that are not versions yet
DELETED = ".deleted-"  # and those that are not any more


class NoSuchVersion(Exception):
    """The model has no such version (any more), or there is no such model."""


class NoSuchAlias(Exception):
    """The model has no such alias."""


class VersionInUse(Exception):
    """An alias points at the version, or the alias is the one that a bare name means."""


class NothingBefore(Exception):
    """`production` has pointed at nothing else that still exists."""


@dataclass(frozen=True)
class Version:
    """One row, and where its files lie.

    What reads them raises CheckpointError, or ArtifactsAway where they have to be fetched and cannot be now.
    """

    model: str
    version: int
    job_id: str | None
    sha256: str
    created_at: float
    directory: Path
    folders: Folders | None = field(default=None, compare=False, repr=False)

    @property
    def weights(self) -> Path:
        """Where they lie; `bring` sees to it that they do."""
        return self.directory / f"{self.model}.pth"

    @property
    def place(self) -> str:
        """Under MINIST_HOME, in the object store, and in a backup."""
        return version_place(self.model, self.version)

    def bring(self, *names: str) -> "Version":
        """Fetch what is in the object store and not here: the files that are named, or all."""
        if self.folders is not None:
            self.folders.bring(self.place, *names)
        return self

    def card(self) -> Card:
        """Read from disk."""
        path = self.weights.with_suffix(".json")
        self.bring(path.name)
        return read_card(path)

    def intact_card(self) -> Card:
        """The card, once both files were found to be those that were published."""
        self.bring()
        return self._published(digest_of)

    def listed_card(self) -> Card:
        """The same; weights are not read again until they are written, nor fetched."""
        if self._is_stored:
            return self.card()
        return self._published(_digest_as_written)

    @property
    def _is_stored(self) -> bool:
        return self.folders is not None and bool(self.folders.facts(self.place))

    def _published(self, digest: Callable[[Path], str]) -> Card:
        card = self.card()
        if self.sha256 != card.sha256:
            raise CheckpointError(f"{self.weights}: its card is not the one that was published")
        if digest(self.weights) != card.sha256:
            raise CheckpointError(f"{self.weights}: its sha256 is not the one on its card; it is damaged")
        return card


@dataclass(frozen=True)
class Staged:
    """What is to become a version: its files in a folder, and in the object store."""

    folder: Path
    upload: Upload | None


@dataclass(frozen=True)
class Snapshot:
    """All aliases and versions at one moment; `change` grows with every change."""

    change: int
    aliases: Mapping[tuple[str, str], int]
    versions: Mapping[tuple[str, int], Version]
    unloaded: frozenset[str] = frozenset()  # models that are out of service
    traffic: Mapping[str, Traffic] = field(default_factory=dict)  # by model, that goes on

    @cached_property
    def numbers(self) -> Mapping[str, Sequence[int]]:
        """The versions of each model, newest first."""
        found: dict[str, list[int]] = {}
        for model, number in sorted(self.versions, reverse=True):
            found.setdefault(model, []).append(number)
        return found


class Versions:
    """Versions and aliases of all models."""

    def __init__(self, database: Database, paths: HomePaths, folders: Folders | None = None) -> None:
        self.database = database
        self.paths = paths
        self.folders = folders or Folders(database, paths.root)

    # -- reading -----------------------------------------------------------------------------------

    def change(self) -> int:
        """A number that grows whenever a version or an alias changes."""
        with self.database.read() as connection:
            return audit_list.newest(connection)

    def snapshot(self) -> Snapshot:
        """Deleted versions are not in it."""
        with self.database.read() as connection:
            change = audit_list.newest(connection)
            pointed = {(row.model, row.alias): row.version for row in connection.execute(select(aliases))}
            rows = connection.execute(select(versions).where(versions.c.deleted.is_(False))).mappings()
            found = [self._version(row) for row in rows]
            out = frozenset(connection.scalars(select(unloaded.c.model)))
            traffic = running(connection)
        known = {(version.model, version.version): version for version in found}
        return Snapshot(change, pointed, known, out, traffic)

    def audit(self, model: str) -> list[AuditEntry]:
        """Who moved what, when, why; newest first."""
        return audit_list.entries(self.database, model)

    def get(self, model: str, number: int) -> Version | None:
        """One version, unless there is none of that number any more."""
        row = (versions.c.model == model) & (versions.c.version == number) & versions.c.deleted.is_(False)
        with self.database.read() as connection:
            found = connection.execute(select(versions).where(row)).mappings().first()
        return None if found is None else self._version(found)

    def in_production(self, connection: Connection, model: str) -> Version | None:
        """The version that `production` points at."""
        row = (versions.c.model == model) & (versions.c.version == _current(connection, model))
        found = connection.execute(select(versions).where(row)).mappings().first()
        return None if found is None else self._version(found)

    def _version(self, row: RowMapping) -> Version:
        directory = self.paths.version(row["model"], row["version"])
        same = (row["model"], row["version"], row["job_id"], row["sha256"], row["created_at"])
        return Version(*same, directory, self.folders)

    # -- publishing --------------------------------------------------------------------------------

    @contextmanager
    def staged(self, model: str, files: Sequence[Path], to_store: bool = True) -> Iterator[Staged]:
        """Copies of files in a folder beside the versions, and in the object store, to be given to `add`;
        removed if they were not. Raises OSError, or ArtifactsAway."""
        parent = self.paths.model(model)
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(mkdtemp(prefix=STAGED, dir=parent))
        try:
            folder.chmod(0o755)
            for file in files:
                shutil.copyfile(file, folder / file.name)
            kind = f"models/{model}"
            yield Staged(folder, self.folders.upload(kind, files_of(folder)) if to_store else None)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(
        self,
        connection: Connection,
        staged: Staged,
        card: Card,
        job_id: str | None,
        change: Change,
        number: int | None = None,
    ) -> int:
        """Rename the staged folder to the model's next version, or to `number`, and write its row; the number.

        `connection` is of a transaction alone with `locks.VERSIONS`, so that nobody else adds one meanwhile. A
        folder that is there already, with a row or without, is left alone.
        """
        model = change.model
        number = number or self._next(connection, model)
        flush_directory(staged.folder)
        staged.folder.rename(self.paths.version(model, number))
        flush(self.paths.model(model))
        self.folders.keep(connection, staged.upload, version_place(model, number))
        row = {"model": model, "version": number, "job_id": job_id, "sha256": card.sha256}
        connection.execute(insert(versions).values(**row, created_at=time.time(), deleted=False))
        note(connection, Change(change.who, change.action, model, change.why, to_version=number))
        return number

    def _next(self, connection: Connection, model: str) -> int:
        newest = connection.scalar(select(func.max(versions.c.version)).where(versions.c.model == model))
        return 1 + max(newest or 0, *(0, *numbered(self.paths.model(model))))

    # -- aliases -----------------------------------------------------------------------------------

    def move(self, model: str, alias: str, version: int, who: str, why: str) -> None:
        """Point an alias at a version. Raises NoSuchVersion."""
        with self.database.write(locks.VERSIONS) as connection:
            self._require(connection, model, version)
            point(connection, Change(who, "move", model, why, alias, to_version=version))

    def rollback(self, model: str, who: str, why: str) -> int:
        """Point `production` at what it pointed at before its present version; the number.

        Raises NoSuchVersion or NothingBefore.
        """
        with self.database.write(locks.VERSIONS) as connection:
            current = _current(connection, model)
            if current is None:
                raise NoSuchVersion(f"there is no model {model!r}")
            before = _before(connection, model, current)
            if before is None or not _exists(connection, model, before):
                raise NothingBefore(f"production of {model!r} pointed at no other version that still exists")
            point(connection, Change(who, "rollback", model, why, PRODUCTION, to_version=before))
            return before

    def delete_alias(self, model: str, alias: str, who: str, why: str) -> None:
        """Forget an alias; the version stays. Raises NoSuchAlias, or VersionInUse for `production`."""
        if alias == PRODUCTION:
            raise VersionInUse(f"{alias} is what {model!r} means: point it elsewhere, or delete the model")
        with self.database.write(locks.VERSIONS) as connection:
            row = (aliases.c.model == model) & (aliases.c.alias == alias)
            version = connection.scalar(select(aliases.c.version).where(row))
            if version is None:
                raise NoSuchAlias(f"model {model!r} has no alias {alias!r}")
            connection.execute(delete(aliases).where(row))
            note(connection, Change(who, "delete", model, why, alias, from_version=version))

    # -- service -----------------------------------------------------------------------------------

    def unload(self, model: str, who: str, why: str) -> None:
        """Take a model out of service, in every process, until `load`. Raises NoSuchVersion."""
        with self.database.write(locks.VERSIONS) as connection:
            if not self._is_unloaded(connection, model):
                connection.execute(insert(unloaded).values(model=model))
                note(connection, Change(who, "unload", model, why))

    def load(self, model: str, who: str, why: str) -> None:
        """Put it back; nothing happens where it is in service. Raises NoSuchVersion."""
        with self.database.write(locks.VERSIONS) as connection:
            if self._is_unloaded(connection, model):
                connection.execute(delete(unloaded).where(unloaded.c.model == model))
                note(connection, Change(who, "load", model, why))

    def _is_unloaded(self, connection: Connection, model: str) -> bool:
        alive = (versions.c.model == model) & versions.c.deleted.is_(False)
        if connection.execute(select(versions.c.version).where(alive)).first() is None:
            raise NoSuchVersion(f"there is no model {model!r}")
        return connection.scalar(select(unloaded.c.model).where(unloaded.c.model == model)) is not None

    # -- deleting ----------------------------------------------------------------------------------

    def delete(self, model: str, version: int, who: str, why: str) -> None:
        """Remove a version's files; its number is not used again. Raises NoSuchVersion or VersionInUse."""
        with self.database.write(locks.VERSIONS) as connection:
            self._require(connection, model, version)
            pointing = select(aliases.c.alias).where(aliases.c.model == model, aliases.c.version == version)
            if names := connection.scalars(pointing).all():
                raise VersionInUse(f"version {version} of {model!r} is in use: {', '.join(names)} points at it")
            gone = self.remove(connection, Change(who, "delete", model, why, from_version=version))
        shutil.rmtree(gone, ignore_errors=True)
        self.folders.sweep()

    def delete_model(self, model: str, who: str, why: str) -> None:
        """Remove all versions and aliases of a model. Raises NoSuchVersion where there are none."""
        alive = (versions.c.model == model) & versions.c.deleted.is_(False)
        with self.database.write(locks.VERSIONS) as connection:
            numbers = connection.scalars(select(versions.c.version).where(alive)).all()
            if not numbers:
                raise NoSuchVersion(f"there is no model {model!r}")
            connection.execute(delete(aliases).where(aliases.c.model == model))
            connection.execute(delete(unloaded).where(unloaded.c.model == model))
            connection.execute(delete(traffic_table).where(traffic_table.c.model == model))
            changes = [Change(who, "delete", model, why, from_version=number) for number in numbers]
            gone = [self.remove(connection, change) for change in changes]
        for folder in gone:
            shutil.rmtree(folder, ignore_errors=True)
        self.folders.sweep()

    def remove(self, connection: Connection, change: Change) -> Path:
        """Mark a version as deleted and move its files aside, at once for all who read them; where they are.

        If the transaction fails after all, `app.store.recovery` moves them back.
        """
        assert change.from_version is not None
        row = (versions.c.model == change.model) & (versions.c.version == change.from_version)
        connection.execute(update(versions).where(row).values(deleted=True))
        note(connection, change)
        self.folders.let_go(connection, version_place(change.model, change.from_version))
        directory = self.paths.version(change.model, change.from_version)
        aside = directory.with_name(f"{DELETED}{directory.name}-{token_hex(4)}")
        with suppress(FileNotFoundError):
            directory.rename(aside)
        return aside

    def prune(self, model: str, keep: int) -> None:
        """Delete all but the newest `keep` versions, sparing what an alias points at."""
        snapshot = self.snapshot()
        pointed = {version for (name, _), version in snapshot.aliases.items() if name == model}
        for version in snapshot.numbers.get(model, ())[keep:]:
            if version not in pointed:
                with suppress(NoSuchVersion, VersionInUse):  # others prune and point at the same time
                    self.delete(model, version, "minist", f"more than the {keep} versions that are kept")

    def _require(self, connection: Connection, model: str, version: int) -> None:
        if not _exists(connection, model, version):
            raise NoSuchVersion(f"there is no version {version} of a model {model!r}")


def _digest_as_written(path: Path) -> str:
    """The sha256 of a file, kept while its size and time of writing stay. Raises CheckpointError."""
    try:
        found = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    return _digest_in_state(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1024)
def _digest_in_state(path: Path, size: int, written: int) -> str:
    return digest_of(path)


def digest_of(path: Path) -> str:
    """The sha256 of a file. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def numbered(directory: Path) -> Mapping[int, Path]:
    """The folders of a model that are called by a number, as versions are."""
    if not directory.is_dir():
        return {}
    return {int(path.name): path for path in directory.iterdir() if path.name.isdecimal() and path.is_dir()}


def point(connection: Connection, change: Change) -> None:
    """Point `change.alias` at `change.to_version`, and note from where. Alone with `locks.VERSIONS`."""
    row = (aliases.c.model == change.model) & (aliases.c.alias == change.alias)
    before = connection.scalar(select(aliases.c.version).where(row))
    connection.execute(delete(aliases).where(row))
    values = {"model": change.model, "alias": change.alias, "version": change.to_version}
    connection.execute(insert(aliases).values(**values))
    note(connection, replace(change, from_version=before))


def _exists(connection: Connection, model: str, version: int) -> bool:
    row = (versions.c.model == model) & (versions.c.version == version) & versions.c.deleted.is_(False)
    return connection.execute(select(versions.c.version).where(row)).first() is not None


def _current(connection: Connection, model: str) -> int | None:
    query = select(aliases.c.version).where(aliases.c.model == model, aliases.c.alias == PRODUCTION)
    return connection.scalar(query)


def _before(connection: Connection, model: str, current: int) -> int | None:
    """What `production` pointed at when it was moved to `current` the last time."""
    moved = (audit.c.model == model, audit.c.alias == PRODUCTION, audit.c.to_version == current)
    query = select(audit.c.from_version).where(*moved, audit.c.action.in_(("move", "promote")))
    return connection.scalar(query.order_by(audit.c.id.desc()).limit(1))
