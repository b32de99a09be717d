"""Watches whether versions drift: once a minute, in a thread, off the way of requests.

    counters of this process -> what is new since the last turn -> rows by hour, of all (app.store.answered)
    the last rows of each version -> indices (app.serving.drift) -> what has begun or ended: row, notification

All processes do that; a change is made in a transaction that is alone, so it is told once.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.clock import utc
from app.jobs import deliveries
from app.serving.drift import HOURS, LEAST, Drift, aligned, index
from app.serving.registry import Registry
from app.store import locks
from app.store.answered import AnsweredHours, Counts, HourRow, Version, hour_of, turn
from app.telemetry.counters import Answers, Counters
from models.card import Card

FORGET_SECONDS = 3600.0
Key = tuple[str, int, tuple[str, ...]]
Source = Literal["test", "first"]


@dataclass(frozen=True)
class Reference:
    """What answers are compared with."""

    counts: Counts
    source: Source


@dataclass(frozen=True)
class State:
    """A version's drift as it was found last; `since` is when it began, if it goes on."""

    drift: Drift | None  # none: too few answers, or nothing to compare with
    reference: Source | None
    since: float | None


class DriftWatch:
    """Of one process. `turn` is called by one thread at a time."""

    def __init__(
        self,
        hours: AnsweredHours,
        counters: Counters,
        registry: Registry,
        threshold: float,
        notify: str | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Whoever is to be told gets it at the URL `notify`."""
        self.hours = hours
        self.threshold = threshold
        self.states: Mapping[Version, State] = {}
        self._counters = counters
        self._registry = registry
        self._notify = notify
        self._clock = clock
        self._told: dict[Key, Counts] = {}
        self._forgot = float("-inf")

    def turn(self) -> None:
        """Write what is new, look at all versions. Raises OperationalError; then the next turn writes it."""
        self.write()
        self._look()
        if time.monotonic() - self._forgot > FORGET_SECONDS:
            self._forgot = time.monotonic()
            self.hours.forget()

    def write(self) -> None:
        """Add what this process has counted since the last time to the row of the hour."""
        now = {key: _counts(key, found) for key, found in list(self._counters.answers.items())}
        new = {key: fresh for key, counts in now.items() if (fresh := _new(counts, self._told.get(key))).images}
        if not new:
            return
        found: dict[Version, Counts] = {}
        for (model, version, _), counts in new.items():
            found[model, version] = found.get((model, version), Counts()).plus(counts)
        unknown = frozenset(version for version in found if self._on_card(version) is None)
        self.hours.add(hour_of(self._clock()), found, unknown)
        self._told |= {key: now[key] for key in new}

    def _look(self) -> None:
        since = hour_of(self._clock()) - HOURS
        rows: dict[Version, list[HourRow]] = {}
        for row in self.hours.since(since + 1):
            rows.setdefault((row.model, row.version), []).append(row)
        before, first = self.hours.drifted(), self.hours.first() if rows else {}
        states: dict[Version, State] = {}
        for version, mine in rows.items():
            reference = self.reference(version, first)
            found = self.measure(mine, reference) if reference else None
            began = before.get(version)
            if found is not None and found.goes_on(began is not None) is not (began is not None):
                self._tell(version, found, began is None)
                began = self._clock() if began is None else None
            states[version] = State(found, reference.source if reference else None, began)
        self.states = states

    def reference(self, version: Version, first: Mapping[Version, Counts]) -> Reference | None:
        """What its card says of the test set, else its first answers, where they are enough."""
        card = self._on_card(version)
        if card is not None:
            return Reference(card, "test")
        return Reference(first[version], "first") if version in first else None

    def _on_card(self, version: Version) -> Counts | None:
        served = self._registry.loaded(*version)
        return None if served is None else expected(served.classifier.card)

    def measure(self, rows: Sequence[HourRow], reference: Reference) -> Drift | None:
        """Of the newest rows that have enough images together; None where there are too few in a day."""
        total, newest = Counts(), rows[-1].hour if rows else 0
        for row in reversed(rows):
            if row.hour <= newest - HOURS:
                break
            total = total.plus(row.counts)
            if total.images >= LEAST:
                labels = index(*aligned(reference.counts.labels, total.labels), self.threshold)
                sure = index(reference.counts.confidence, total.confidence, self.threshold)
                return Drift(total.images, newest - row.hour + 1, labels, sure)
        return None

    def _tell(self, version: Version, found: Drift, begun: bool) -> None:
        with self.hours.database.write(locks.ANSWERED) as connection:
            if turn(connection, version, begun) and self._notify is not None:
                event = "drift.begun" if begun else "drift.ended"
                deliveries.tell(connection, self._notify, event, facts(version, found, self._clock()))


def expected(card: Card) -> Counts | None:
    """What a version answered on its test set."""
    test = card.metrics.get("test")
    if test is None or test.answered is None:
        return None
    return Counts(test.answered.labels, test.answered.confidence)


def facts(version: Version, found: Drift, moment: float) -> dict[str, Any]:
    """What is sent."""
    return {
        "model": version[0],
        "version": version[1],
        "at": utc(moment).isoformat().replace("+00:00", "Z"),
        "images": found.images,
        "hours": found.hours,
        "labels": vars(found.labels),
        "confidence": vars(found.confidence),
    }


def _counts(key: Key, found: Answers) -> Counts:
    labels = {label: number for label, number in zip(key[2], found.labels, strict=True) if number}
    return Counts(labels, list(found.confidence), found.warned)


def _new(now: Counts, before: Counts | None) -> Counts:
    if before is None:
        return now
    labels = {label: number - before.labels.get(label, 0) for label, number in now.labels.items()}
    grown = [new - old for new, old in zip(now.confidence, before.confidence, strict=True)]
    return Counts({k: n for k, n in labels.items() if n}, grown, now.warned - before.warned)
