"""Figures of a classifier beside its accuracy: interval, balanced accuracy, F1, area under the ROC curve."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.card import Baseline

Z = 1.959964  # standard deviations on each side of a 95 % interval
MOST_CLASSES = 100  # of which areas are computed: each takes a sort


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, "Probable inference", 1927)."""
    share, z2 = right / count, Z * Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def balanced_accuracy(confusion: Tensor) -> float:
    """The mean recall of the classes that occur; confusion[true, predicted]."""
    seen = confusion.sum(1).double()
    return (confusion.diagonal().double()[seen > 0] / seen[seen > 0]).mean().item()


def macro_f1(confusion: Tensor) -> float:
    """The mean F1 of the classes that occur or are predicted."""
    total = (confusion.sum(0) + confusion.sum(1)).double()
    return (2 * confusion.diagonal().double()[total > 0] / total[total > 0]).mean().item()


def roc_auc(probabilities: Tensor, labels: Tensor) -> float | None:
    """The area under the ROC curve of each class against the rest, on average; of two classes, the one area.

    None where a class does not occur, or alone, or there are more than `MOST_CLASSES`.
    """
    scores, truth = probabilities.numpy(), labels.numpy()
    count = scores.shape[1]
    if count > MOST_CLASSES or not 0 < np.bincount(truth, minlength=count).min() < len(truth):
        return None
    areas = [_area(scores[:, c], truth == c) for c in ([1] if count == 2 else range(count))]
    return float(np.mean(areas))


def _area(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Mann and Whitney's U over its largest value; equal scores share their ranks."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse]
    number = int(positive.sum())
    above = ranks[positive].sum() - number * (number + 1) / 2
    return float(above / (number * (len(scores) - number)))


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """[t, p] counts the images of class t that were classified as p."""
    return torch.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, -1)


def baseline(probabilities: Tensor, labels: Tensor) -> Baseline:
    """The figures of probabilities [N, classes] that no network made."""
    confusion = confusion_matrix(probabilities.argmax(1), labels, probabilities.shape[1])
    return Baseline(
        accuracy=confusion.diagonal().sum().item() / len(labels),
        balanced_accuracy=balanced_accuracy(confusion),
        macro_f1=macro_f1(confusion),
        auc=roc_auc(probabilities, labels),
        nll=F.nll_loss(probabilities.clamp(min=1e-12).log(), labels).item(),
    )
