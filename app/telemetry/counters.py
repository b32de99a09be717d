"""What is counted while requests are answered: plain numbers, which `app.telemetry.metrics` shows."""

import time
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.confidence import BINS, BOUNDS

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LATENCIES = tuple(0.0001 * 1.2**step for step in range(70))  # seconds: 100 us to 29 s, each a fifth more
LATEST = 40  # requests and answers that are remembered


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


class Answers:
    """What one version has answered: images by class, and by how sure it was."""

    __slots__ = ("confidence", "labels", "warned")

    def __init__(self, classes: int) -> None:
        self.labels = [0] * classes
        self.confidence = [0] * BINS
        self.warned = 0  # answers with a warning; what makes an answer doubtful otherwise is counted beside

    def count(self, index: int, probability: float) -> None:
        """An answer: the index of the class, and its probability."""
        self.labels[index] += 1
        self.confidence[bisect_right(BOUNDS, probability)] += 1


class Counters:
    """Of one process since its start."""

    def __init__(self) -> None:
        self.requests: defaultdict[tuple[str, int], int] = defaultdict(int)  # by route and status
        self.seconds = {stage: Histogram(SECONDS) for stage in ("total", "decode", "queue", "forward")}
        self.batches = Histogram(IMAGES)
        self.latencies = Histogram(LATENCIES)  # of predictions
        self.answers: dict[tuple[str, int, tuple[str, ...]], Answers] = {}
        self.failed: defaultdict[tuple[str, int], int] = defaultdict(int)  # requests, by version
        self.problems: defaultdict[tuple[int, str], int] = defaultdict(int)  # by status and title
        self.latest_requests: deque[tuple[float, str, str, int, float, bytes]] = deque(maxlen=LATEST)
        self.latest_answers: deque[tuple[bytes, str, int, str, float]] = deque(maxlen=LATEST)
        self.executions: defaultdict[tuple[str, int], int] = defaultdict(int)  # forward passes, by version
        self.inferences: defaultdict[tuple[str, int], Inferences] = defaultdict(Inferences)  # by version
        self.refused: defaultdict[str, int] = defaultdict(int)  # by reason
        self.decoders_lost: defaultdict[str, int] = defaultdict(int)  # by reason
        self.gone = 0  # images whose client did not wait for the answer

    def answers_of(self, model: str, version: int, classes: tuple[str, ...]) -> Answers:
        """Where the answers of a version are counted."""
        return self.answers.setdefault((model, version, classes), Answers(len(classes)))

    def snapshot(self, waiting_images: int, waiting_bytes: int, lines_dropped: int = 0) -> dict[str, Any]:
        """Everything as JSON can hold it; `lines_dropped` of the log."""
        return {
            "requests": [[*key, number] for key, number in self.requests.items()],
            "seconds": {stage: [found.counts, found.sum] for stage, found in self.seconds.items()},
            "batches": [self.batches.counts, self.batches.sum],
            "latencies": [self.latencies.counts, self.latencies.sum],
            "answers": [
                [*key, found.labels, found.confidence if any(found.confidence) else [], found.warned]
                for key, found in list(self.answers.items())
            ],
            "failed": [[*key, number] for key, number in list(self.failed.items())],
            "problems": [[*key, number] for key, number in list(self.problems.items())],
            "latest_requests": [[*one[:-1], one[-1].decode()] for one in list(self.latest_requests)],
            "latest_answers": [[one[0].decode(), *one[1:]] for one in list(self.latest_answers)],
            "executions": [[*key, number] for key, number in self.executions.items()],
            "inferences": [[*key, found.numbers()] for key, found in self.inferences.items()],
            "refused": dict(self.refused),
            "decoders_lost": dict(self.decoders_lost),
            "gone": self.gone,
            "lines_dropped": lines_dropped,
            "waiting": [waiting_images, waiting_bytes],
        }
