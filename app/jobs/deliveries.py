"""Who is to be told that a job has ended: a row for each end, written in the transaction of the end itself.
The operator is told of other things the same way.

An attempt is claimed by one UPDATE that counts it and sets the time of the next: two supervisors do not send
the same, and what dies in the middle of an attempt is tried again. So a delivery arrives at least once.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from app.store.database import Database
from app.store.tables import deliveries

MAX_ATTEMPTS = 8  # within 23 hours
FIRST_WAIT, FACTOR, LONGEST_WAIT = 30.0, 4, 12 * 3600.0  # seconds; the first is longer than an attempt takes


def wait(attempts: int) -> float:
    """Seconds from the begin of an attempt to the next: 30 s, 2 min, 8 min, .., 12 h."""
    return min(LONGEST_WAIT, FIRST_WAIT * FACTOR ** (attempts - 1))


@dataclass(frozen=True)
class Delivery:
    """One row; times in seconds since the epoch."""

    id: str
    job_id: str | None
    url: str
    event: str
    job: Mapping[str, Any]
    attempts: int
    next_at: float | None
    delivered_at: float | None
    given_up_at: float | None
    last_status: int | None

    @classmethod
    def from_row(cls, row: RowMapping) -> "Delivery":
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


def add(connection: Connection, url: str, job: Mapping[str, Any]) -> None:
    """Inside the transaction that ends the job, as it is now."""
    _add(connection, job["id"], url, job["status"], job)


def tell(connection: Connection, url: str, event: str, facts: Mapping[str, Any]) -> None:
    """Of something that is not a job; inside the transaction in which it happened."""
    _add(connection, None, url, event, facts)


def _add(connection: Connection, job_id: str | None, url: str, event: str, facts: Mapping[str, Any]) -> None:
    values = {"id": uuid.uuid4().hex, "job_id": job_id, "url": url, "event": event, "job": dict(facts)}
    connection.execute(insert(deliveries).values(**values, attempts=0, next_at=time.time()))


class Deliveries:
    """The rows of all jobs."""

    def __init__(self, database: Database, wait: Callable[[int], float] = wait) -> None:
        self.database = database
        self._wait = wait

    def claim(self) -> Delivery | None:
        """Begin an attempt of what is due; what was tried least goes first."""
        now = time.time()
        # a time that lies too far ahead was written before the clock was set back
        due = or_(deliveries.c.next_at <= now, deliveries.c.next_at > now + 2 * LONGEST_WAIT)
        query = select(deliveries).where(due).order_by(deliveries.c.attempts, deliveries.c.next_at).limit(1)
        with self.database.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        attempts = row["attempts"] + 1
        values = {"attempts": attempts, "next_at": now + self._wait(attempts)}
        seen = (deliveries.c.id == row["id"]) & (deliveries.c.attempts == row["attempts"]) & _waits()
        with self.database.write() as connection:
            mine = connection.execute(update(deliveries).where(seen).values(**values)).rowcount == 1
        return Delivery.from_row({**row, **values}) if mine else None  # type: ignore[arg-type]

    def delivered(self, delivery: Delivery, status: int) -> None:
        self._settle(delivery, last_status=status, delivered_at=time.time(), next_at=None)

    def failed(self, delivery: Delivery, status: int | None, for_ever: bool = False) -> bool:
        """Note an attempt that failed, without a status where there was no answer; whether it was the last."""
        last = for_ever or delivery.attempts >= MAX_ATTEMPTS
        end = {"given_up_at": time.time(), "next_at": None} if last else {}
        self._settle(delivery, last_status=status, **end)
        return last

    def _settle(self, delivery: Delivery, **values: Any) -> None:
        """Unless another attempt has begun meanwhile, which then says how it ends."""
        mine = (deliveries.c.id == delivery.id) & (deliveries.c.attempts == delivery.attempts) & _waits()
        with self.database.write() as connection:
            connection.execute(update(deliveries).where(mine).values(**values))

    def latest(self, job_id: str) -> Delivery | None:
        """Of the last end of a job; None where it has not ended yet."""
        mine = select(deliveries).where(deliveries.c.job_id == job_id).order_by(deliveries.c.number.desc())
        with self.database.read() as connection:
            row = connection.execute(mine.limit(1)).mappings().first()
        return None if row is None else Delivery.from_row(row)

    def counts(self) -> dict[str, int]:
        """How many wait, were delivered, were given up."""
        states = {
            "waiting": deliveries.c.next_at,
            "delivered": deliveries.c.delivered_at,
            "given_up": deliveries.c.given_up_at,
        }
        query = select(*(func.count(column).label(state) for state, column in states.items()))
        with self.database.read() as connection:
            return dict(connection.execute(query).mappings().one())


def _waits() -> ColumnElement[bool]:
    return deliveries.c.next_at.is_not(None)
