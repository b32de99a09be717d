"""`GET /metrics` for Prometheus, right with any number of worker processes.

Each process counts in plain numbers (`app.telemetry.counters`) and writes them to its own file once a second;
the process that is asked adds up the files. Those of processes that have ended are kept: a counter never falls
while the service runs. `prometheus_client` only writes the format: its own counters, shared by processes,
cost more than ten times as much per request (`benchmarks/counting.py`).
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import Any

from app.telemetry.counters import IMAGES, SECONDS

DIRECTORY = "MINIST_METRICS_DIRECTORY"  # set for the workers by the process that starts them
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SILENCE_SECONDS = 10  # without a new file, after which a process is taken for gone
Snapshot = Mapping[str, Any]


class Processes:
    """The numbers of all processes of this service; `mine` are this one's."""

    def __init__(self, directory: Path | None, mine: Callable[[], Snapshot]) -> None:
        self.directory = directory
        self._mine = mine
        self._name = token_hex(8)  # a pid is given again, and a counter must not fall
        self._saving = Lock()

    def save(self) -> Snapshot:
        """Write this process's numbers for the others, at least once a second; what was written."""
        with self._saving:
            mine = self._mine()
            if self.directory is not None:
                self.directory.mkdir(parents=True, exist_ok=True)
                temporary = self.directory / f".{self._name}"
                temporary.write_text(json.dumps(mine))
                temporary.replace(self.directory / f"{self._name}.json")
            return mine

    def all(self) -> list[Snapshot]:
        """This process's numbers now, the others' of at most a second ago; gauges only of those that live.

        What is shown is saved first: were this process killed, the next page would be behind this one.
        """
        found = [self.save()]
        for path in sorted(self.directory.glob("*.json")) if self.directory else ():
            if path.stem != self._name:
                snapshot = json.loads(path.read_text())
                found.append(snapshot if _is_alive(path) else {**snapshot, "waiting": [0, 0], "process": None})
        return found


def _is_alive(path: Path) -> bool:
    """Whether a process still writes its file: Windows has no way to ask for a pid without harm."""
    return time.time() - path.stat().st_mtime < SILENCE_SECONDS


def exposition(
    snapshots: Sequence[Snapshot],
    jobs: Mapping[str, int],
    accuracies: Mapping[tuple[str, int], float],
    degraded: Sequence[tuple[str, int]],
    training_workers: int,
    deliveries: Mapping[str, int] | None = None,
    drifts: Mapping[tuple[str, int], tuple[float, float, bool]] | None = None,
) -> bytes:
    """The page: `snapshots` added up, jobs by status, test accuracy by model and served version, the names
    whose version cannot be loaded, deliveries of the ends of jobs by state, and by version its indices of
    classes and of confidence and whether it has drifted."""
    from prometheus_client.core import CollectorRegistry
    from prometheus_client.exposition import generate_latest

    class All:
        def collect(self) -> Iterator[Any]:
            yield from _requests(snapshots)
            yield from _predictions(snapshots)
            yield from _gauges(snapshots, jobs, accuracies)
            yield _degraded(degraded)
            yield _training_workers(training_workers)
            yield _deliveries(deliveries or {})
            yield from _drifts(drifts or {})

    registry = CollectorRegistry()
    registry.register(All())
    return generate_latest(registry)


