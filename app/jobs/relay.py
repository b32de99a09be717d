"""What a child says, on its way into the job table; it waits where the table cannot be written."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.exc import OperationalError

from app.jobs.executor import Execution
from app.jobs.job import ClaimLost, Job
from app.jobs.queue import Queue
from app.store.errors import reason

log = logging.getLogger("minist.jobs")


class Relay:
    """The messages of one attempt, in order, and the signs of life of its supervisor."""

    def __init__(
        self, queue: Queue, job: Job, renew_seconds: float, on_epoch: Callable[[], None] = lambda: None
    ) -> None:
        """`on_epoch` is called after every epoch that the table knows of."""
        self._on_epoch = on_epoch
        self._queue = queue
        self._job = job
        self._renew_seconds = renew_seconds
        self._begun = time.monotonic()
        self._renewed = 0.0
        self._last_epoch = job.last["epoch"] if job.last else 0  # that the table knows of
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._trouble = False
        self.failure: str | None = None  # the child's own reason

    @property
    def seconds(self) -> float:
        """That the job has run, in all its attempts."""
        return self._job.seconds + time.monotonic() - self._begun

    def receive(self, execution: Execution, wait: float) -> None:
        """Take what the child has said; of steps that follow each other, the last is enough."""
        while (message := execution.message(wait)) is not None:
            wait = 0
            if message["event"] == "failed":
                self.failure = message["error"]
                continue
            if self._waiting and self._waiting[-1]["event"] == message["event"] == "step":
                self._waiting.pop()
            self._waiting.append(message)

    def write(self) -> bool:
        """Write what waits; whether everything is written. Raises ClaimLost."""
        try:
            self._write()
        except OperationalError as error:
            if not self._trouble:
                log.error(
                    "job %s: the database does not answer (%s); the run goes on", self._job.id, reason(error)
                )
            self._trouble = True
            return False
        self._trouble = False
        return True

    def _write(self) -> None:
        if time.monotonic() - self._renewed > self._renew_seconds:
            self._queue.renew(self._job, self.seconds)
            self._renewed = time.monotonic()
        elif not self._queue.owns(self._job):
            raise ClaimLost
        while self._waiting:
            message = self._waiting[0]
            data = {key: value for key, value in message.items() if key != "event"}
            if message["event"] == "step":
                self._queue.step(self._job, data)
            elif message["event"] == "epoch":
                again = data.pop("again", False)  # of an attempt before: only what was missed is new
                if not again or data["epoch"] > self._last_epoch:
                    self._queue.epoch(self._job, data)
                    self._last_epoch = data["epoch"]
                    self._on_epoch()
            elif message["event"] == "note":
                self._queue.note(self._job, data)
            self._waiting.popleft()
