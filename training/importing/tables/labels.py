"""The classes of a table's rows."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.errors import DatasetError
from training.importing.tables import target
from training.importing.tables.cells import Cells
from training.importing.tables.columns import Values
from training.importing.tables.facts import TableOptions


@dataclass(frozen=True)
class Labelled:
    """The rows that have a class that is wanted."""

    rows: NDArray[np.int64]  # among all
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    similar: tuple[tuple[str, ...], ...]
    without: int  # rows that have no class


def read_labels(cells: Cells, wanted: str, options: TableOptions) -> Labelled:
    values = cells.values(wanted, strip=False)
    missing = target.is_missing(values)
    target.check(_with_missing(values, missing), options)
    labels = [text for text, none in zip(values.texts, missing, strict=True) if not none]
    alike = target.similar([label[: target.LABEL] for label in labels])
    merged: dict[str, str] = {}
    if options.merge_similar:
        frequent = dict(zip(values.texts, values.counts.tolist(), strict=True))
        for same in alike:
            best = max(same, key=lambda label: frequent.get(label, 0)).strip()
            merged |= dict.fromkeys(same, best)
    names = [target.renamed(text, options, merged) for text in values.texts]
    dropped = np.array([name in options.drop for name in names], bool)
    kept = ~missing & ~dropped
    classes = tuple(sorted({name for name, keep in zip(names, kept, strict=True) if keep}))
    if len(classes) < 2:
        raise DatasetError("fewer than two classes are left: drop or merge fewer")
    number = {label: i for i, label in enumerate(classes)}
    of_value = np.array([number.get(name, 0) for name in names], np.int64)
    rows = np.flatnonzero(kept[values.codes])
    left = target.similar(classes)
    return Labelled(rows, of_value[values.codes[rows]], classes, tuple(left), int(missing[values.codes].sum()))


def _with_missing(values: Values, missing: NDArray[np.bool_]) -> Values:
    """The values of a target, where `None` and `-` may be classes."""
    found = replace(values)
    found.__dict__["present"] = (values.counts > 0) & ~missing
    return found
