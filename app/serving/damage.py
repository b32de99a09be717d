"""Versions that could not be loaded: why, and when each is tried again."""

import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds; doubled after each attempt


@dataclass(frozen=True)
class Damage:
    """`until` is on the monotonic clock."""

    reason: str
    wait: float
    until: float
    away: bool = False  # it may be whole: the store that has it does not answer


class DamagedVersions:
    """By model and version."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: dict[tuple[str, int], Damage] = {}

    def add(self, model: str, version: int, reason: str, away: bool = False) -> None:
        """An attempt has failed; the next one comes after twice the time."""
        before = self._found.get((model, version))
        wait = min(before.wait * 2, LONGEST_WAIT) if before else FIRST_WAIT
        self._found[model, version] = Damage(reason, wait, self._clock() + wait, away)

    def discard(self, model: str, version: int) -> None:
        self._found.pop((model, version), None)

    def keep(self, versions: Container[tuple[str, int]]) -> None:
        """Forget those that do not exist any more; version 0 is a file that came with the service."""
        self._found = {key: damage for key, damage in self._found.items() if key in versions or key[1] == 0}

    def wait(self, model: str, version: int) -> float:
        """Seconds until it may be tried; 0 or less: now."""
        damage = self._found.get((model, version))
        return damage.until - self._clock() if damage else 0.0

    def due(self, versions: Iterable[tuple[str, int]]) -> bool:
        """Whether one of these may be tried again now."""
        now = self._clock()
        due = {key for key, damage in self._found.items() if damage.until <= now}
        return bool(due) and not due.isdisjoint(versions)

    def is_away(self, model: str, version: int) -> bool:
        """Whether all that was wrong is that the object store did not answer."""
        damage = self._found.get((model, version))
        return damage is not None and damage.away

    def reason(self, model: str, version: int) -> str | None:
        damage = self._found.get((model, version))
        return damage.reason if damage else None
