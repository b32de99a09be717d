"""How the requests for a model are shared among its aliases, and what came of it, of all processes together.

A change is noted in the audit list, whose newest number every process looks at: all follow within a second.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.engine import Connection

from app.store import locks
from app.store.audit import Change, note
from app.store.database import Database
from app.store.tables import traffic


@dataclass(frozen=True)
class Compared:
    """Answers of a candidate in the shadow beside those of production; sums over so many."""

    compared: int = 0
    agreed: int = 0
    failed: int = 0
    dropped: int = 0  # it was busy
    confidence: float = 0.0  # of production's answers
    candidate_confidence: float = 0.0
    timed: int = 0  # of which forward passes of both were measured
    seconds: float = 0.0
    candidate_seconds: float = 0.0

    def plus(self, other: "Compared") -> "Compared":
        mine, more = asdict(self), asdict(other)
        return Compared(**{name: mine[name] + more[name] for name in mine})


@dataclass(frozen=True)
class Outcome:
    """What came of it: images and failed requests by alias, and the comparison in the shadow."""

    answers: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    shadow: Compared = Compared()

    @classmethod
    def of(cls, counts: Mapping[str, Any]) -> "Outcome":
        return cls(counts["answers"], counts["failed"], Compared(**counts["shadow"]))

    @property
    def is_empty(self) -> bool:
        return not any((*self.answers.values(), *self.failed.values())) and self.shadow == Compared()

    def plus(self, other: "Outcome") -> "Outcome":
        return Outcome(
            _sum(self.answers, other.answers), _sum(self.failed, other.failed), self.shadow.plus(other.shadow)
        )


@dataclass(frozen=True)
class Traffic:
    """One row; shares in percent, by alias. Ended ones are kept to be read."""

    model: str
    shares: Mapping[str, int]
    shadow: str | None
    who: str
    since: float
    ended_at: float | None
    why: str
    outcome: Outcome

    @classmethod
    def from_row(cls, row: RowMapping) -> "Traffic":
        same = {name: row[name] for name in ("model", "shares", "shadow", "who", "since", "ended_at", "why")}
        return cls(**same, outcome=Outcome.of(row["counts"]))


def running(connection: Connection) -> dict[str, Traffic]:
    """By model; for the snapshot of versions."""
    query = select(traffic).where(traffic.c.ended_at.is_(None))
    return {row["model"]: Traffic.from_row(row) for row in connection.execute(query).mappings()}


class TrafficRows:
    """The rows of all models. Blocks; used in a thread."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def get(self, model: str) -> Traffic | None:
        """The last of a model, also when it has ended."""
        with self.database.read() as connection:
            row = connection.execute(select(traffic).where(traffic.c.model == model)).mappings().first()
        return None if row is None else Traffic.from_row(row)

    def all(self) -> list[Traffic]:
        """Those that go on or ended last, newest first."""
        query = select(traffic).order_by(traffic.c.since.desc()).limit(20)
        with self.database.read() as connection:
            return [Traffic.from_row(row) for row in connection.execute(query).mappings()]

    def begin(self, model: str, shares: Mapping[str, int], shadow: str | None, who: str, why: str) -> None:
        """In the place of what there was."""
        empty = {"answers": {}, "failed": {}, "shadow": asdict(Compared())}
        values = {"shares": dict(shares), "shadow": shadow, "who": who, "since": time.time(), "why": why}
        with self.database.write(locks.VERSIONS) as connection:
            connection.execute(delete(traffic).where(traffic.c.model == model))
            connection.execute(insert(traffic).values(model=model, **values, ended_at=None, counts=empty))
            note(connection, Change(who, "traffic", model, _told(shares, shadow, why)))

    def end(self, model: str, since: float, who: str, why: str) -> bool:
        """End the one that began then; whether it went on."""
        mine = (traffic.c.model == model) & (traffic.c.since == since) & traffic.c.ended_at.is_(None)
        with self.database.write(locks.VERSIONS) as connection:
            ended = update(traffic).where(mine).values(ended_at=time.time(), why=why)
            if connection.execute(ended).rowcount != 1:
                return False
            note(connection, Change(who, "traffic", model, f"ended: {why}"))
            return True

    def add(self, model: str, since: float, more: Outcome) -> Outcome | None:
        """Add what a process has seen of the one that began then; the sum. None where that is not the last."""
        mine = (traffic.c.model == model) & (traffic.c.since == since)
        with self.database.write(locks.VERSIONS) as connection:
            before = connection.scalar(select(traffic.c.counts).where(mine))
            if before is None:
                return None
            total = Outcome.of(before).plus(more)
            connection.execute(update(traffic).where(mine).values(counts=asdict(total)))
            return total


def _sum(some: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {name: some.get(name, 0) + more.get(name, 0) for name in {**some, **more}}


def _told(shares: Mapping[str, int], shadow: str | None, why: str) -> str:
    parts = [f"{share} % to {alias}" for alias, share in shares.items()]
    if shadow is not None:
        parts.append(f"{shadow} in the shadow")
    return f"{', '.join(parts)}{f': {why}' if why else ''}"
