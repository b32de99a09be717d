"""A sample of the pictures that a version was trained on: it is fine-tuned with them once the data set is gone.

    sample.npz   images uint8 [N, C, H, W], labels int64 [N], splits int8 [N] (0 training, 1 validation, 2 test)

Only of imported data sets: MNIST and Fashion-MNIST cannot be deleted.
"""

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import torch

from models.card import Card
from models.files import write_atomically
from models.imported import TEST, TRAIN, VALIDATION
from training.datasets import Dataset, Split
from training.errors import DatasetError

MOST = {TRAIN: 2_000, VALIDATION: 1_000, TEST: 2_000}  # pictures
MOST_BYTES = 8 << 20  # of all of them


def keep_sample(dataset: Dataset, path: Path, seed: int) -> None:
    """Write a random sample of an imported data set, all of a small one. Raises OSError."""
    if not dataset.imported:
        return
    parts = {TRAIN: dataset.train, VALIDATION: dataset.validation, TEST: dataset.test}
    wanted = {number: min(MOST[number], len(split)) for number, split in parts.items() if split is not None}
    share = min(1.0, MOST_BYTES / (sum(wanted.values()) * math.prod(dataset.shape)))
    draws = torch.Generator().manual_seed(seed)
    images, labels, splits = [], [], []
    for number, count in wanted.items():
        split = parts[number]
        assert split is not None
        drawn = split[torch.randperm(len(split), generator=draws)[: max(1, int(share * count))]]
        images.append(drawn.images.numpy())
        labels.append(drawn.labels.numpy())
        splits.append(np.full(len(drawn), number, np.int8))
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        images=np.concatenate(images),
        labels=np.concatenate(labels),
        splits=np.concatenate(splits),
    )
    write_atomically(path, stream.getvalue(), 0o600)  # they may be people's


def read_sample(path: Path, card: Card) -> Dataset:
    """The sample that was kept with the version of that card. Raises DatasetError."""
    assert card.dataset is not None
    try:
        with np.load(path) as file:
            images, labels, splits = (torch.from_numpy(file[name]) for name in ("images", "labels", "splits"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"the data set {card.dataset.name} is gone, and no sample of it was kept with the version that "
            "serves: upload it again and train by another recipe"
        ) from error
    parts = {number: Split(images[rows], labels[rows]) for number in MOST for rows in [splits == number]}
    return Dataset(
        card.dataset.name,
        parts[TRAIN],
        parts[TEST],
        card.classes,
        card.dataset.digest,
        card.picture.preprocessing,
        card.picture.polarity,
        card.picture.resize,
        parts[VALIDATION] if len(parts[VALIDATION]) else None,
        path.parent,
        is_sample=True,
    )
