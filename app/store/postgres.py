"""Postgres, for the API and supervisors on more than one machine.

What SQLite's single writer gives for nothing, a transaction says here: `write("versions")` is alone with the
versions until it ends, by an advisory lock that is taken before any row is touched. So nobody who holds a row
waits for such a lock, and the order of names is the same for all: there is no circle to wait in.
"""

import hashlib
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from app.store.errors import DatabaseAway, StoreError, reason
from app.store.postgres_values import accept_every_text, to_json
from app.store.tables import metadata

DRIVER = "postgresql+psycopg"
EXAMPLE = f"{DRIVER}://USER:PASSWORD@HOST:5432/DATABASE"
IDLE_SECONDS = 30  # in a transaction: then its process is frozen, and others wait for what it has locked
NO = ("password authentication failed", "no password supplied", "does not exist", "pg_hba.conf")  # for ever
_LOCK = "SELECT pg_advisory_xact_lock(:key)"


class Postgres:
    """Connections to one database of a server: at most `connections`, none of which waits for ever."""

    damaged = "restore what pg_dump wrote"

    def __init__(self, url: str, busy_seconds: float, connections: int) -> None:
        """Connects to nothing yet. Raises StoreError without the driver, or for a wrong URL."""
        parsed = parse(url)
        self.name = f"Postgres database {parsed.database!r} at {_place(parsed)}"
        self._busy_seconds = busy_seconds
        self._turns: dict[str, threading.Lock] = {}
        _require_driver()
        kept = min(4, connections)
        self._writers = create_engine(
            parsed,
            isolation_level="READ COMMITTED",
            poolclass=QueuePool,
            pool_size=kept,
            max_overflow=connections - kept,
            pool_timeout=busy_seconds,
            pool_pre_ping=True,  # the server may have been started again since the last use
            hide_parameters=True,
            connect_args=_connect_args(parsed, busy_seconds),
            json_serializer=to_json,
        )
        event.listen(self._writers, "connect", accept_every_text)
        self._readers = self._writers.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees what is committed."""
        with _one_error(), self._readers.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *alone: str) -> Iterator[Connection]:
        """A transaction that no other is in at the same time with one of these names."""
        names = sorted(alone)
        with _one_error(), self._turns_of(names), self._writers.begin() as connection:
            for name in names:
                connection.execute(text(_LOCK), {"key": _key(name)})
            yield connection

    @contextmanager
    def _turns_of(self, names: Sequence[str]) -> Iterator[None]:
        """Threads take turns before they take a connection: else all connections would wait."""
        until = time.monotonic() + self._busy_seconds
        with ExitStack() as held:
            for name in names:
                turn = self._turns.setdefault(name, threading.Lock())
                if not turn.acquire(timeout=max(0.0, until - time.monotonic())):
                    raise PoolTimeout(f"other threads of this process are busy with {name}")
                held.callback(turn.release)
            yield

    @contextmanager
    def migration(self) -> Iterator[None]:
        """One process at a time."""
        with self.unlimited("migration"):
            yield

    def schema_change(self) -> AbstractContextManager[Connection]:
        """A transaction for Alembic."""
        return self.unlimited()

    @contextmanager
    def unlimited(self, *alone: str) -> Iterator[Connection]:
        """A write transaction that may take long. Raises StoreError where it may not do what it does."""
        try:
            with _one_error(), self._writers.begin() as connection:
                for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                    connection.execute(text(f"SET LOCAL {limit} = 0"))
                for name in sorted(alone):
                    connection.execute(text(_LOCK), {"key": _key(name)})
                yield connection
        except ProgrammingError as error:
            raise StoreError(
                f"the tables cannot be made or read in the {self.name} ({reason(error)}): "
                "give the user a database of its own, CREATE DATABASE .. OWNER .."
            ) from error

    def prepare(self) -> None:
        """Connect. Raises DatabaseAway where that is not possible now, StoreError where it never will be."""
        try:
            with self.read() as connection:
                encoding = connection.scalar(text("SHOW server_encoding"))
        except OperationalError as error:
            if _is_for_ever(error):
                raise StoreError(f"the {self.name} refuses us: {reason(error)}") from error
            raise DatabaseAway(f"the {self.name} does not answer: {reason(error)}") from error
        if encoding != "UTF8":
            raise StoreError(f"the {self.name} has the encoding {encoding}: make it anew with ENCODING 'UTF8'")

    def check(self) -> None:
        """Read every row of every table of ours. Raises StoreError where one cannot be read."""
        self.prepare()
        with self.unlimited() as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            there = inspect(connection).get_table_names()  # of older tables there are fewer
            for table in [one for one in metadata.sorted_tables if one.name in there]:
                try:
                    connection.execute(text(f"SELECT sum(length(t::text)) FROM {table.name} t"))  # noqa: S608
                except DBAPIError as error:
                    raise StoreError(
                        f"{table.name} of the {self.name} cannot be read: {reason(error)}"
                    ) from error

    def close(self) -> None:
        self._writers.dispose()


def parse(url: str) -> URL:
    """The URL, with the driver that is used. Raises StoreError, whose message holds nothing of the text."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(f"the URL of the database cannot be read: write {EXAMPLE}") from None
    if parsed.drivername not in (DRIVER, "postgresql", "postgres"):  # the last two as many hosts say it
        raise StoreError(f"the URL of the database is not of a Postgres: write {EXAMPLE}, or none for SQLite")
    if "@" in (parsed.host or ""):
        raise StoreError(
            "the URL of the database has an @ too many: in a password, @ : / ? # % are written "
            "%40 %3A %2F %3F %23 %25"
        )
    if not parsed.database:
        raise StoreError(f"the URL of the database names no database: write {EXAMPLE}")
    return parsed.set(drivername=DRIVER)


def _place(url: URL) -> str:
    host = url.host or url.query.get("host") or "the local socket"
    return f"{host if isinstance(host, str) else ','.join(host)}{f':{url.port}' if url.port else ''}"


def _require_driver() -> None:
    try:
        import_module("psycopg")
    except ImportError:  # also where its C library is missing
        raise StoreError("the driver for Postgres is not installed: pip install 'minist[postgres]'") from None


def _connect_args(url: URL, busy_seconds: float) -> Mapping[str, Any]:
    """Nothing waits for a server that is gone; what stands in the URL's query wins."""
    milliseconds = round(busy_seconds * 1000)
    limits = {
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": IDLE_SECONDS * 1000,
    }
    chosen: dict[str, Any] = {
        "connect_timeout": max(2, math.ceil(busy_seconds)),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 2 * milliseconds,
        "application_name": "minist",
        "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
    }
    return {name: value for name, value in chosen.items() if name not in url.query}


def _key(name: str) -> int:
    """The number of an advisory lock: 64 bits, signed."""
    return int.from_bytes(hashlib.sha256(f"minist {name}".encode()).digest()[:8], signed=True)


@contextmanager
def _one_error() -> Iterator[None]:
    """Whatever means that the database does not answer now is an OperationalError to all who use it."""
    try:
        yield
    except PoolTimeout as error:
        raise OperationalError("connect", None, error) from error
    except InternalError as error:  # it became a read-only standby, or ended a transaction that idled
        raise OperationalError(error.statement, None, error.orig or error) from error


def _is_for_ever(error: OperationalError) -> bool:
    """Whether the server answered, and said no to this user or database."""
    said = str(error.orig)
    return any(phrase in said for phrase in NO)
