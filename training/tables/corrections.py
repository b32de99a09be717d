"""Rows whose labels people corrected, as a run reads them (`training.corrections` has the file).

Each is as the version that answered has encoded it, so it is read by that version's card. They join the
training rows only.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import card
from models.card import read_card
from models.classifier import Classifier
from models.errors import ModelError
from models.tables import TableInput
from training.corrections import MOST, SHARE
from training.datasets import Split
from training.tables.columns import alike, recode
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
        found = list(_decoded(body, dataset))
        if not found:
            return None
        rows, labels = zip(*found, strict=True)
        return cls(Split(torch.cat(rows), torch.tensor(labels)), Path(body["before"]))

    def repeated(self, rows: int) -> Split:
        """As often as a training split of so many rows needs."""
        times = min(MOST, max(1, round(SHARE * rows / len(self.split))))
        return self.split[torch.arange(len(self.split)).repeat(times)]

    def outcome(self, dataset: TableDataset, after: Classifier) -> card.Corrections:
        """How many of them the previous version got right, and how many the new one gets right."""
        return card.Corrections(
            used=len(self.split),
            right_before=self._right_before(dataset, after.device),
            right_after=self._right(dataset, after),
        )

    def _right_before(self, dataset: TableDataset, device: torch.device) -> int | None:
        """None where that version was deleted in the meantime, or takes another table."""
        try:
            before = Classifier.load(self.before, device)
        except ModelError:
            return None
        taken = before.card.input
        return (
            self._right(dataset, before)
            if isinstance(taken, TableInput) and alike(taken, dataset.input)
            else None
        )

    def _right(self, dataset: TableDataset, classifier: Classifier) -> int:
        rows = recode(dataset.input, classifier.card.table, self.split.images)
        names = [classifier.card.classes[i] for i in classifier.logits(rows).argmax(1).tolist()]
        return sum(
            name == dataset.classes[label]
            for name, label in zip(names, self.split.labels.tolist(), strict=True)
        )


def _decoded(body: Mapping[str, Any], dataset: TableDataset) -> Iterator[tuple[Tensor, int]]:
    """Rows, [1, width], as the data set encodes them, and their classes; those of other tables are left out."""
    cells, sizes = base64.b64decode(body["pixels"]), body["sizes"]
    specs = _Specs(body)
    for label, end, size, version in zip(
        body["labels"], accumulate(sizes), sizes, body["versions"], strict=True
    ):
        spec = specs.of(version)
        known = spec is not None and label in dataset.classes and size == spec.width * 4
        if spec is not None and known and alike(spec, dataset.input):
            row = torch.from_numpy(np.frombuffer(cells[end - size : end], np.float32).copy())
            yield recode(spec, dataset.input, row[None]), dataset.classes.index(label)


class _Specs:
    """What each version takes; of one that was deleted nobody knows how it has encoded its rows."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body
        self._known: dict[str, TableInput | None] = {}

    def of(self, version: int) -> TableInput | None:
        weights = self._body["weights"].get(str(version))
        if weights is None:
            return None
        if weights not in self._known:
            try:
                spec = read_card(Path(weights).with_suffix(".json")).input
            except ModelError:
                spec = None
            self._known[weights] = spec if isinstance(spec, TableInput) else None
        return self._known[weights]
