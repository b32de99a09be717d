"""A table that was imported, as training reads it."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.imported import TEST, TRAIN, VALIDATION, open_table, read_rows
from models.tables import TableInput
from training.datasets import IMPORTED, Split
from training.errors import DatasetError
from training.importing.dataset import PROFILE, TableProfile


@dataclass(frozen=True)
class TableDataset:
    """The splits of a table, and what a card says of them. `input` has the categories of all rows.

    The `images` of a split are encoded rows (`models.tables`), float32 [N, width], NaN where a cell is missing.
    `groups` [N] are those of `learned`: rows of one group stay on one side.
    """

    name: str
    input: TableInput
    classes: tuple[str, ...]
    digest: str
    train: Split
    test: Split
    groups: Tensor
    validation: Split | None = None
    validation_given: bool = False
    imported = True

    @property
    def learned(self) -> Split:
        """The training rows, and those of the validation split after them."""
        return self.train if self.validation is None else self.train + self.validation


def table_directory(name: str, datasets_dir: Path | None) -> Path | None:
    """Where a data set of one's own lies, if it is a table; of a damaged one nobody knows."""
    version = IMPORTED.fullmatch(name)
    if version is None or datasets_dir is None:
        return None
    directory = datasets_dir / version[1] / version[2]
    try:
        kind = json.loads((directory / PROFILE).read_bytes()).get("kind")
    except (OSError, ValueError, AttributeError):
        return None
    return directory if kind == "table" else None


def load_table(directory: Path, name: str) -> TableDataset:
    """The table in a directory that `training.importing` wrote. Raises DatasetError."""
    try:
        profile = TableProfile.model_validate_json((directory / PROFILE).read_bytes())
        rows: NDArray[np.float32] = open_table(directory)
        labels, splits, groups = read_rows(directory)
        if rows.shape != (len(labels), profile.input.width) or not len(splits) == len(labels) == len(groups):
            raise ValueError("rows, labels and splits do not belong together")
        if rows.dtype != np.float32 or not len(profile.classes) > int(labels.max(initial=0)):
            raise ValueError("it holds other rows or classes than its profile says")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DatasetError(
            f"data set {name!r} is not in {directory}, or is damaged ({why}): import it again"
        ) from error

    def split(number: int) -> Split:
        chosen = (splits == number).nonzero()[0]
        return Split(torch.from_numpy(rows[chosen]), torch.from_numpy(labels[chosen]).long())

    train, validation, test = (split(number) for number in (TRAIN, VALIDATION, TEST))
    if not len(train) or not len(test):
        raise DatasetError(f"data set {name!r} has no rows to {'test' if len(train) else 'train'} on: add some")
    learned = np.concatenate([(splits == number).nonzero()[0] for number in (TRAIN, VALIDATION)])
    return TableDataset(
        name,
        profile.input,
        profile.classes,
        profile.digest,
        train,
        test,
        torch.from_numpy(groups[learned]).long(),
        validation if len(validation) else None,
        # rows in the order of time: none is learned from that is newer than those that are held out
        "validation" in profile.given_splits or getattr(profile.options, "time", None) is not None,
    )
