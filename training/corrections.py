"""Pictures whose labels people corrected, as a run reads them: `corrections.json` in its directory.

    labels   the right class of each        pixels   base64 of uint8, a picture [C, H, W] after the other
    sizes    bytes of each (where that is missing, they are pictures of the data set's shape)
    before   weights file of the version that has served so far, or null
    versions the version that answered to each
    weights  weights files of these versions, where they are left

They join the training split only; what is held out is unchanged. Each is repeated, so that a few of them
count among tens of thousands.
"""

import base64
import json
import math
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch

from models import card
from models.classifier import Classifier
from models.errors import ModelError
from training.datasets import Dataset, Split
from training.evaluation import evaluate

SHARE = 0.02  # of the training images: what all corrections together are repeated up to
MOST = 50  # repetitions of one correction: a single wrong label must not spoil a model


@dataclass(frozen=True)
class Corrections:
    """Corrected pictures whose label is a class of the data set; at least one."""

    split: Split
    before: Path | None

    @classmethod
    def read(cls, path: Path, dataset: Dataset) -> "Corrections | None":
        """The corrections in that file; None where there is no file, or nothing in it for this data set."""
        if not path.exists():
            return None
        body = json.loads(path.read_bytes())
        pixels = base64.b64decode(body["pixels"])
        size = math.prod(dataset.shape)
        sizes = body.get("sizes") or [size] * len(body["labels"])
        ends = list(accumulate(sizes))
        # a picture of another size was seen by a version that takes other pictures
        known = [i for i, label in enumerate(body["labels"]) if label in dataset.classes and sizes[i] == size]
        if not known:
            return None
        labels = torch.tensor([dataset.classes.index(body["labels"][i]) for i in known])
        chosen = bytearray().join(pixels[ends[i] - size : ends[i]] for i in known)
        images = torch.frombuffer(chosen, dtype=torch.uint8).view(-1, *dataset.shape)
        return cls(Split(images, labels), Path(body["before"]) if body["before"] else None)

    def repeated(self, images: int) -> Split:
        """The corrections, repeated as often as a training split of `images` images needs."""
        times = min(MOST, max(1, round(SHARE * images / len(self.split))))
        return self.split[torch.arange(len(self.split)).repeat(times)]

    def outcome(self, after: Classifier, test: Split | None = None) -> card.Corrections:
        """How many of them the previous version got right, and how many the new one gets right.

        With `test`, also how accurate the previous one is on these images.
        """
        before = self._previous(after.device)
        return card.Corrections(
            used=len(self.split),
            right_before=self._right(before) if before else None,
            right_after=self._right(after),
            test_accuracy_before=evaluate(before, test).metrics.accuracy if before and test else None,
        )

    def _previous(self, device: torch.device) -> Classifier | None:
        if self.before is None:
            return None
        try:
            return Classifier.load(self.before, device)
        except ModelError:  # deleted in the meantime
            return None

    def _right(self, classifier: Classifier) -> int:
        return int(evaluate(classifier, self.split).confusion.diagonal().sum())
