"""The columns of a table as its training rows show them: categories, ranges; and folds of rows."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.tables import Column, TableInput

RARE = 2  # rows, below which a category of a column with many is left to `other`
MANY = 20  # categories


def fit_columns(spec: TableInput, rows: Tensor) -> TableInput:
    """The columns as these training rows show them: the categories that occur, the most frequent first, and the
    range of numbers. Nothing else is looked at: a category of other rows alone is `other`.
    """
    columns = []
    for column, start in zip(spec.columns, spec.starts, strict=True):
        cells = rows[:, start + column.width - 1]  # of a date, days
        cells = cells[~cells.isnan()]
        if column.categories:
            columns.append(_fit_categories(column, cells))
        elif column.role in ("numeric", "date"):
            low, high = (float(end) for end in cells.aminmax()) if len(cells) else (None, None)
            columns.append(column.model_copy(update={"minimum": low, "maximum": high}))
        else:
            columns.append(column)
    return spec.model_copy(update={"columns": tuple(columns)})


def _fit_categories(column: Column, cells: Tensor) -> Column:
    counts = torch.bincount(_codes(column, cells), minlength=len(column.categories) + 1)
    least = RARE if len(column.categories) > MANY else 1
    kept = [code for code in range(len(column.categories)) if counts[code] >= least]
    kept.sort(key=lambda code: -int(counts[code]))
    categories = tuple(column.categories[code] for code in kept)
    example = column.example if str(column.example) in categories or not categories else categories[0]
    return column.model_copy(update={"categories": categories, "example": example})


def _codes(column: Column, cells: Tensor) -> Tensor:
    return cells.nan_to_num(0).long().clamp(0, len(column.categories))


def alike(one: TableInput, other: TableInput) -> bool:
    """Whether both have the same columns, perhaps with other categories."""
    return [(column.name, column.role) for column in one.columns] == [
        (column.name, column.role) for column in other.columns
    ]


def recode(source: TableInput, target: TableInput, rows: Tensor) -> Tensor:
    """Rows that `source` has encoded, as `target` encodes them: both have the same columns, and perhaps other
    categories."""
    found = rows.clone()
    for old, new, start in zip(source.columns, target.columns, source.starts, strict=True):
        if old.role in ("categorical", "boolean"):
            known: dict[str | None, int] = {name: code for code, name in enumerate(new.categories)}
            table = torch.tensor([known.get(category, len(known)) for category in (*old.categories, None)])
            cells = rows[:, start]
            found[:, start] = torch.where(cells.isnan(), cells, table[_codes(old, cells)].float())
    return found


def folds(labels: NDArray[np.int64], groups: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """A fold 0..count-1 for each row, stratified by label; rows of one group are in one fold."""
    random = np.random.default_rng(seed)
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    of_group = labels[first]
    order = random.permutation(len(first))
    order = order[np.argsort(of_group[order], kind="stable")]
    numbers = np.empty(len(first), np.int64)
    numbers[order] = (np.arange(len(first)) + random.integers(count)) % count
    return numbers[inverse]