def _requests(snapshots: Sequence[Snapshot]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    requests = CounterMetricFamily("minist_requests", "Requests answered.", labels=("route", "status"))
    added: Counter[tuple[str, int]] = Counter()
    for snapshot in snapshots:
        for route, status, number in snapshot["requests"]:
            added[route, status] += number
    for (route, status), number in added.items():
        requests.add_metric((route, str(status)), number)
    yield requests

    seconds = HistogramMetricFamily(
        "minist_seconds",
        "Seconds of a request in all, decoding, waiting, and of a forward pass.",
        labels=("stage",),
    )
    for stage in snapshots[0]["seconds"]:
        buckets, total = _histogram(SECONDS, [snapshot["seconds"][stage] for snapshot in snapshots])
        seconds.add_metric((stage,), buckets, total)
    yield seconds

    batches = HistogramMetricFamily("minist_batch_images", "Images of a forward pass.")
    batches.add_metric((), *_histogram(IMAGES, [snapshot["batches"] for snapshot in snapshots]))
    yield batches

    refused = CounterMetricFamily("minist_refused", "Requests refused under load.", labels=("reason",))
    reasons: Counter[str] = Counter()
    for snapshot in snapshots:
        reasons.update(snapshot["refused"])
    for reason, number in reasons.items():
        refused.add_metric((reason,), number)
    yield refused
    lost = CounterMetricFamily("minist_decoders_lost", "Decoders that were replaced.", labels=("reason",))
    reasons = Counter()
    for snapshot in snapshots:
        reasons.update(snapshot["decoders_lost"])
    for reason, number in reasons.items():
        lost.add_metric((reason,), number)
    yield lost
    gone, dropped = (sum(snapshot[name] for snapshot in snapshots) for name in ("gone", "lines_dropped"))
    yield CounterMetricFamily("minist_gone_images", "Images whose client did not wait.", value=gone)
    yield CounterMetricFamily("minist_log_lines_dropped", "Lines of the log that nothing took.", value=dropped)


def _histogram(
    bounds: Sequence[float], found: list[tuple[list[int], float]]
) -> tuple[list[tuple[str, float]], float]:
    """Prometheus' buckets, each with all that fell below it, and the sum."""
    below = 0
    buckets: list[tuple[str, float]] = []
    for index, bound in enumerate([*map(str, bounds), "+Inf"]):
        below += sum(counts[index] for counts, _ in found)
        buckets.append((bound, below))
    return buckets, sum(total for _, total in found)


def _predictions(snapshots: Sequence[Snapshot]) -> Iterator[Any]:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(
        "minist_predictions", "Images by what they were taken for.", labels=("model", "version", "label")
    )
    added: Counter[tuple[str, str, str]] = Counter()
    for snapshot in snapshots:
        for model, version, classes, numbers, *_ in snapshot["answers"]:
            for label, number in zip(classes, numbers, strict=True):
                added[model, str(version), label] += number
    for labels, number in added.items():
        if number:
            family.add_metric(labels, number)
    yield family


def _degraded(degraded: Sequence[tuple[str, int]]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(
        "minist_degraded", "Models whose version cannot be loaded: 1 each.", labels=("model", "version")
    )
    for name, version in degraded:
        family.add_metric((name, str(version)), 1)
    return family


def _training_workers(number: int) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily("minist_training_workers", "Processes that take training jobs.", value=number)


def _deliveries(deliveries: Mapping[str, int]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily("minist_deliveries", "Notifications that jobs have ended.", labels=("state",))
    for state, number in deliveries.items():
        family.add_metric((state,), number)
    return family


def _drifts(found: Mapping[tuple[str, int], tuple[float, float, bool]]) -> Iterator[Any]:
    from prometheus_client.core import GaugeMetricFamily

    psi = GaugeMetricFamily(
        "minist_drift_psi",
        "Population stability index of what a version answers, against its test set.",
        labels=("model", "version", "of"),
    )
    drifted = GaugeMetricFamily(
        "minist_drifted", "Whether a version has drifted (MINIST_DRIFT_PSI).", labels=("model", "version")
    )
    for (model, version), (labels, confidence, is_drift) in found.items():
        psi.add_metric((model, str(version), "labels"), labels)
        psi.add_metric((model, str(version), "confidence"), confidence)
        drifted.add_metric((model, str(version)), is_drift)
    yield psi
    yield drifted


def _gauges(
    snapshots: Sequence[Snapshot], jobs: Mapping[str, int], accuracies: Mapping[tuple[str, int], float]
) -> Iterator[Any]:
    from prometheus_client.core import GaugeMetricFamily

    images, size = (sum(snapshot["waiting"][index] for snapshot in snapshots) for index in (0, 1))
    yield GaugeMetricFamily("minist_waiting_images", "Images that wait for a forward pass.", value=images)
    yield GaugeMetricFamily("minist_waiting_bytes", "Bytes of request bodies being worked on.", value=size)
    by_status = GaugeMetricFamily("minist_jobs", "Training jobs.", labels=("status",))
    for status, number in jobs.items():
        by_status.add_metric((status,), number)
    yield by_status
    accuracy = GaugeMetricFamily(
        "minist_accuracy", "Test accuracy of the version that is served, 0..1.", labels=("model", "version")
    )
    for (model, version), value in accuracies.items():
        accuracy.add_metric((model, str(version)), value)
    yield accuracy
