"""Whether what a version answers has drifted away from what it answered on its test set.

Population stability index of two distributions over the same bins: the sum of (a - e) ln(a / e), which is the
symmetrised Kullback-Leibler divergence. Samples of the same distribution do not give 0: their index is about a
chi square with bins - 1 degrees of freedom, times 1/n + 1/m (Yurdakul 2018, "Statistical properties of
population stability index"). What chance explains is allowed on top of the threshold, so that few answers raise
no alarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

LEAST = 200  # images that are compared
HOURS = 24  # in which they came
CALM = 0.8  # of the limit: below it a drift has ended
_Z99 = 2.326  # of a normal distribution, above which 1 % lies


@dataclass(frozen=True)
class Index:
    """A population stability index, and above which value it is a drift."""

    psi: float
    limit: float


@dataclass(frozen=True)
class Drift:
    """How far answers are from what was expected; `hours` is how long they took to come."""

    images: int
    hours: int
    labels: Index
    confidence: Index

    @property
    def parts(self) -> tuple[Index, Index]:
        return self.labels, self.confidence

    def goes_on(self, before: bool) -> bool:
        """Whether it is one, where there was one before or not."""
        return any(part.psi > part.limit * (CALM if before else 1) for part in self.parts)


def psi(expected: Sequence[int], found: Sequence[int]) -> float:
    """Of two lists of counts; half an observation more in each bin, so that empty ones are no infinity."""
    total_e, total_f = sum(expected) + len(expected) / 2, sum(found) + len(found) / 2
    total = 0.0
    for e, f in zip(expected, found, strict=True):
        share_e, share_f = (e + 0.5) / total_e, (f + 0.5) / total_f
        total += (share_f - share_e) * log(share_f / share_e)
    return total


def chance(bins: int, expected: int, found: int) -> float:
    """The index that two samples of the same distribution exceed in 1 of 100 cases, about (the quantile of chi
    square by Wilson and Hilferty 1931)."""
    degrees = max(1, bins - 1)
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + _Z99 * spread**0.5) ** 3 * (1 / expected + 1 / found)


def index(expected: Sequence[int], found: Sequence[int], threshold: float) -> Index:
    """Of bins that both or one of them has observations in; both have some."""
    used = [(e, f) for e, f in zip(expected, found, strict=True) if e or f]
    some, others = [e for e, _ in used], [f for _, f in used]
    limit = threshold + chance(len(used), sum(some), sum(others))
    return Index(round(psi(some, others), 5), round(limit, 5))


def aligned(expected: Mapping[str, int], found: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """The counts of both by the same classes."""
    names = [*dict.fromkeys((*expected, *found))]
    return [expected.get(name, 0) for name in names], [found.get(name, 0) for name in names]
