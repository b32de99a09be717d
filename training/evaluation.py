"""How good a classifier is on a split, in the form that serves."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.card import Metrics
from models.classifier import Classifier
from models.inference import InferenceModel
from training.datasets import Split
from training.reliability import scores


@dataclass(frozen=True)
class Evaluation:
    """What a classifier said of a split: predicted indices [N], and the confusion matrix.

    `confusion[t, p]` counts the images of class t that were taken for class p; `logits` and
    `probabilities` are [N, classes], all on the CPU.
    """

    metrics: Metrics
    predicted: Tensor
    confusion: Tensor
    logits: Tensor
    probabilities: Tensor


def evaluate(classifier: Classifier, split: Split) -> Evaluation:
    """Loss (mean cross-entropy, nats), accuracy, accuracy per class and the scores of the
    probabilities before and after the card's temperature, all from one forward pass.
    """
    classes = classifier.card.classes
    logits, labels = InferenceModel(classifier).logits(split.images).cpu(), split.labels.cpu()
    predicted = logits.argmax(1)
    pairs = labels * len(classes) + predicted
    confusion = torch.bincount(pairs, minlength=len(classes) ** 2).reshape(len(classes), -1)
    correct, seen = confusion.diagonal(), confusion.sum(1)
    temperature = classifier.card.temperature
    metrics = Metrics(
        images=len(split),
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=correct.sum().item() / len(split),
        per_class={name: (correct[i] / max(int(seen[i]), 1)).item() for i, name in enumerate(classes)},
        uncalibrated=scores(logits, labels),
        calibrated=scores(logits, labels, temperature) if temperature != 1 else None,
    )
    return Evaluation(metrics, predicted, confusion, logits, classifier.softmax(logits))
