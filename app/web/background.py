"""What an API worker does beside answering: work that is repeated until the worker ends."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy.exc import OperationalError

from app.store.errors import is_of_home, public_reason, reason

log = logging.getLogger("minist")

FAILURES, FAILING_SECONDS = 3, 2.0  # in a row, for so long: then the work is in trouble
LONGEST_SECONDS = 10.0  # or when it has not succeeded for so long since it failed
LOG_SECONDS = 10.0  # between two lines about the same failing work


@dataclass
class Failures:
    """Turns that failed in a row, the last with `error`; times are of the monotonic clock."""

    since: float
    error: str = ""
    count: int = 0
    logged: float = float("-inf")
    away: bool = False  # a server of the database does not answer: what is loaded answers all the same

    def is_trouble(self, now: float) -> bool:
        lasting = now - self.since
        return (self.count >= FAILURES and lasting >= FAILING_SECONDS) or lasting >= LONGEST_SECONDS


class Background:
    """Repeated work. An error is logged, and the next turn comes all the same."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, Failures] = {}
        self._spare: set[str] = set()
        self._ending = asyncio.Event()

    def repeat(
        self, name: str, seconds: float, work: Callable[[], Awaitable[object]], spare: bool = False
    ) -> None:
        """Await `work()` now, and again `seconds` after each time. Predictions can do without `spare` work."""
        if spare:
            self._spare.add(name)
        self._tasks[name] = asyncio.create_task(self._repeat(name, seconds, work), name=name)

    @property
    def trouble(self) -> str | None:
        """What does not work any more, in a sentence: it has ended, or has failed for some time."""
        stopped = [f"{name} has stopped" for name, task in self._tasks.items() if task.done()]
        return next(
            iter([*stopped, *self._failing(lambda name, away: not away and name not in self._spare)]), None
        )

    @property
    def warnings(self) -> list[str]:
        """What does not work though predictions do, a sentence each: most of it while the server of the
        database is away."""
        return self._failing(lambda name, away: away or name in self._spare)

    def _failing(self, counts: Callable[[str, bool], bool]) -> list[str]:
        """Of work whose name, and whether the server is away, count."""
        now = self._clock()
        return [
            f"{name} has failed {failures.count} times in a row: {failures.error}"
            for name, failures in self._failures.items()
            if counts(name, failures.away) and failures.is_trouble(now)
        ]

    @property
    def states(self) -> list[tuple[str, str | None]]:
        """All work by name, each with the error of its last turns; None where they succeed."""
        found: list[tuple[str, str | None]] = []
        for name, task in self._tasks.items():
            failures = self._failures.get(name)
            error = f"{failures.count} times in a row: {failures.error}" if failures else None
            found.append((name, "it has stopped" if task.done() else error))
        return found

    async def end(self) -> None:
        """Wait for the turns that are running now: a thread in torch must not outlive the interpreter."""
        self._ending.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _repeat(self, name: str, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        while not self._ending.is_set():
            try:
                await work()
            except Exception as error:
                self._note(name, error)
            else:
                if name in self._failures:
                    log.warning("%s works again", name)
                    del self._failures[name]
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), seconds)

    def _note(self, name: str, error: Exception) -> None:
        now = self._clock()
        failures = self._failures.setdefault(name, Failures(now))
        failures.count += 1
        known = error if isinstance(error, OperationalError) else None
        failures.away = known is not None and not is_of_home(known)
        failures.error = f"{_told(error, public_reason)} ({type(error).__name__})"
        if now - failures.logged >= LOG_SECONDS:
            log.error("%s: %s (%s)", name, _told(error, reason), type(error).__name__)
            failures.logged = now


def _told(error: Exception, of_database: Callable[[OperationalError], str]) -> str:
    said = of_database(error) if isinstance(error, OperationalError) else str(error)
    return " ".join(said.split())[:300]
