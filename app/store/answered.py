"""What versions have answered, hour by hour: images by class and by how sure the answer was, and warnings.

Every API process adds what it has counted since its last turn, so a row is of all processes and machines. Rows
are kept for 90 days, and at most so many. Hour 0 holds the first answers of a version whose card does not say
what it answered on its test set: what later ones are compared with.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Table, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from app.store import locks
from app.store.database import Database
from app.store.tables import answered, deliveries, drifted

HOUR = 3600
KEPT_HOURS = 90 * 24
MOST_ROWS = 200_000  # of all versions; a row of ten classes has some 300 bytes
FIRST = 0  # the hour of first answers
FIRST_IMAGES = 1000  # of which there are at least so many

Version = tuple[str, int]


@dataclass(frozen=True)
class Counts:
    """Images by class and by bin of confidence, and answers with a warning.

    In the database it is one JSON object: what else is to be counted becomes another of its members.
    """

    labels: Mapping[str, int] = field(default_factory=dict)
    confidence: Sequence[int] = ()
    warned: int = 0

    @property
    def images(self) -> int:
        return sum(self.confidence)

    def plus(self, other: "Counts") -> "Counts":
        if not self.confidence:
            return other
        labels = Counter(self.labels)
        labels.update(other.labels)
        added = [a + b for a, b in zip(self.confidence, other.confidence, strict=True)]
        return Counts(labels, added, self.warned + other.warned)

    @property
    def json(self) -> dict[str, Any]:
        return {"labels": dict(self.labels), "confidence": [*self.confidence], "warned": self.warned}


@dataclass(frozen=True)
class HourRow:
    """One row; `hour` is in hours since the epoch."""

    model: str
    version: int
    hour: int
    counts: Counts

    @classmethod
    def from_row(cls, row: RowMapping) -> "HourRow":
        return cls(row["model"], row["version"], row["hour"], Counts(**row["counts"]))


def hour_of(moment: float) -> int:
    return int(moment // HOUR)


class AnsweredHours:
    """The rows of all versions. Blocks; used in a thread."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, hour: int, found: Mapping[Version, Counts], keep_first: frozenset[Version]) -> None:
        """Add what was counted; of those to `keep_first` to their first answers too, until these are enough."""
        with self.database.write(locks.ANSWERED) as connection:
            for version, counts in sorted(found.items()):
                _add(connection, version, hour, counts)
                if version in keep_first and _images(connection, version, FIRST) < FIRST_IMAGES:
                    _add(connection, version, FIRST, counts)

    def since(self, hour: int, model: str | None = None, version: int | None = None) -> list[HourRow]:
        """In order of time."""
        query = select(answered).where(answered.c.hour >= max(hour, FIRST + 1)).order_by(answered.c.hour)
        if model is not None:
            query = query.where(answered.c.model == model)
        if version is not None:
            query = query.where(answered.c.version == version)
        with self.database.read() as connection:
            return [HourRow.from_row(row) for row in connection.execute(query).mappings()]

    def first(self) -> dict[Version, Counts]:
        """The first answers of versions, where they are kept and are enough."""
        query = select(answered).where(answered.c.hour == FIRST, answered.c.images >= FIRST_IMAGES)
        with self.database.read() as connection:
            found = [HourRow.from_row(row) for row in connection.execute(query).mappings()]
        return {(row.model, row.version): row.counts for row in found}

    def drifted(self) -> dict[Version, float]:
        """Versions that have drifted, and since when."""
        with self.database.read() as connection:
            return _drifted(connection)

    def forget(self, now: float | None = None) -> None:
        """Remove what is too old, then what is too much; first answers stay with the last other row."""
        now = time.time() if now is None else now
        oldest = select(answered.c.hour).order_by(answered.c.hour.desc()).offset(MOST_ROWS).limit(1)
        old = (answered.c.hour < hour_of(now) - KEPT_HOURS) | (answered.c.hour <= oldest.scalar_subquery())
        with self.database.write(locks.ANSWERED) as connection:
            connection.execute(delete(answered).where(answered.c.hour != FIRST, old))
            alive = _versions(connection, answered, answered.c.hour != FIRST)
            for table in (answered, drifted):
                for model, version in _versions(connection, table) - alive:
                    mine = (table.c.model == model) & (table.c.version == version)
                    connection.execute(delete(table).where(mine))
            ended = func.coalesce(deliveries.c.delivered_at, deliveries.c.given_up_at)
            before = now - KEPT_HOURS * HOUR
            connection.execute(delete(deliveries).where(deliveries.c.job_id.is_(None), ended < before))


def turn(connection: Connection, version: Version, begun: bool) -> bool:
    """Note that a version drifts, or does not any more; whether that is new. Alone with `locks.ANSWERED`."""
    if (version in _drifted(connection)) is begun:
        return False
    if begun:
        values = {"model": version[0], "version": version[1], "since": time.time()}
        connection.execute(insert(drifted).values(**values))
    else:
        mine = (drifted.c.model == version[0]) & (drifted.c.version == version[1])
        connection.execute(delete(drifted).where(mine))
    return True


def _versions(connection: Connection, table: Table, *where: ColumnElement[bool]) -> set[Version]:
    query = select(table.c.model, table.c.version).where(*where).distinct()
    return {(row.model, row.version) for row in connection.execute(query)}


def _drifted(connection: Connection) -> dict[Version, float]:
    return {(row.model, row.version): row.since for row in connection.execute(select(drifted))}


def _row(version: Version, hour: int) -> Any:
    return (answered.c.model == version[0]) & (answered.c.version == version[1]) & (answered.c.hour == hour)


def _images(connection: Connection, version: Version, hour: int) -> int:
    return connection.scalar(select(answered.c.images).where(_row(version, hour))) or 0


def _add(connection: Connection, version: Version, hour: int, counts: Counts) -> None:
    before = connection.scalar(select(answered.c.counts).where(_row(version, hour)))
    total = Counts(**before).plus(counts) if before else counts
    values = {"images": total.images, "counts": total.json}
    if before:
        connection.execute(update(answered).where(_row(version, hour)).values(**values))
    else:
        key = {"model": version[0], "version": version[1], "hour": hour}
        connection.execute(insert(answered).values(**key, **values))
