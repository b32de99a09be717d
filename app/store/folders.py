"""What of MINIST_HOME is in the object store: whose files, under which keys, with which digests.

    place    where it lies under MINIST_HOME: models/NAME/N, datasets/NAME/N, datasets/.sources/SHA256, runs/JOB
    prefix   where it lies in the store: a new one for every upload, so that nobody overwrites anything

An upload is nobody's until the transaction that needs it gives it its place (`keep`); what a transaction lets
go is nobody's after it. What is nobody's is swept. So a row that is committed has all its files, and whatever
dies on the way, or is deleted while the store is away, leaves nothing behind. The digests are in the database:
what lies on the disk of a home is a copy, and is fetched again where it is not the same.

Without MINIST_STORE all of this does nothing.
"""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from secrets import token_hex

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.engine import Connection

from app.store.database import Database
from app.store.errors import ArtifactsAway
from app.store.objects import Facts, Objects
from app.store.tables import stored
from models.errors import CheckpointError

log = logging.getLogger("minist.store")

ABANDONED_SECONDS = 86_400.0  # after which an upload without a place is taken for one of a dead process
GONE = 0.0  # since: no transaction may keep it any more
SWEPT = 100  # prefixes at a time
KNOWN = 512  # places whose facts are kept in memory
_LASTING = "models/", "datasets/"  # places that mean the same files for ever


@dataclass(frozen=True)
class Upload:
    """Files that are in the store, and nobody's yet."""

    prefix: str


