"""How good a classifier is on a split, in the form that serves it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.card import Answered, Card, Metrics
from models.classifier import BATCH, Classifier
from models.confidence import counted
from models.inference import InferenceModel
from training.datasets import Split
from training.errors import NotFinite
from training.figures import balanced_accuracy, confusion_matrix, macro_f1, roc_auc, wilson
from training.reliability import scores


@dataclass(frozen=True)
class Evaluation:
    """A classifier's answers on a split: predicted indices [N], and the confusion matrix.

    `confusion[t, p]` counts the images of class t that were classified as p; `logits` and
    `probabilities` are [N, classes]. All tensors are on the CPU.
    """

    metrics: Metrics
    predicted: Tensor
    confusion: Tensor
    logits: Tensor
    probabilities: Tensor


def logits_of(model: InferenceModel | Classifier, split: Split) -> Tensor:
    """On the CPU, [N, classes]; of the images no more than a batch is read at a time."""
    return torch.cat([model.logits(batch.images).cpu() for batch in split.batches(BATCH)])


def evaluate(classifier: Classifier, split: Split) -> Evaluation:
    """Loss (mean cross-entropy, nats), accuracy, accuracy per class and the scores of the
    probabilities before and after the card's temperature, all from one forward pass.

    Raises NotFinite where the model answers with infinities or NaN.
    """
    return metrics_of(classifier.card, logits_of(InferenceModel(classifier), split), split.labels.cpu())


def metrics_of(card: Card, logits: Tensor, labels: Tensor) -> Evaluation:
    """As `evaluate`, of logits [N, classes] that are there already."""
    classes = card.classes
    loss = F.cross_entropy(logits, labels).item()
    if not math.isfinite(loss) or not logits.isfinite().all():
        bad = int((~logits.isfinite()).any(1).sum())
        raise NotFinite(
            f"{card.name} answers {bad:,} of {len(labels):,} inputs with infinities or NaN "
            f"(loss {loss}): its weights are unusable"
        )
    predicted = logits.argmax(1)
    confusion = confusion_matrix(predicted, labels, len(classes))
    correct, seen = confusion.diagonal(), confusion.sum(1)
    temperature = card.temperature
    probabilities = (logits.double() / temperature).softmax(dim=1)
    metrics = Metrics(
        images=len(labels),
        loss=loss,
        accuracy=correct.sum().item() / len(labels),
        per_class={name: (correct[i] / max(int(seen[i]), 1)).item() for i, name in enumerate(classes)},
        interval=wilson(int(correct.sum()), len(labels)),
        balanced_accuracy=balanced_accuracy(confusion),
        macro_f1=macro_f1(confusion),
        auc=roc_auc(probabilities, labels),
        uncalibrated=scores(logits, labels),
        calibrated=scores(logits, labels, temperature) if temperature != 1 else None,
        answered=Answered(
            labels=dict(zip(classes, confusion.sum(0).tolist(), strict=True)),
            confidence=tuple(counted(probabilities.amax(1).tolist())),
        ),
    )
    return Evaluation(metrics, predicted, confusion, logits, probabilities)
