"""Which of the ways to cut a line of writing into digits is read: the cheapest path by shape and classifier.

A picture is cut into more pieces than it has digits, and what is between any two cuts near each other is a
candidate. The classifier gives each a probability; a number is the path from a line's first cut to its last
that costs least, in nats. Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to
document recognition" (1998), section V: heuristic over-segmentation.

Imports neither torch nor numpy: decoders and the event loop use it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Reading = Literal["digit", "number"]  # what a picture is asked for
MAX_DIGITS = 64  # of a picture
MAX_CANDIDATES = 512  # of a picture, in one batch of the model
MAX_LINES = 64
MAX_COSTS = 4 * MAX_CANDIDATES

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may be one digit: the pieces `start` to `end` (excluded) of a line."""

    line: int
    start: int
    end: int
    box: Box  # in the picture's pixels
    cost: float  # of its shape: how far this is from what a digit looks like, nats


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of a picture, and their pixels, one after the other."""

    pixels: bytes
    found: tuple[Candidate, ...]
    skips: tuple[tuple[float, ...], ...]  # of each line, of each piece: the cost of calling it no digit
    more: bool = False  # whether there is more in the picture than is looked at

    def __len__(self) -> int:
        return len(self.found)

    def pixels_of(self, candidate: int) -> bytes:
        """Those of one candidate."""
        size = len(self.pixels) // len(self.found)
        return self.pixels[candidate * size : (candidate + 1) * size]

    def checked(self) -> "Candidates":
        """These, if they are within the bounds and stay within their lines. Raises ValueError."""
        costs = [cost for line in self.skips for cost in line] + [one.cost for one in self.found]
        if not 0 < len(self.found) <= MAX_CANDIDATES or len(costs) > MAX_COSTS or any(map(math.isnan, costs)):
            raise ValueError("more candidates than there may be, or costs that are no numbers")
        for one in self.found:
            if one.line >= len(self.skips) or not one.start < one.end <= len(self.skips[one.line]):
                raise ValueError("a candidate beyond its line")
        return self


@dataclass(frozen=True, slots=True)
class Digit:
    """A candidate that is read."""

    candidate: int  # its place among the candidates
    line: int  # in reading order, from 0
    index: int  # its class
    probability: float
    box: Box


def choose(candidates: Candidates, rows: Sequence[Sequence[float]], classes: int) -> list[Digit]:
    """The digits in reading order, by the classifier's answer to each candidate: probabilities of so many
    `classes` and, of a model that has one, the logit of a background."""
    costs = [_cost(one, row, classes) for one, row in zip(candidates.found, rows, strict=True)]
    digits: list[Digit] = []
    lines = 0
    for line, skips in enumerate(candidates.skips):
        chosen = _cheapest(candidates, costs, line, skips)
        digits += [_digit(candidates, rows[at][:classes], at, lines) for at in chosen]
        lines += bool(chosen)
    return digits


def _digit(candidates: Candidates, probabilities: Sequence[float], at: int, line: int) -> Digit:
    probability = max(probabilities)
    return Digit(at, line, list(probabilities).index(probability), probability, candidates.found[at].box)


def _cheapest(candidates: Candidates, costs: Sequence[float], line: int, skips: Sequence[float]) -> list[int]:
    """The candidates on the cheapest path through a line."""
    best = [0.0] + [math.inf] * len(skips)
    via: list[tuple[int, int]] = [(-1, -1)] * (len(skips) + 1)  # from where, by which candidate (-1: skipped)
    steps: list[list[tuple[int, int]]] = [[] for _ in skips]
    for at, one in enumerate(candidates.found):
        if one.line == line:
            steps[one.start].append((one.end, at))
    for start, skip in enumerate(skips):
        options = [(start + 1, -1, skip), *((end, at, costs[at]) for end, at in steps[start])]
        for end, at, cost in options:
            if best[start] + cost < best[end]:
                best[end], via[end] = best[start] + cost, (start, at)
    return _walked(via)


def _walked(via: Sequence[tuple[int, int]]) -> list[int]:
    chosen, end = [], len(via) - 1
    while end > 0:
        end, at = via[end]
        if at >= 0:
            chosen.append(at)
    return chosen[::-1]


def _cost(one: Candidate, row: Sequence[float], classes: int) -> float:
    """Of its shape, of its being no digit, and of its being another one."""
    cost = one.cost - math.log(max(*row[:classes], 1e-9))
    for background in row[classes:]:  # softplus: minus the logarithm of the probability that it is a digit
        cost += max(background, 0) + math.log1p(math.exp(-abs(background)))
    return cost