class Folders:
    """The folders and files under `root` that are in the store. Without one, nothing happens."""

    def __init__(self, database: Database, root: Path, objects: Objects | None = None) -> None:
        self.database = database
        self.root = root
        self.objects = objects
        self._known: dict[str, Mapping[str, Facts]] = {}

    # -- writing -----------------------------------------------------------------------------------

    def upload(self, kind: str, files: Mapping[str, Path]) -> Upload | None:
        """Put files into the store; a file alone is called "". None without a store.

        Raises ArtifactsAway, or OSError where a file cannot be read.
        """
        if self.objects is None:
            return None
        upload = Upload(f"{kind}/{token_hex(8)}")
        facts = {name: Facts.of(path) for name, path in files.items()}
        row = {"prefix": upload.prefix, "files": {name: asdict(one) for name, one in facts.items()}}
        with self.database.write() as connection:
            connection.execute(insert(stored).values(**row, place=None, since=time.time()))
        try:
            for name, path in files.items():
                self.objects.put(key_of(upload.prefix, name), path)
        except BaseException:
            self._abandon(upload)
            raise
        return upload

    def _abandon(self, upload: Upload) -> None:
        try:
            with self.database.write() as connection:
                connection.execute(update(stored).where(_nobodys(upload.prefix)).values(since=GONE))
        except Exception as error:  # it is swept in a day
            log.warning("an upload that failed is left for later: %s", error)

    def keep(self, connection: Connection, upload: Upload | None, place: str) -> None:
        """Give an upload its place, in the transaction that needs it there; what was there before is let go.

        Raises ArtifactsAway where it was taken for abandoned meanwhile.
        """
        if upload is None:
            return
        self.let_go(connection, place)
        mine = _nobodys(upload.prefix) & (stored.c.since > GONE)
        if connection.execute(update(stored).where(mine).values(place=place)).rowcount == 0:
            raise ArtifactsAway(f"the upload {upload.prefix} took longer than a day; it is made again")

    def let_go(self, connection: Connection, place: str) -> None:
        """What is at a place is nobody's once the transaction is committed; then `sweep` removes it."""
        row = update(stored).where(stored.c.place == place).values(place=None, since=GONE)
        connection.execute(row)
        self._known.pop(place, None)

    def holds(self, connection: Connection, place: str) -> bool:
        """Whether there is something at a place, inside a transaction; without a store it is said of all."""
        there = select(stored.c.prefix).where(stored.c.place == place)
        return self.objects is None or connection.scalar(there) is not None

    def sweep(self) -> None:
        """Remove from the store what is nobody's; what cannot be removed now is tried again the next time."""
        if self.objects is None:
            return
        old = stored.c.place.is_(None) & (stored.c.since < time.time() - ABANDONED_SECONDS)
        with self.database.read() as connection:
            found = connection.scalars(select(stored.c.prefix).where(old).limit(SWEPT)).all()
        if not found:
            return
        with self.database.write() as connection:  # from now on no transaction may keep one of them
            connection.execute(update(stored).where(old, stored.c.prefix.in_(found)).values(since=GONE))
        try:
            for prefix in found:
                self.objects.delete(prefix)
                with self.database.write() as connection:
                    connection.execute(delete(stored).where(_nobodys(prefix)))
        except ArtifactsAway as error:
            log.warning("what was deleted is still in the store, until the next attempt: %s", error)

    # -- reading -----------------------------------------------------------------------------------

    def facts(self, place: str) -> Mapping[str, Facts]:
        """The files at a place by name; empty where none are in the store."""
        if self.objects is None:
            return {}
        if (known := self._known.get(place)) is not None:
            return known
        found = self._row(place)[1]
        if found and place.startswith(_LASTING):
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[place] = found
        return found

    def _row(self, place: str) -> tuple[str, Mapping[str, Facts]]:
        with self.database.read() as connection:
            row = connection.execute(
                select(stored.c.prefix, stored.c.files).where(stored.c.place == place)
            ).first()
        return (row.prefix, {name: Facts(**one) for name, one in row.files.items()}) if row else ("", {})

    def bring(self, place: str, *names: str) -> None:
        """See to it that files lie at their place as they were put there: those named, or all.

        What is there and right is not fetched. Raises ArtifactsAway where one that is needed cannot be fetched
        now, CheckpointError where it is gone from the store, and OSError of the disk.
        """
        facts = self.facts(place)
        wanted = [name for name in (names or facts) if name in facts]
        missing = [name for name in wanted if not _is(self.root / place / name, facts[name])]
        if missing:
            self._fetch(place, missing)
        if wanted:
            _note_use(self.root / place)

    def _fetch(self, place: str, names: list[str]) -> None:
        assert self.objects is not None
        prefix, facts = self._row(place)
        try:
            for name in names:
                self.objects.get(key_of(prefix, name), facts[name], self.root / place / name)
        except (FileNotFoundError, KeyError) as error:
            self._known.pop(place, None)
            raise CheckpointError(f"{place} cannot be fetched: {error}") from error

    def places(self) -> Mapping[str, tuple[str, Mapping[str, Facts]]]:
        """All that is in the store and somebody's: prefix and files by place."""
        with self.database.read() as connection:
            rows = connection.execute(select(stored).where(stored.c.place.is_not(None)))
            return {
                row.place: (row.prefix, {name: Facts(**one) for name, one in row.files.items()}) for row in rows
            }

    def names(self) -> set[str]:
        """The places alone."""
        with self.database.read() as connection:
            return set(connection.scalars(select(stored.c.place).where(stored.c.place.is_not(None))))

    def prefixes(self) -> set[str]:
        """All that the database knows of, nobody's too."""
        with self.database.read() as connection:
            return set(connection.scalars(select(stored.c.prefix)))


def files_of(folder: Path) -> dict[str, Path]:
    """The files in a folder, by name, as `upload` takes them."""
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}


def key_of(prefix: str, name: str) -> str:
    """Where in the store a file of an upload is."""
    return f"{prefix}/{name or 'file'}"


def _nobodys(prefix: str) -> ColumnElement[bool]:
    return (stored.c.prefix == prefix) & stored.c.place.is_(None)


def _is(path: Path, facts: Facts) -> bool:
    """Whether a file is what it must be; read again only once it was written since."""
    try:
        found = path.stat()
        return (
            found.st_size == facts.bytes and _as_written(path, found.st_size, found.st_mtime_ns) == facts.sha256
        )
    except OSError:
        return False


@lru_cache(maxsize=4096)
def _as_written(path: Path, size: int, written: int) -> str:
    return Facts.of(path).sha256


def _note_use(path: Path) -> None:
    """`app.store.cache` removes first what was not used for longest."""
    try:
        os.utime(path)
    except OSError:
        return
