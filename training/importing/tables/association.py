"""How much a column tells of the target, and how its values lie in each class."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.tables import Column
from training.importing.tables.columns import Values
from training.importing.tables.facts import Histogram

BINS = 10  # of a histogram
CLASSES = 8  # that a histogram tells apart
_MOST = 64  # fields that a column is cut into for its association


def fields(values: Values, column: Column | None, encoded: NDArray[np.float32] | None) -> NDArray[np.int64]:
    """A small number for each row: of numbers and dates by quantiles, else by value; 0: missing."""
    if column is not None and encoded is not None and column.role in ("numeric", "date"):
        numbers = encoded[:, -1].astype(np.float64)
        there = ~np.isnan(numbers)
        cuts = np.linspace(0, 1, _MOST + 1)[1:-1]
        edges = np.unique(np.quantile(numbers[there], cuts)) if there.any() else np.empty(0)
        return np.where(there, 1 + np.searchsorted(edges, numbers, side="left"), 0)
    rank = np.zeros(len(values.array), np.int64)
    rank[values.order] = np.minimum(1 + np.arange(len(values.order)), _MOST)
    return rank[values.codes]


def association(found: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Mutual information by the target's entropy, 0..1, less what chance would give (Miller and Madow)."""
    if not len(found):
        return 0.0
    joint = np.zeros((int(found.max()) + 1, int(labels.max()) + 1))
    np.add.at(joint, (found, labels), 1)
    joint = joint[joint.sum(1) > 0][:, joint.sum(0) > 0]
    share = joint / joint.sum()
    entropy = -_sum_p_log_p(share.sum(0))
    if entropy <= 0:
        return 0.0
    told = _sum_p_log_p(share) - _sum_p_log_p(share.sum(1)) + entropy
    chance = (joint.shape[0] - 1) * (joint.shape[1] - 1) / (2 * joint.sum())
    return round(float(np.clip((told - chance) / (entropy - min(chance, 0.5 * entropy)), 0, 1)), 4)


def _sum_p_log_p(shares: NDArray[np.float64]) -> float:
    there = shares[shares > 0]
    return float((there * np.log(there)).sum())


def histogram(
    values: Values,
    column: Column | None,
    encoded: NDArray[np.float32] | None,
    labels: NDArray[np.int64],
    classes: Sequence[str],
) -> Histogram | None:
    """Rows of each class in each bin; rows without a value are in none. None where nothing can be drawn."""
    if column is None or encoded is None:
        return None
    if column.role in ("numeric", "date"):
        bins, places = _of_numbers(encoded[:, -1 if column.role == "date" else 0], column)
    else:
        shown = values.order[:BINS]
        bins = [values.array[int(i)].as_py()[:40] for i in shown]
        place = np.full(len(values.array), -1)
        place[shown] = np.arange(len(shown))
        if len(values.order) > BINS:
            place[values.order[BINS:]] = BINS
            bins.append("other")
        places = place[values.codes]
    if not bins:
        return None
    there = places >= 0
    counts = np.zeros((len(classes), len(bins)), np.int64)
    np.add.at(counts, (labels[there], places[there]), 1)
    largest = np.argsort(-np.bincount(labels, minlength=len(classes)), kind="stable")
    shown = np.sort(largest[:CLASSES])
    others = largest[CLASSES:]
    return Histogram(
        bins=tuple(bins),
        counts={classes[i]: tuple(counts[i].tolist()) for i in shown},
        others=tuple(counts[others].sum(0).tolist()) if len(others) else None,
    )


def _of_numbers(numbers: NDArray[np.float32], column: Column) -> tuple[list[str], NDArray[np.int64]]:
    """Bins of equal width between the 1st and 99th percentile; what lies outside is in the first or last."""
    there = ~np.isnan(numbers)
    if not there.any():
        return [], np.empty(0, np.int64)
    present = numbers[there].astype(np.float64)
    different = np.unique(present[:100_000])
    if len(different) <= BINS and np.isin(present, different).all():
        places = np.where(there, np.searchsorted(different, numbers), -1)
        return [_shown(value, column) for value in different], places
    low, high = np.quantile(present, [0.01, 0.99])
    if low == high:
        low, high = present.min(), present.max()
    edges = np.linspace(low, high, BINS + 1)
    places = np.where(there, np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, BINS - 1), -1)
    ends = pairwise(edges.tolist())
    return [f"{_shown(a, column)} to {_shown(b, column)}" for a, b in ends], places


def _shown(value: float, column: Column) -> str:
    if column.role == "date":
        return str(np.datetime64(round(value), "D"))
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.6g}"
