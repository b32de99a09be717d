"""What is reached without a network: always the largest class, and logistic regression on pixels."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.card import Baseline
from training.datasets import Dataset, Split
from training.figures import baseline

ROWS = 4_000  # training images that the regression sees at most
SIDE = 24  # pixels along the longer side, to which they are scaled down
BATCH = 512
PENALTY = 0.01  # scikit-learn's C, on standardised pixels


def baselines(dataset: Dataset) -> dict[str, Baseline]:
    """On the test split."""
    labels, classes = dataset.test.labels, len(dataset.classes)
    counts = torch.bincount(dataset.train.labels, minlength=classes).double()
    always = torch.zeros(len(labels), classes, dtype=torch.float64)
    always[:, counts.argmax()] = 1
    prior = (counts + 1) / (counts.sum() + classes)
    majority = baseline(always, labels).model_copy(
        update={"nll": -prior.log()[labels].mean().item(), "auc": 0.5}  # with shares for probabilities
    )
    return {"majority": majority, "logistic-regression": baseline(regression(dataset), labels)}


def regression(dataset: Dataset) -> Tensor:
    """Probabilities of the test images, float64 [N, classes], by a regression on some training images."""
    from sklearn.linear_model import LogisticRegression

    rows = torch.linspace(0, len(dataset.train) - 1, min(ROWS, len(dataset.train))).round().long()
    pixels, labels = _pixels(dataset.train[rows]), dataset.train.labels[rows].numpy()
    probabilities = torch.zeros(len(dataset.test), len(dataset.classes), dtype=torch.float64)
    if len(np.unique(labels)) < 2:
        probabilities[:, int(labels[0])] = 1
        return probabilities
    mean, std = pixels.mean(0), pixels.std(0) + 0.01
    model = LogisticRegression(C=PENALTY, max_iter=100, random_state=0).fit((pixels - mean) / std, labels)
    found = model.predict_proba((_pixels(dataset.test) - mean) / std)
    probabilities[:, torch.from_numpy(model.classes_)] = torch.from_numpy(found).double()
    return probabilities


def _pixels(split: Split) -> NDArray[np.float32]:
    """Rows of pixels 0..1, scaled down."""
    parts = []
    for batch in split.batches(BATCH):
        images = batch.images.float() / 255
        longer = max(images.shape[2:])
        if longer > SIDE:
            size = [max(1, round(side * SIDE / longer)) for side in images.shape[2:]]
            images = F.interpolate(images, size=size, mode="area")
        parts.append(images.flatten(1).numpy())
    return np.concatenate(parts)
