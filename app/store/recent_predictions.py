"""The pictures of predictions, remembered for an hour so that they can be corrected.

They are written to the database, a few at a time, after the answers have gone: no prediction waits for the
disk, and every API worker finds the picture of a prediction. There is none of this with feedback off.
"""

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import OperationalError

from app.store import locks
from app.store.database import Database
from app.store.feedback import REMEMBER_SECONDS
from app.store.tables import predictions

REMEMBERED = 10_000  # predictions, of all API workers together
UNWRITTEN = 1_000  # in one process; under more load than the disk bears, the oldest are not remembered
FORGET_EVERY = 60  # seconds


class RecentPredictions:
    """What one process has answered of late."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._unwritten: deque[Mapping[str, Any]] = deque(maxlen=UNWRITTEN)
        self._forgot = 0.0

    def remember(self, id: str, model: str, version: int, predicted: str, pixels: bytes) -> None:
        """Keep the picture of an answer: grey pixels, row by row. It is in the database after `write`."""
        row = {"id": id, "model": model, "version": version, "predicted": predicted, "pixels": pixels}
        self._unwritten.append({**row, "at": time.time()})

    @property
    def due(self) -> bool:
        """Whether there is something to write, or to forget."""
        return bool(self._unwritten) or time.monotonic() - self._forgot > FORGET_EVERY

    def write(self) -> None:
        """One transaction: what is new is written, what is old is forgotten."""
        self._forgot = time.monotonic()
        rows = [self._unwritten.popleft() for _ in range(len(self._unwritten))]
        newest = select(func.max(predictions.c.number)).scalar_subquery()
        old = predictions.c.at < time.time() - REMEMBER_SECONDS
        try:
            with self.database.write(locks.PREDICTIONS) as connection:
                if rows:
                    connection.execute(insert(predictions), rows)
                forgotten = old | (predictions.c.number <= newest - REMEMBERED)
                connection.execute(delete(predictions).where(forgotten))
        except OperationalError:  # they are written when the database answers again
            room = UNWRITTEN - len(self._unwritten)
            self._unwritten.extendleft(reversed(rows[max(0, len(rows) - room) :]))
            raise
