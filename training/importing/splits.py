"""Which pictures are held out: stratified by class, groups (duplicates, patients) on one side."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def hold_out(
    labels: NDArray[np.int64], groups: NDArray[np.int64], rows: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.int64]:
    """Some of `rows` (indices): about `share` of each class, at least one where it has two groups or more.

    `labels` and `groups` are of all rows. A group stays whole and counts for its first label.
    """
    random = np.random.default_rng(seed)
    chosen: list[NDArray[np.int64]] = []
    # every group once, at its first row
    order = rows[np.argsort(groups[rows], kind="stable")]
    firsts, starts = np.unique(groups[order], return_index=True)
    if len(firsts) == len(order):
        return _of_single_rows(labels, order, share, random)
    members = np.split(order, starts[1:]) if len(firsts) else []
    by_class: dict[int, list[NDArray[np.int64]]] = {}
    for group in members:
        by_class.setdefault(int(labels[group[0]]), []).append(group)
    for label in sorted(by_class):
        found = by_class[label]
        if len(found) < 2:
            continue
        wanted = max(1, round(share * sum(len(group) for group in found)))
        taken = 0
        for index in random.permutation(len(found))[: len(found) - 1]:  # one group stays to train on
            if taken >= wanted:
                break
            # a large group that would overshoot by more than it helps is passed over
            if taken and taken + len(found[index]) > 1.5 * wanted:
                continue
            chosen.append(found[index])
            taken += len(found[index])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


def _of_single_rows(
    labels: NDArray[np.int64], rows: NDArray[np.int64], share: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """The same where no two rows share a group, without a loop over rows."""
    chosen = []
    of_row = labels[rows]
    for label in np.unique(of_row):
        found = rows[of_row == label]
        if len(found) >= 2:
            order = random.permutation(len(found))[: len(found) - 1]
            chosen.append(found[order[: max(1, round(share * len(found)))]])
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)


def group_ids(keys: Sequence[object]) -> NDArray[np.int64]:
    """Equal keys get equal numbers."""
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)


def joined(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows that share a group in `a` or in `b`, directly or by others, get one number."""
    found = a.copy()
    while True:
        before = found.copy()
        for keys in (a, b):
            least = np.full(int(keys.max()) + 1, len(found), np.int64)
            np.minimum.at(least, keys, found)
            found = least[keys]
        if np.array_equal(before, found):
            return found
