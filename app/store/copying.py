"""All rows of a SQLite database, copied to a Postgres in one transaction, and compared there.

A row is compared as what its columns mean, not as bytes: what Postgres cannot hold (a NUL in a text, a number
that is none in JSON) is the same as what it becomes there.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, exists, func, insert, select, text
from sqlalchemy.exc import DataError

from app.store.database import Database
from app.store.errors import StoreError, reason
from app.store.postgres import Postgres
from app.store.postgres_values import plain
from app.store.sqlite import require_unused
from app.store.tables import metadata

ROWS = 500  # that are in memory at a time


@dataclass(frozen=True)
class Contents:
    """What a table holds: the number of rows and a sum of their digests, in whatever order they come."""

    rows: int = 0
    sum: int = 0

    def plus(self, rows: list[dict[str, Any]]) -> "Contents":
        total = self.sum + sum(map(_digest, rows))
        return Contents(self.rows + len(rows), total % 2**256)


def copy(source: Database, target: Database) -> dict[str, int]:
    """Copy every row; how many, by table. In the source nothing changes, but that it is migrated.

    Raises StoreError where a process uses the source, the target holds rows or is no Postgres, or a table is
    not the same afterwards; then nothing was copied.
    """
    if not isinstance(target.engines, Postgres):
        raise StoreError("rows are copied from SQLite to Postgres: give the URL of a Postgres")
    require_unused(source.path)
    source.migrate()
    target.migrate()
    with source.write() as old, target.engines.unlimited() as new:  # nobody writes meanwhile
        new.execute(text(f"LOCK TABLE {', '.join(metadata.tables)} IN EXCLUSIVE MODE"))
        _require_empty(new, target.name)
        return {table.name: _copy(table, old, new) for table in metadata.sorted_tables}


def _require_empty(new: Connection, name: str) -> None:
    found = [table.name for table in metadata.sorted_tables if new.scalar(select(exists(select(table))))]
    if found:
        raise StoreError(
            f"the {name} holds rows already, in {', '.join(found)}: give one that no service has used yet"
        )


def _copy(table: Table, old: Connection, new: Connection) -> int:
    before, after = Contents(), Contents()
    try:
        for rows in _rows(table, old):
            new.execute(insert(table), rows)
            before = before.plus(rows)
    except DataError as error:
        raise StoreError(
            f"a row of {table.name} is none for Postgres ({reason(error)}): nothing was copied"
        ) from error
    for rows in _rows(table, new):
        after = after.plus(rows)
    if before != after:
        raise StoreError(
            f"{table.name} is not the same in Postgres ({after.rows:,} of {before.rows:,} rows are there): "
            "nothing was copied"
        )
    _continue_numbers(table, old, new)
    return after.rows


def _rows(table: Table, connection: Connection) -> Iterator[list[dict[str, Any]]]:
    found = connection.execute(select(table), execution_options={"yield_per": ROWS})
    for rows in found.mappings().partitions():
        yield [dict(row) for row in rows]


def _digest(row: dict[str, Any]) -> int:
    values = [hashlib.sha256(v).hexdigest() if isinstance(v, bytes) else plain(v) for v in row.values()]
    return int.from_bytes(hashlib.sha256(json.dumps(values).encode()).digest())


def _continue_numbers(table: Table, old: Connection, new: Connection) -> None:
    """The next row gets a number that no row has had."""
    number = table.autoincrement_column
    if number is None or number.type.python_type is not int:
        return
    last = new.scalar(select(func.max(number))) or 0
    if table.dialect_options["sqlite"]["autoincrement"]:  # also of rows that are gone
        given = old.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        last = max(last, given or 0)
    if last:
        sequence = func.pg_get_serial_sequence(table.name, number.name)
        new.execute(select(func.setval(sequence, last)))
