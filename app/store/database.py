"""The database under MINIST_HOME: SQLite in WAL mode, short transactions, migrations by Alembic.

Writers begin with BEGIN IMMEDIATE, so that two of them wait for each other rather than fail half-way;
readers never wait. SQLite lets writers that wait try again now and then, whoever is luckier: the threads of a
process take turns before they get that far, so that none of them is unlucky for long.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from app.store.tables import metadata

BUSY_SECONDS = 5.0  # that a transaction waits for others before it gives up
MIGRATIONS = Path(__file__).parent / "migrations"


class StoreError(Exception):
    """What is kept cannot be used as it is; the message says what to do."""


class Database:
    """Connections to one database file."""

    def __init__(self, home: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.path = home / "minist.db"
        self._busy_seconds = busy_seconds
        self._turn = threading.Lock()
        self._readers = self._engine(isolation_level="AUTOCOMMIT")
        self._writers = self._engine()
        event.listen(self._writers, "begin", _begin_immediate)

    def _engine(self, **options: Any) -> Engine:
        engine = create_engine(_url(self.path), poolclass=QueuePool, pool_size=4, max_overflow=64, **options)
        event.listen(engine, "connect", self._prepare)
        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees what is committed."""
        with self._readers.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back on an exception."""
        if not self._turn.acquire(timeout=self._busy_seconds):
            locked = sqlite3.OperationalError("database is locked")
            raise OperationalError("BEGIN IMMEDIATE", None, locked)
        try:
            with self._writers.begin() as connection:
                yield connection
        finally:
            self._turn.release()

    def close(self) -> None:
        self._readers.dispose()
        self._writers.dispose()

    def migrate(self) -> None:
        """Make the tables, or bring them up to date; safe while other processes do the same.

        Raises StoreError for a file that is damaged, or was written by a newer release.
        """
        _make_private(self.path)
        check_file(self.path)
        if self._revision() == _head():
            return
        with FileLock(self.path.parent / "migrate.lock"):
            revision = self._revision()
            if revision is None:
                self._create()
            elif revision > _head():
                raise StoreError(
                    f"{self.path} was written by a newer minist (revision {revision}; this one knows "
                    f"{_head()}): install that release again, or restore an older backup"
                )
            elif revision != _head():
                self._upgrade()

    def _create(self) -> None:
        """A new database, as the migrations would make it (a test compares), without Alembic's half second."""
        with self.write() as connection:
            metadata.create_all(connection)
            connection.execute(
                text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
            )
            connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": _head()})

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        engine = create_engine(_url(self.path), poolclass=NullPool)
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _revision(self) -> str | None:
        try:
            with self.read() as connection:
                revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
                return revision
        except OperationalError as error:
            if "no such table" in str(error.orig):
                return None
            raise

    def _prepare(self, connection: Any, record: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        with closing(connection.cursor()) as cursor:
            for pragma in (
                f"busy_timeout={round(self._busy_seconds * 1000)}",
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=ON",
            ):
                cursor.execute(f"PRAGMA {pragma}")


def check_file(path: Path) -> None:
    """Read the whole file of a database. Raises StoreError where it is damaged."""
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError:  # locked, or cannot be opened: its first use will say so
        return
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise StoreError(
            f"the database {path} is damaged ({' '.join(found.split())}): restore a backup by "
            "'minist restore', or move the file away: the next start makes a new one, with the models on disk"
        )


def _make_private(path: Path) -> None:
    """Mode 0600: there are people's pictures in it. SQLite gives its other files the mode of this one."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    if path.stat().st_mode & 0o077:
        with suppress(PermissionError):  # somebody else's file, which the operator lets us use
            path.chmod(0o600)


def _url(path: Path) -> URL:
    """Of any path: written as text, `?` and `%20` in it would mean something."""
    return URL.create("sqlite", database=str(path))


def _head() -> str:
    """The newest revision: files are named by their number."""
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
