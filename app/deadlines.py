"""No request takes longer than it may: those that do are cancelled and answered 504.

One look at the oldest, a few times a second, instead of a timer per request.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.problems import TooLate

LOOKS = 20  # per time that is allowed


class Deadlines:
    """The requests that are being answered, oldest first. Used in the event loop only."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._begun: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Around what may take so long and no longer. Raises TooLate."""
        task = asyncio.current_task()
        assert task is not None
        self._begun[task] = time.monotonic()
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise TooLate(
                f"no answer could be given within {self.seconds:g} s",
                "try again later, send the body faster, or fewer images at a time",
                {"connection": "close"},
            ) from None
        finally:
            del self._begun[task]
            self._late.discard(task)

    async def run(self) -> None:
        """Look for requests that are late, until cancelled."""
        while True:
            await asyncio.sleep(min(0.25, self.seconds / LOOKS))
            self._cancel_late(time.monotonic() - self.seconds)

    def _cancel_late(self, limit: float) -> None:
        for task, begun in list(self._begun.items()):
            if begun > limit:
                return
            if task not in self._late:
                self._late.add(task)
                task.cancel()
