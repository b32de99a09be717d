"""The pictures of predictions, remembered for an hour so that they can be corrected.

They are written to the database, a few at a time, after the answers have gone: no prediction waits for the
disk, and whichever worker is told of a mistake finds the picture. There is none of this with feedback off.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import OperationalError

from app.serving.registry import ServedModel
from app.store.database import Database
from app.store.feedback import REMEMBER_SECONDS
from app.store.tables import predictions
from app.web.access_log import RequestObserver

log = logging.getLogger("minist.feedback")

REMEMBERED = 10_000  # predictions, of all workers together
UNWRITTEN = 1_000  # in one process; under more load than the disk bears, the oldest are not remembered
FORGET_EVERY = 60  # seconds, also when nobody asks


class RecentPredictions:
    """What one process has answered of late."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._unwritten: deque[Mapping[str, Any]] = deque(maxlen=UNWRITTEN)
        self._something = asyncio.Event()

    def remember(
        self,
        served: ServedModel,
        index: int,
        pixels: bytes | memoryview,
        headers: Mapping[bytes, bytes],
        request_id: bytes,
    ) -> str:
        """Keep the picture of an answer; its id is the request's, unless the client chose that one."""
        name = secrets.token_hex(12) if b"x-request-id" in headers else request_id.decode()
        self._unwritten.append(
            {
                "id": name,
                "model": served.name,
                "version": served.version,
                "predicted": served.classifier.card.classes[index],
                "pixels": bytes(pixels),
                "at": time.time(),
            }
        )
        self._something.set()
        return name

    async def run(self) -> None:
        """Write what is new and forget what is old, until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._something.wait(), FORGET_EVERY)
            self._something.clear()
            try:
                await run_in_threadpool(self.write)
            except OperationalError as error:
                log.error("predictions cannot be remembered: %s", error.orig)

    def write(self) -> None:
        """One transaction with all that is new."""
        rows = [self._unwritten.popleft() for _ in range(len(self._unwritten))]
        newest = select(func.max(predictions.c.number)).scalar_subquery()
        old = predictions.c.at < time.time() - REMEMBER_SECONDS
        with self.database.write() as connection:
            if rows:
                connection.execute(insert(predictions), rows)
            connection.execute(delete(predictions).where(old | (predictions.c.number <= newest - REMEMBERED)))


class UnguessableRequestIds(RequestObserver):
    """Where an id names a picture: whoever knows it may correct the prediction, and is shown it."""

    def request_id(self, headers: Mapping[bytes, bytes]) -> bytes:
        if b"x-request-id" in headers:
            return super().request_id(headers)
        return secrets.token_hex(12).encode()
