"""How well probabilities match frequencies: three scores, and accuracy against confidence in bins.

Of the images classified with 80 % confidence, 80 % should be right. This can be measured only up to a
limit: with 10,000 images and 15 bins, a perfectly calibrated classifier of 92 % accuracy still shows an
expected calibration error of 0.5 % (0.4 to 0.7), from sampling alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.card import Scores

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Predictions binned by confidence: bin m holds those in (m / bins, (m + 1) / bins].

    `count`, mean `confidence` and `accuracy` of each bin, float64 [bins]; 0 where a bin is empty.
    """

    count: Tensor
    confidence: Tensor
    accuracy: Tensor

    @property
    def error(self) -> float:
        """Expected calibration error: the mean of |accuracy - confidence|, weighted by count."""
        gaps = (self.accuracy - self.confidence).abs() * self.count
        return gaps.sum().item() / max(self.count.sum().item(), 1)


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Accuracy against confidence; probabilities [N, classes], labels [N]."""
    confidence, predicted = probabilities.double().max(dim=1)
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    count = torch.bincount(index, minlength=bins).double()

    def mean(values: Tensor) -> Tensor:
        return torch.bincount(index, weights=values, minlength=bins) / count.clamp(min=1)

    return Reliability(count, mean(confidence), mean((predicted == labels).double()))


def scores(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Scores:
    """Negative log-likelihood (nats), Brier score and expected calibration error; logits [N, classes]."""
    scaled = logits.double() / temperature
    probabilities = scaled.softmax(dim=1)
    return Scores(
        nll=F.cross_entropy(scaled, labels).item(),
        brier=brier(probabilities, labels).item(),
        ece=reliability(probabilities, labels).error,
    )


def brier(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Mean squared distance of the probabilities [N, classes] to the one-hot labels [N], summed over classes:
    0 (perfect) to 2. It can be differentiated. Source: Brier, "Verification of forecasts expressed in terms of
    probability" (1950).
    """
    return (probabilities - F.one_hot(labels, probabilities.shape[1])).square().sum(dim=1).mean()
