"""What is counted while requests are answered: plain numbers, which `app.telemetry.metrics` shows."""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """How many observations fell below each bound, and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class Times:
    """Of one request, in seconds, as the batcher measures them: until its first batch begins, and the forward
    passes of all batches that it has a part in."""

    queue: float = 0.0
    forward: float = 0.0


class Inferences:
    """Requests of the Open Inference Protocol to one version of a model; times in nanoseconds."""

    __slots__ = ("fail", "infer", "input", "last", "output", "queue", "success")

    def __init__(self) -> None:
        self.success, self.fail = [0, 0], [0, 0]  # how many, and their time
        self.input = self.queue = self.infer = self.output = 0  # of those that succeeded
        self.last = 0  # milliseconds since the epoch

    def succeeded(self, taken: int, read: int, times: Times) -> None:
        """Of the time that it took, reading the tensors took `read`."""
        self.success[0] += 1
        self.success[1] += taken
        self.input += read
        self.queue += int(times.queue * 1e9)
        self.infer += int(times.forward * 1e9)
        self.last = time.time_ns() // 1_000_000

    def failed(self, taken: int) -> None:
        self.fail[0] += 1
        self.fail[1] += taken

    def written(self, taken: int) -> None:
        self.output += taken

    def numbers(self) -> list[int]:
        """As `INFERENCES` calls them."""
        return [*self.success, *self.fail, self.input, self.queue, self.infer, self.output, self.last]


INFERENCES = (
    *("success", "success_ns", "fail", "fail_ns"),
    *("input_ns", "queue_ns", "infer_ns", "output_ns", "last_ms"),
)


class Counters:
    """Of one process since its start."""

    def __init__(self) -> None:
        self.requests: defaultdict[tuple[str, int], int] = defaultdict(int)  # by route and status
        self.seconds = {stage: Histogram(SECONDS) for stage in ("total", "decode", "queue", "forward")}
        self.batches = Histogram(IMAGES)
        self.predictions: dict[tuple[str, int, tuple[str, ...]], list[int]] = {}
        self.executions: defaultdict[tuple[str, int], int] = defaultdict(int)  # forward passes, by version
        self.inferences: defaultdict[tuple[str, int], Inferences] = defaultdict(Inferences)  # by version
        self.refused: defaultdict[str, int] = defaultdict(int)  # by reason
        self.decoders_lost: defaultdict[str, int] = defaultdict(int)  # by reason
        self.gone = 0  # images whose client did not wait for the answer

    def labels_of(self, model: str, version: int, classes: tuple[str, ...]) -> list[int]:
        """The list in which the predictions of a version are counted, by the index of their class."""
        return self.predictions.setdefault((model, version, classes), [0] * len(classes))

    def snapshot(self, waiting_images: int, waiting_bytes: int, lines_dropped: int = 0) -> dict[str, Any]:
        """Everything as JSON can hold it; `lines_dropped` of the log."""
        return {
            "requests": [[*key, number] for key, number in self.requests.items()],
            "seconds": {stage: [found.counts, found.sum] for stage, found in self.seconds.items()},
            "batches": [self.batches.counts, self.batches.sum],
            "predictions": [[*key, numbers] for key, numbers in self.predictions.items()],
            "executions": [[*key, number] for key, number in self.executions.items()],
            "inferences": [[*key, found.numbers()] for key, found in self.inferences.items()],
            "refused": dict(self.refused),
            "decoders_lost": dict(self.decoders_lost),
            "gone": self.gone,
            "lines_dropped": lines_dropped,
            "waiting": [waiting_images, waiting_bytes],
        }
