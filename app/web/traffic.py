"""Watches what comes of a split of traffic and of candidates in the shadow, and ends what errs.

Off the way of requests: every process adds what it has seen to the row of the model every few seconds, and
looks at the sum.
"""

import logging
from collections.abc import Mapping

from app.serving.registry import Registry
from app.serving.shadow import Shadow
from app.store.traffic import Outcome, Traffic, TrafficRows
from app.store.versions import PRODUCTION
from app.telemetry.counters import Counters

log = logging.getLogger("minist.traffic")

ERRS, ERRS_SHARE = 5, 0.05  # requests that failed, and of all: then a candidate errs
Seen = dict[str, tuple[int, int]]  # by alias: images answered and requests failed, since this process began


class TrafficWatch:
    """Of one process. `turn` is called by one thread at a time."""

    def __init__(self, rows: TrafficRows, registry: Registry, counters: Counters, shadow: Shadow) -> None:
        self.rows = rows
        self._registry = registry
        self._counters = counters
        self._shadow = shadow
        self._seen: dict[tuple[str, float], Seen] = {}

    def turn(self) -> None:
        """Raises OperationalError: what was seen of the shadow since the last turn is lost then."""
        going = self._registry.snapshot.traffic
        self._seen = {key: seen for key, seen in self._seen.items() if key in _keys(going)}
        for one in going.values():
            more = self._new(one)
            total = one.outcome if more.is_empty else self.rows.add(one.model, one.since, more)
            if total is not None and (why := errs(one, total)) is not None:
                self._end(one, why)

    def _end(self, one: Traffic, why: str) -> None:
        if self.rows.end(one.model, one.since, "minist", why):
            log.error("traffic of %s was ended: %s", one.model, why)
        self._registry.refresh()

    def _new(self, one: Traffic) -> Outcome:
        """What this process has seen of it since the last turn; at the first, nothing."""
        now = self._now(one)
        before = self._seen.setdefault((one.model, one.since), now)
        self._seen[one.model, one.since] = now
        answers = {alias: now[alias][0] - before[alias][0] for alias in now}
        failed = {alias: now[alias][1] - before[alias][1] for alias in now}
        return Outcome(_positive(answers), _positive(failed), self._shadow.take(one.model))

    def _now(self, one: Traffic) -> Seen:
        """By alias; answers are counted by version, so of two with the same the first has them all."""
        found: Seen = {}
        versions: set[int] = set()
        for alias in sorted(one.shares, key=lambda alias: (alias != PRODUCTION, alias)):
            served = self._registry.get(f"{one.model}@{alias}")
            known = served is not None and served.version not in versions
            found[alias] = (0, 0)
            if served is not None and known:
                versions.add(served.version)
                failed = self._counters.failed.get((one.model, served.version), 0)
                found[alias] = (sum(served.counted.confidence), failed)
        return found


def _keys(going: Mapping[str, Traffic]) -> set[tuple[str, float]]:
    return {(one.model, one.since) for one in going.values()}


def _positive(counts: Mapping[str, int]) -> dict[str, int]:
    """An alias that was moved meanwhile begins anew."""
    return {name: number for name, number in counts.items() if number > 0}


def errs(one: Traffic, total: Outcome) -> str | None:
    """Why it is ended, if a candidate errs."""
    for alias in one.shares:
        answered, failed = total.answers.get(alias, 0), total.failed.get(alias, 0)
        if alias != PRODUCTION and _too_many(failed, answered):
            return f"{alias} failed {failed:,} of {failed + answered:,} requests"
    if one.shadow is not None and _too_many(total.shadow.failed, total.shadow.compared):
        failed = total.shadow.failed
        return f"{one.shadow} failed {failed:,} of {failed + total.shadow.compared:,} inputs in the shadow"
    return None


def _too_many(failed: int, answered: int) -> bool:
    return failed >= ERRS and failed > ERRS_SHARE * (failed + answered)
