"""The database of a deployment: SQLite under MINIST_HOME, or the Postgres that MINIST_DATABASE_URL names."""

from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import Connection, text

from app.store import schema
from app.store.errors import StoreError
from app.store.schema import Engines
from app.store.sqlite import BUSY_SECONDS, Sqlite

CONNECTIONS = 10  # of a process, to Postgres
_SIZE = {
    True: "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    False: "SELECT pg_database_size(current_database())",
}


class Database:
    """Connections to one database; short transactions."""

    def __init__(
        self,
        home: Path,
        busy_seconds: float = BUSY_SECONDS,
        url: str | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        """Without a URL the file in `home`, which is made. Raises StoreError for a URL that cannot be used."""
        home.mkdir(parents=True, exist_ok=True)
        self.path = home / "minist.db"
        self.in_home = url is None
        self.engines = _engines(self.path, busy_seconds, url, connections)

    @property
    def name(self) -> str:
        """For messages; holds no password."""
        return self.engines.name

    def read(self) -> AbstractContextManager[Connection]:
        """A connection that sees what is committed. Raises OperationalError where there is no answer."""
        return self.engines.read()

    def write(self, *alone: str) -> AbstractContextManager[Connection]:
        """A transaction: committed at the end, rolled back on an exception.

        No other with one of the names `alone` runs at the same time: what it has looked at stays so. Without a
        name, it may rely on single statements only.
        """
        return self.engines.write(*alone)

    def migrate(self) -> None:
        """Make the tables, or bring them up to date; safe while other processes do the same.

        Raises StoreError for a database that is damaged, was written by a newer release or refuses us, and
        DatabaseAway where its server does not answer.
        """
        self.engines.prepare()
        schema.migrate(self.engines)

    def check(self) -> list[str]:
        """Read all of it; what is wrong. Changes nothing."""
        try:
            self.engines.check()
        except StoreError as error:
            return [str(error)]
        return [*schema.problems(self.engines)]

    def size(self) -> int:
        """Bytes of it. Raises OperationalError where there is no answer."""
        with self.read() as connection:
            return int(connection.scalar(text(_SIZE[self.in_home])) or 0)

    def close(self) -> None:
        self.engines.close()


def _engines(path: Path, busy_seconds: float, url: str | None, connections: int) -> Engines:
    if url is None:
        return Sqlite(path, busy_seconds)
    from app.store.postgres import Postgres  # here: most deployments have none

    return Postgres(url, busy_seconds, connections)
