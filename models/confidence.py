"""How sure answers are: the probability of the most probable class, counted in bins.

Trained models are nearly always sure, so the bins are narrow where most answers fall. Training counts the test
set (on the card), the service what it answers: in the same bins, so that the two can be compared.
"""

from bisect import bisect_right
from collections.abc import Iterable

BOUNDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)  # of the bins: below 0.5, 0.5 to 0.6, ..
BINS = len(BOUNDS) + 1


def bin_of(probability: float) -> int:
    """The index of its bin."""
    return bisect_right(BOUNDS, probability)


def counted(probabilities: Iterable[float]) -> list[int]:
    """How many fall into each bin."""
    found = [0] * BINS
    for probability in probabilities:
        found[bin_of(probability)] += 1
    return found
