"""The tables of a database: which revision they have, how they are made and brought up to date.

A new database is made by `create_all`, which takes no Alembic and half a second less; an old one by Alembic.
A test compares the two.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from app.store.errors import StoreError, reason
from app.store.tables import metadata

MIGRATIONS = Path(__file__).parent / "migrations"


class Engines(Protocol):
    """What SQLite and Postgres have in common."""

    name: str  # for messages; holds no password
    damaged: str  # what to do then

    def read(self) -> AbstractContextManager[Connection]: ...

    def write(self, *alone: str) -> AbstractContextManager[Connection]: ...

    def migration(self) -> AbstractContextManager[None]: ...

    def schema_change(self) -> AbstractContextManager[Connection]: ...

    def prepare(self) -> None: ...

    def check(self) -> None: ...

    def close(self) -> None: ...


def head() -> str:
    """The newest revision: files are named by their number."""
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def revision_of(connection: Connection) -> str | None:
    """None where there are no tables yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def migrate(engines: Engines) -> None:
    """Make the tables, or bring them up to date; safe while other processes do the same.

    Raises StoreError for tables that a newer release has made.
    """
    with engines.read() as connection:
        if revision_of(connection) == head():
            return
    with engines.migration():
        with engines.read() as connection:
            revision = revision_of(connection)
        if revision is None:
            with engines.write() as connection:
                _create(connection)
        elif revision > head():
            raise StoreError(
                f"{engines.name} was written by a newer minist (revision {revision}; this one knows "
                f"{head()}): install that release again, or restore an older backup"
            )
        elif revision != head():
            with engines.schema_change() as connection:
                upgrade(connection)


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": head()})


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations that are missing up to a revision."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def problems(engines: Engines) -> Iterator[str]:
    """What is wrong with revision, tables and columns."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    try:
        with engines.read() as connection:
            revision = revision_of(connection)
            if revision != head():
                yield f"the tables have revision {revision or 'none'}, not {head()}: run 'minist db upgrade'"
                return
            context = MigrationContext.configure(connection)
            for difference in compare_metadata(context, metadata):
                yield f"the tables are not as they were made: {_told(difference)}; {engines.damaged}"
    except DBAPIError as error:
        yield reason(error)


def _told(difference: object) -> str:
    """What Alembic found, in a few words."""
    return " ".join(str(difference).split())[:200]
