"""What counting a request costs: plain numbers against prometheus_client's, for one and for several processes.

`python -m benchmarks.counting` prints microseconds per request, medians of interleaved rounds.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from app.telemetry.counters import SECONDS, Counters

REQUESTS = 20_000
ROUNDS = 15


def ours() -> Callable[[], None]:
    counts = Counters()

    def request() -> None:
        counts.requests["/predict", 200] += 1
        for stage in ("total", "decode", "queue", "forward"):
            counts.seconds[stage].observe(0.0012)
        counts.batches.observe(7)

    return request


def theirs() -> Callable[[], None]:
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    requests = Counter("requests", "-", ["route", "status"], registry=registry)
    seconds = Histogram("seconds", "-", ["stage"], buckets=SECONDS, registry=registry)
    stages = [seconds.labels(stage) for stage in ("total", "decode", "queue", "forward")]
    batches = Histogram("batches", "-", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), registry=registry)

    def request() -> None:
        requests.labels("/predict", "200").inc()
        for stage in stages:
            stage.observe(0.0012)
        batches.observe(7)

    return request


def measure(request: Callable[[], None]) -> float:
    """Microseconds of one call."""
    begun = time.perf_counter()
    for _ in range(REQUESTS):
        request()
    return (time.perf_counter() - begun) / REQUESTS * 1e6


def main() -> None:
    requests = {"ours": ours(), "prometheus_client": theirs()}
    found: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(ROUNDS):
        for name, request in requests.items():
            found[name].append(measure(request))
    for name, micros in found.items():
        print(f"{name}: {statistics.median(micros):.2f} us (from {min(micros):.2f} to {max(micros):.2f})")


if __name__ == "__main__":
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        print("one process:", flush=True)
        main()
        with tempfile.TemporaryDirectory() as directory:  # read when prometheus_client is imported
            print("numbers shared by several processes:", flush=True)
            environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": directory}
            subprocess.run([sys.executable, "-m", "benchmarks.counting"], env=environment, check=True)
    else:
        main()
