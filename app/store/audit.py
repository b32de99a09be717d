"""The audit list: whatever happens to a version or an alias, who did it, when and why."""

import time
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, func, insert, select
from sqlalchemy.engine import Connection

from app.store import locks
from app.store.database import Database
from app.store.tables import audit

KEPT = 100  # entries of each model, however old
Action = Literal[
    "publish", "promote", "keep", "move", "rollback", "rename", "delete", "adopt", "load", "unload", "traffic"
]


@dataclass(frozen=True)
class Change:
    """What happened to a model: `alias` (where one is meant) went from one version to another."""

    who: str
    action: Action
    model: str
    why: str
    alias: str | None = None
    from_version: int | None = None
    to_version: int | None = None


@dataclass(frozen=True)
class AuditEntry(Change):
    """A change and its moment, in seconds since the epoch."""

    at: float = 0.0


def note(connection: Connection, change: Change) -> None:
    """Add a change to the list. Alone with `locks.VERSIONS`: numbers grow in the order of commits."""
    connection.execute(insert(audit).values(at=time.time(), **vars(change)))


def newest(connection: Connection) -> int:
    """The number of the last change; it grows with every one."""
    return connection.scalar(select(func.coalesce(func.max(audit.c.id), 0))) or 0


def entries(database: Database, model: str) -> list[AuditEntry]:
    """A model's changes, newest first."""
    columns = [audit.c[name] for name in AuditEntry.__dataclass_fields__]
    query = select(*columns).where(audit.c.model == model).order_by(audit.c.id.desc())
    with database.read() as connection:
        return [AuditEntry(**row) for row in connection.execute(query).mappings()]


def prune(database: Database, before: float) -> None:
    """Delete entries from before that moment, but a model's newest `KEPT`: rollbacks are decided by them."""
    rank = func.row_number().over(partition_by=audit.c.model, order_by=audit.c.id.desc()).label("rank")
    ranked = select(audit.c.id, audit.c.at, rank).subquery()
    old = select(ranked.c.id).where(ranked.c.rank > KEPT, ranked.c.at < before)
    with database.write(locks.VERSIONS) as connection:
        connection.execute(delete(audit).where(audit.c.id.in_(old)))
