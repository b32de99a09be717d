"""Which supervisors of training jobs are there: each writes when it was last alive.

Leases do not depend on it (`app.jobs.queue`); it only lets others say that nobody takes jobs. Times are the
wall clock's: where that jumps, the answer is wrong for a few seconds.
"""

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, null, select, update
from sqlalchemy.exc import OperationalError

from app.store.database import Database
from app.store.tables import supervisors

BEAT_SECONDS = 5.0
SILENCE_SECONDS = 30.0  # after which one is taken for dead


@dataclass(frozen=True)
class Supervisors:
    """The rows of all supervisors on one database."""

    database: Database

    def beat(self, name: str, machine: Mapping[str, Any] | None = None) -> None:
        """Note that the supervisor of that name is alive, and what its machine has; forget those that have been
        silent for long."""
        now = time.time()
        with self.database.write() as connection:
            row = (
                update(supervisors)
                .where(supervisors.c.name == name)
                .values(seen_at=now, machine=_json(machine))
            )
            if connection.execute(row).rowcount == 0:
                values = {"name": name, "host": socket.gethostname(), "seen_at": now, "machine": _json(machine)}
                connection.execute(insert(supervisors).values(**values))
            connection.execute(delete(supervisors).where(func.abs(now - supervisors.c.seen_at) > 3600))

    def leave(self, name: str) -> None:
        """Forget one that ends."""
        with self.database.write() as connection:
            connection.execute(delete(supervisors).where(supervisors.c.name == name))

    def count(self, host: str | None = None) -> int:
        """How many are alive, of all hosts or of one."""
        alive = select(func.count()).where(_alive())
        if host is not None:
            alive = alive.where(supervisors.c.host == host)
        with self.database.read() as connection:
            return connection.scalar(alive) or 0

    def alive(self) -> list[tuple[str, str]]:
        """Host and name of each that is alive."""
        query = select(supervisors.c.host, supervisors.c.name).where(_alive())
        with self.database.read() as connection:
            return [(row.host, row.name) for row in connection.execute(query.order_by(*query.selected_columns))]

    def machines(self) -> list[Mapping[str, Any] | None]:
        """What the machines of those that are alive have; None: that one takes every job."""
        with self.database.read() as connection:
            return list(connection.scalars(select(supervisors.c.machine).where(_alive())))


def _alive() -> ColumnElement[bool]:
    return func.abs(time.time() - supervisors.c.seen_at) < SILENCE_SECONDS


def _json(machine: Mapping[str, Any] | None) -> Any:
    """The database's null, not JSON's, where nothing is said."""
    return null() if machine is None else dict(machine)


class Heartbeat:
    """Writes a supervisor's heartbeat in a thread, since a job keeps the supervisor busy."""

    def __init__(self, supervisors: Supervisors, name: str, machine: Mapping[str, Any] | None = None) -> None:
        self._supervisors = supervisors
        self._name = name
        self._machine = machine
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self._thread.join()
        with suppress(OperationalError):  # a row that nobody renews says the same in half a minute
            self._supervisors.leave(self._name)

    def _run(self) -> None:
        while True:
            with suppress(OperationalError):  # locked or full: the supervisor itself says so
                self._supervisors.beat(self._name, self._machine)
            if self._ending.wait(BEAT_SECONDS):
                return
