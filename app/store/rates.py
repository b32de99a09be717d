"""How many requests callers have made in the present window, of all processes on one Postgres.

A row for each caller and limit. Windows are of the server's clock, so that all machines mean the same.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import case, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from app.store.database import Database
from app.store.tables import rates

FORGET_SECONDS = 60.0  # between two removals of windows that have ended


@dataclass(frozen=True)
class Wish:
    """So many requests of one caller: a part of `amount`, which is what a window of `seconds` has for all."""

    key: str
    seconds: int
    amount: int
    wanted: int


@dataclass(frozen=True)
class Grant:
    """How many of them may be made; how many are left for all; the seconds until the window ends."""

    granted: int
    left: int
    seconds: float


class SharedCounts:
    """The rows, for one process. Blocks; used in a thread."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._forgotten = time.monotonic()

    def take(self, wishes: Sequence[Wish]) -> Mapping[str, Grant]:
        """Count what is granted, by key; keys differ. Raises OperationalError."""
        ordered = sorted(wishes, key=lambda wish: wish.key)  # all processes lock rows in one order
        with self.database.write() as connection:
            now = float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0)
            if time.monotonic() - self._forgotten > FORGET_SECONDS:
                self._forgotten = time.monotonic()
                connection.execute(delete(rates).where(rates.c.ends < now - FORGET_SECONDS))
            given = insert(rates).values([_row(wish, now) for wish in ordered])
            of_now = rates.c.ends == given.excluded.ends
            before = case((of_now, rates.c.taken), else_=0)
            counted = given.on_conflict_do_update(
                index_elements=[rates.c.key],
                set_={"taken": before + given.excluded.taken, "ends": given.excluded.ends},
            ).returning(rates.c.key, rates.c.taken)
            taken = {row.key: row.taken for row in connection.execute(counted)}
        return {wish.key: _grant(wish, taken[wish.key], now) for wish in ordered}


def _ends(wish: Wish, now: float) -> float:
    return (now // wish.seconds + 1) * wish.seconds


def _row(wish: Wish, now: float) -> dict[str, object]:
    return {"key": wish.key, "taken": wish.wanted, "ends": _ends(wish, now)}


def _grant(wish: Wish, taken: int, now: float) -> Grant:
    """`taken` may be more than there was: what is above the amount was granted to nobody."""
    granted = max(0, min(wish.wanted, wish.amount - (taken - wish.wanted)))
    return Grant(granted, max(0, wish.amount - taken), _ends(wish, now) - now)
