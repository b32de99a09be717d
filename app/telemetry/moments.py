"""The numbers of all processes added up, and what happened between two such sums.

What `app.telemetry.metrics` hands to Prometheus as it grows, the live view shows as rates and quantiles.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.telemetry.counters import IMAGES, LATENCIES, SECONDS
from models.confidence import BINS

Version = tuple[str, int]
_NONE = [0] * BINS


@dataclass(frozen=True)
class Answered:
    """What a version has answered: images by class and by confidence, answers with a warning, and requests
    that failed."""

    labels: Mapping[str, int]
    confidence: Sequence[int]
    warned: int
    failed: int

    @property
    def count(self) -> int:
        return sum(self.confidence)


@dataclass(frozen=True)
class Totals:
    """Everything that grows, of all processes, since the service started."""

    requests: int
    latencies: Sequence[int]
    waits: Sequence[int]
    batches: Sequence[int]
    problems: Mapping[tuple[int, str], int]
    refused: Mapping[str, int]
    answered: Mapping[Version, Answered] = field(default_factory=dict)

    @property
    def images(self) -> int:
        return sum(one.count for one in self.answered.values())


@dataclass(frozen=True)
class Moment:
    """What happened between two sums; seconds, and None where nothing did."""

    requests_per_second: float
    images_per_second: float
    p50: float | None
    p99: float | None
    wait_p99: float | None
    batches: Mapping[str, int]  # by the images that they had at most


def totals(snapshots: Sequence[Mapping[str, Any]]) -> Totals:
    """The sum of what processes have saved."""
    problems: Counter[tuple[int, str]] = Counter()
    refused: Counter[str] = Counter()
    for snapshot in snapshots:
        problems.update({(status, title): number for status, title, number in snapshot["problems"]})
        refused.update(snapshot["refused"])
    return Totals(
        requests=sum(number for snapshot in snapshots for *_, number in snapshot["requests"]),
        latencies=_added(snapshot["latencies"][0] for snapshot in snapshots),
        waits=_added(snapshot["seconds"]["queue"][0] for snapshot in snapshots),
        batches=_added(snapshot["batches"][0] for snapshot in snapshots),
        problems=problems,
        refused=refused,
        answered=_answered(snapshots),
    )


def _answered(snapshots: Sequence[Mapping[str, Any]]) -> dict[Version, Answered]:
    labels: dict[Version, Counter[str]] = {}
    confidence: dict[Version, list[Sequence[int]]] = {}
    warned: Counter[Version] = Counter()
    failed: Counter[Version] = Counter()
    for snapshot in snapshots:
        for model, version, classes, numbers, bins, warnings in snapshot["answers"]:
            key = (model, version)
            if not bins:  # it has answered nothing
                continue
            labels.setdefault(key, Counter()).update(dict(zip(classes, numbers, strict=True)))
            confidence.setdefault(key, []).append(bins)
            warned[key] += warnings
        for model, version, number in snapshot["failed"]:
            failed[model, version] += number
    return {
        key: Answered(labels.get(key, {}), _added(confidence.get(key, [_NONE])), warned[key], failed[key])
        for key in {**labels, **failed}
    }


def between(before: Totals, now: Totals, seconds: float) -> Moment:
    """What happened in so many seconds."""
    latencies = _grown(before.latencies, now.latencies)
    grown = _grown(before.batches, now.batches)
    sizes = (*map(str, IMAGES), "more")
    return Moment(
        requests_per_second=max(0, now.requests - before.requests) / seconds,
        images_per_second=max(0, now.images - before.images) / seconds,
        p50=quantile(LATENCIES, latencies, 0.5),
        p99=quantile(LATENCIES, latencies, 0.99),
        wait_p99=quantile(SECONDS, _grown(before.waits, now.waits), 0.99),
        batches={size: number for size, number in zip(sizes, grown, strict=True) if number},
    )


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """About the value below which that share of the observations lies: even spread within a bin is assumed.

    None without observations; the last bound where it lies above all.
    """
    total = sum(counts)
    if not total:
        return None
    left, low = share * total, 0.0
    for bound, number in zip(bounds, counts, strict=False):
        if number and left <= number:
            return low + (bound - low) * left / number
        left -= number
        low = bound
    return bounds[-1]


def _added(lists: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*lists, strict=True)]


def _grown(before: Sequence[int], now: Sequence[int]) -> list[int]:
    return [max(0, new - old) for old, new in zip(before, now, strict=True)]
