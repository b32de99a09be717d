"""Rate limits that all processes on one Postgres share.

A process takes a tenth of a limit at a time, and less where little is left, so that most requests ask nobody.
The first of a caller in a window waits for its part, in a thread's transaction that all who wait then share.
There are never more requests than the limit; of n processes n - 1 may hold a part that nobody uses.
"""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio import to_thread
from sqlalchemy.exc import OperationalError

from app.store.errors import reason
from app.store.rates import Grant, SharedCounts, Wish

if TYPE_CHECKING:
    from limits import RateLimitItem

log = logging.getLogger("minist")

PART = 10  # of a limit, at a time
AWAY_SECONDS = 5.0  # that a process counts alone where the database does not answer
MOST = 50_000  # parts that are remembered; then those of ended windows are forgotten


@dataclass
class Part:
    """What of a limit one process may still let through, until the window ends (on the monotonic clock)."""

    here: int
    left: int  # for all processes
    ends: float

    def answers(self, now: float) -> bool:
        """Whether nobody has to be asked: there is something here, or nothing anywhere."""
        return now < self.ends and (self.here > 0 or self.left == 0)


class SharedRates:
    """Used in the event loop only."""

    def __init__(self, limits: Sequence["RateLimitItem"], counts: SharedCounts) -> None:
        self._limits = limits
        self._counts = counts
        self._parts: dict[str, Part] = {}
        self._wishes: dict[str, Wish] = {}
        self._waiting: asyncio.Future[None] | None = None
        self._asking = False
        self._away_until = 0.0

    async def seconds_to_wait(self, caller: str) -> tuple["RateLimitItem", int] | None:
        """Count a request of `caller`, unless a limit is reached; then that limit, and when its window ends.

        Raises OperationalError where the database does not answer.
        """
        keys = [_key(limit, caller) for limit in self._limits]
        while True:
            now = time.monotonic()
            parts = [self._parts.get(key) for key in keys]
            if all(part is not None and part.answers(now) for part in parts):
                break
            await self._ask(keys, now)
        for limit, part in zip(self._limits, parts, strict=True):
            if part is not None and part.here == 0:
                return limit, max(1, math.ceil(part.ends - now))
        for part in parts:
            assert part is not None
            part.here -= 1
        return None

    async def _ask(self, keys: Sequence[str], now: float) -> None:
        """Wait for the parts that are missing, with all others who wait."""
        if now < self._away_until:
            raise OperationalError("rates", None, TimeoutError("the database did not answer lately"))
        for limit, key in zip(self._limits, keys, strict=True):
            part = self._parts.get(key)
            if part is None or not part.answers(now):
                self._wishes[key] = _wish(limit, key, part if part and now < part.ends else None)
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        waiting = self._waiting
        if not self._asking:
            self._asking = True
            self._task = asyncio.create_task(self._take_all())
        await asyncio.shield(waiting)

    async def _take_all(self) -> None:
        try:
            while self._waiting is not None:
                waiting, wishes = self._waiting, list(self._wishes.values())
                self._waiting, self._wishes = None, {}
                await self._take(waiting, wishes)
        finally:
            self._asking = False

    async def _take(self, waiting: "asyncio.Future[None]", wishes: Sequence[Wish]) -> None:
        try:
            self._note(await to_thread.run_sync(self._counts.take, wishes))
        except Exception as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            if isinstance(error, OperationalError):
                log.error("each process counts requests alone: %s", reason(error))
            waiting.set_exception(error)
            waiting.exception()  # the one who waited may be gone
        else:
            waiting.set_result(None)

    def _note(self, grants: Mapping[str, Grant]) -> None:
        now = time.monotonic()
        if len(self._parts) > MOST:
            self._parts = {key: part for key, part in self._parts.items() if part.ends > now}
        for key, grant in grants.items():
            here = self._parts.get(key)
            kept = here.here if here and now < here.ends else 0
            self._parts[key] = Part(kept + grant.granted, grant.left, now + grant.seconds)


def _wish(limit: "RateLimitItem", key: str, part: Part | None) -> Wish:
    left = part.left if part else limit.amount
    wanted = max(1, min(math.ceil(limit.amount / PART), left // 4))
    return Wish(key, limit.get_expiry(), limit.amount, wanted)


def _key(limit: "RateLimitItem", caller: str) -> str:
    """Nobody reads in the database who has asked."""
    return hashlib.sha256(f"{limit} of {caller}".encode()).hexdigest()
