"""Rows whose labels people corrected, as a run reads them (`training.corrections` has the file).

They are as the version that serves has encoded them, and join the training rows only.
"""

import base64
import json
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch

from models import card
from models.card import read_card
from models.classifier import Classifier
from models.errors import ModelError
from models.tables import TableInput
from training.corrections import MOST, SHARE
from training.datasets import Split
from training.tables.columns import recode
from training.tables.dataset import TableDataset


@dataclass(frozen=True)
class CorrectedRows:
    """Corrected rows whose label is a class of the data set, encoded as its rows are; at least one."""

    split: Split
    before: Path

    @classmethod
    def read(cls, path: Path, dataset: TableDataset) -> "CorrectedRows | None":
        """None where there is no file, or nothing in it for this data set."""
        if not path.exists():
            return None
        body = json.loads(path.read_bytes())
        if not body["before"]:
            return None
        before = Path(body["before"])
        try:
            spec = read_card(before.with_suffix(".json")).input
        except ModelError:  # deleted in the meantime
            return None
        if not isinstance(spec, TableInput) or not _alike(spec, dataset.input):
            return None
        pixels = base64.b64decode(body["pixels"])
        sizes = body.get("sizes") or [spec.width * 4] * len(body["labels"])
        ends = list(accumulate(sizes))
        known = [
            i
            for i, label in enumerate(body["labels"])
            if label in dataset.classes and sizes[i] == spec.width * 4
        ]
        if not known:
            return None
        cells = b"".join(pixels[ends[i] - sizes[i] : ends[i]] for i in known)
        rows = torch.from_numpy(np.frombuffer(cells, np.float32).reshape(len(known), spec.width).copy())
        labels = torch.tensor([dataset.classes.index(body["labels"][i]) for i in known])
        return cls(Split(recode(spec, dataset.input, rows), labels), before)

    def repeated(self, rows: int) -> Split:
        """As often as a training split of so many rows needs."""
        times = min(MOST, max(1, round(SHARE * rows / len(self.split))))
        return self.split[torch.arange(len(self.split)).repeat(times)]

    def outcome(self, dataset: TableDataset, after: Classifier) -> card.Corrections:
        """How many of them the previous version got right, and how many the new one gets right."""
        try:
            before = self._right(dataset, Classifier.load(self.before, after.device))
        except ModelError:
            before = None
        return card.Corrections(
            used=len(self.split), right_before=before, right_after=self._right(dataset, after)
        )

    def _right(self, dataset: TableDataset, classifier: Classifier) -> int:
        rows = recode(dataset.input, classifier.card.table, self.split.images)
        names = [classifier.card.classes[i] for i in classifier.logits(rows).argmax(1).tolist()]
        return sum(
            name == dataset.classes[label]
            for name, label in zip(names, self.split.labels.tolist(), strict=True)
        )


def _alike(one: TableInput, other: TableInput) -> bool:
    """Whether both have the same columns, perhaps with other categories."""
    return [(column.name, column.role) for column in one.columns] == [
        (column.name, column.role) for column in other.columns
    ]
