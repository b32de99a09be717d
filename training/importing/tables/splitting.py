"""Which rows of a table are held out: as given, the newest, or some of each class; equal rows on one side."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.imported import TEST, TRAIN, VALIDATION
from training.errors import DatasetError
from training.importing.splits import group_ids, hold_out, joined
from training.importing.tables.cells import Cells
from training.importing.tables.columns import describe, encode, judge
from training.importing.tables.facts import TableOptions
from training.importing.tables.labels import Labelled


def row_keys(table: NDArray[np.float32]) -> NDArray[np.int64]:
    """Equal rows get equal numbers, by a hash of 64 bits."""
    factors = np.random.default_rng(0).integers(1, 2**63, table.shape[1], np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    keys = np.empty(len(table), np.uint64)
    for start in range(0, len(table), 65_536):
        bits = (
            np.ascontiguousarray(table[start : start + 65_536] + np.float32(0))
            .view(np.uint32)
            .astype(np.uint64)
        )
        bits ^= bits >> np.uint64(15)
        keys[start : start + 65_536] = ((bits + np.uint64(0x9E3779B9)) * factors).sum(1, dtype=np.uint64)
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


def group_rows(
    cells: Cells, special: Mapping[str, str], found: Labelled, duplicates: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Equal rows are one group; so are rows with one value of the group's column."""
    if "group" not in special:
        return duplicates
    values = cells.values(special["group"], found.rows)
    alone = ~values.present[values.codes]
    keys = values.codes.astype(np.int64)
    keys[alone] = len(values.array) + np.arange(int(alone.sum()))
    if values.distinct < 3:
        raise DatasetError(
            f"column {values.name!r} has {values.distinct} values: three splits need three groups at least"
        )
    return joined(duplicates, group_ids(keys.tolist()))


def split_rows(
    cells: Cells, special: Mapping[str, str], found: Labelled, groups: NDArray[np.int64], options: TableOptions
) -> NDArray[np.int64]:
    """Given splits are honoured; missing ones are cut from training: the newest rows, or some of each class."""
    splits = np.maximum(cells.given[found.rows], TRAIN).astype(np.int64)
    when = _times(cells, special["time"], found) if "time" in special else None
    shares = (
        (TEST, options.test_share, options.seed),
        (VALIDATION, options.validation_share, options.seed + 1),
    )
    for split, share, seed in shares:
        if (splits == split).any():
            continue
        rows = np.flatnonzero(splits == TRAIN)
        if when is not None:
            splits[_newest(rows, when, groups if "group" in special else None, share)] = split
        else:
            splits[hold_out(found.labels, groups, rows, share, seed)] = split
    for split in (TRAIN, TEST):
        if not (splits == split).any():
            raise DatasetError(f"no row is left to {'train' if split == TRAIN else 'test'} on: send more rows")
    return splits


def _newest(
    rows: NDArray[np.int64], when: NDArray[np.float64], groups: NDArray[np.int64] | None, share: float
) -> NDArray[np.int64]:
    """About that share of the rows, the last in time; a group belongs where its newest row does."""
    times = when[rows]
    if groups is not None:
        last = np.full(int(groups.max()) + 1, -np.inf)
        np.maximum.at(last, groups[rows], times)
        times = last[groups[rows]]
    order = np.argsort(times, kind="stable")
    first = order[max(1, len(rows) - max(1, round(share * len(rows)))) :]
    begin = times[first[0]]
    chosen = times >= begin  # rows of one moment stay together
    if chosen.all():
        chosen = times > begin
    return rows[chosen]


def _times(cells: Cells, name: str, found: Labelled) -> NDArray[np.float64]:
    """A number that grows with time, of each row; rows without one are the oldest."""
    values = cells.values(name, found.rows)
    role = judge(values, None)
    if role.role not in ("date", "numeric", "id", "boolean") or (role.role == "id" and not role.may_return):
        raise DatasetError(f"column {name!r} holds neither dates nor numbers: it cannot order the rows in time")
    role = replace(role, role="date" if role.role == "date" else "numeric", used=True)
    encoded, _, _ = encode(values, describe(values, role))
    return np.nan_to_num(encoded[:, -1].astype(np.float64), nan=-np.inf)
