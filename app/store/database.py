"""The database under MINIST_HOME: SQLite in WAL mode, short transactions, migrations by Alembic.

Writers begin with BEGIN IMMEDIATE, so that two of them wait for each other rather than fail half-way;
readers never wait.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from app.store.tables import metadata

BUSY_MILLISECONDS = 30_000
MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """Connections to one database file."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.path = home / "minist.db"
        self._readers = self._engine(isolation_level="AUTOCOMMIT")
        self._writers = self._engine()
        event.listen(self._writers, "begin", _begin_immediate)

    def _engine(self, **options: Any) -> Engine:
        engine = create_engine(
            f"sqlite:///{self.path}", poolclass=QueuePool, pool_size=4, max_overflow=64, **options
        )
        event.listen(engine, "connect", _prepare)
        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees what is committed."""
        with self._readers.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back on an exception."""
        with self._writers.begin() as connection:
            yield connection

    def close(self) -> None:
        self._readers.dispose()
        self._writers.dispose()

    def migrate(self) -> None:
        """Bring the tables up to date; safe while other processes do the same."""
        if self._revision() == _head():
            return
        with (self.path.parent / "migrate.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            revision = self._revision()
            if revision is None:
                self._create()
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
        config.set_main_option("script_location", str(MIGRATIONS))
        engine = create_engine(f"sqlite:///{self.path}", poolclass=NullPool)
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _revision(self) -> str | None:
        try:
            with self.read() as connection:
                revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
                return revision
        except OperationalError:
            return None


def _head() -> str:
    """The newest revision: files are named by their number."""
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _prepare(connection: Any, record: object) -> None:
    connection.isolation_level = None  # the driver begins no transactions of its own
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_MILLISECONDS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
