"""SQLite in a file under MINIST_HOME, in WAL mode.

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
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from app.store.errors import StoreError

BUSY_SECONDS = 5.0  # that a transaction waits for others before it gives up


class Sqlite:
    """Connections to one file. There is one writer at a time, so no other lock is needed."""

    damaged = "restore a backup by 'minist restore'"

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self.path = path
        self.name = str(path)
        self._busy_seconds = busy_seconds
        self._turn = threading.Lock()
        self._readers = self._engine(isolation_level="AUTOCOMMIT")
        self._writers = self._engine()
        event.listen(self._writers, "begin", _begin_immediate)

    def _engine(self, **options: Any) -> Engine:
        options |= {"poolclass": QueuePool, "pool_size": 4, "max_overflow": 64, "hide_parameters": True}
        engine = create_engine(_url(self.path), **options)
        event.listen(engine, "connect", self._prepare)
        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees what is committed."""
        with self._readers.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *alone: str) -> Iterator[Connection]:
        """The one writer's transaction, whatever it wants to be alone with."""
        if not self._turn.acquire(timeout=self._busy_seconds):
            locked = sqlite3.OperationalError("database is locked")
            raise OperationalError("BEGIN IMMEDIATE", None, locked)
        try:
            with self._writers.begin() as connection:
                yield connection
        finally:
            self._turn.release()

    @contextmanager
    def migration(self) -> Iterator[None]:
        """One process at a time."""
        with FileLock(self.path.parent / "migrate.lock"):
            yield

    @contextmanager
    def schema_change(self) -> Iterator[Connection]:
        """A transaction for Alembic, which copies tables: without foreign keys."""
        engine = create_engine(_url(self.path), poolclass=NullPool, hide_parameters=True)
        with engine.begin() as connection:
            yield connection

    def prepare(self) -> None:
        """Make the file its owner's alone, and read it. Raises StoreError where it is damaged."""
        _make_private(self.path)
        check_file(self.path)

    def check(self) -> None:
        """Read all of it. Raises StoreError where it is damaged."""
        check_file(self.path)

    def close(self) -> None:
        self._readers.dispose()
        self._writers.dispose()

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
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise StoreError(
            f"the database {path} is damaged ({' '.join(found.split())}): restore a backup by "
            "'minist restore', or move the file away: the next start makes a new one, with the models on disk"
        )


def require_unused(path: Path) -> None:
    """Raises StoreError while a process has the database open: WAL mode is left only by one that is alone."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            mode = connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
    except sqlite3.OperationalError:
        mode = "wal"
    except sqlite3.DatabaseError:  # damaged: that may be why it is restored
        return
    if mode == "wal":
        raise StoreError(f"{path} is in use: stop the service first")


def copy_file(path: Path, copy: Path) -> None:
    """A copy as of one moment, also while others write, of mode 0600: there are people's pictures in it.

    Raises FileExistsError, or StoreError where it cannot be made.
    """
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
    except sqlite3.Error as error:
        copy.unlink()
        raise StoreError(f"{path} cannot be copied to {copy}: {error}") from error


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


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
