"""The end of a run on a table: figures on the rows held out and on the test rows, baselines, report, card."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from models import checkpoint
from models.card import Baseline, Card, Metrics
from models.classifier import Classifier
from training import report
from training.calibration import likeliest_temperature
from training.datasets import Split
from training.evaluation import evaluate, metrics_of
from training.events import Listener, Note
from training.protocols import RunState
from training.recipes import Config
from training.tables.baselines import Rows, baselines
from training.tables.columns import recode
from training.tables.dataset import TableDataset

FEW = 200  # rows, of which a temperature is half believed


@dataclass(frozen=True)
class Judged:
    """What networks that have not seen them say of rows: places among the learned rows [N], labels [N],
    probabilities, float64 [N, classes]."""

    index: Tensor
    labels: Tensor
    probabilities: Tensor

    @property
    def logits(self) -> Tensor:
        return self.probabilities.clamp(min=1e-12).log()

    def temperature(self, groups: int) -> float:
        return temperature_of(self.probabilities, self.labels, groups)

    def figures(self, card: Card) -> Metrics:
        return metrics_of(card, self.logits, self.labels).metrics

    def loss(self, start: int, temperature: float) -> float | None:
        """Log loss on those from place `start`, the validation rows; None where there are none."""
        chosen = self.index >= start
        if not chosen.any():
            return None
        return float(torch.nn.functional.cross_entropy(self.logits[chosen] / temperature, self.labels[chosen]))


def temperature_of(probabilities: Tensor, labels: Tensor, groups: int) -> float:
    """The likeliest temperature of probabilities [N, classes], nearer to 1 where rows are few, and where groups
    have answered one by one: all together they are less sure of their mistakes than each alone."""
    found = math.log(likeliest_temperature(probabilities.clamp(min=1e-12).log(), labels))
    return math.exp(found * len(labels) / (len(labels) + FEW) / (2 if groups > 2 else 1))


def finish(
    run: RunState,
    classifier: Classifier,
    dataset: TableDataset,
    judged: Judged,
    notes: Sequence[str],
    cpu_seconds: float,
    on_event: Listener,
    beside: Mapping[Any, Baseline] | None = None,
) -> Card:
    """Evaluate on the test rows, once, and the baselines unless they are known (`beside`).

    Writes report, weights and card (the card last).
    """
    card = classifier.card
    test_split = coded(dataset, card, dataset.test)
    test = evaluate(classifier, test_split)
    beside = dict(beside or _baselines(run.config, card, dataset, judged, test_split))
    found = [
        *_comparison(judged.loss(len(dataset.train), card.temperature), beside),
        *notes,
        *_weights(classifier),
    ]
    on_event(Note(found[0]))
    history = run.history()
    card = card.model_copy(
        update={
            "metrics": {"validation": judged.figures(card), "test": test.metrics},
            "notes": tuple(found),
            "baselines": beside,
            "parameters": sum(tensor.numel() for tensor in classifier.model.parameters()),
            "created": datetime.now(UTC),
            "cpu_seconds": max(cpu_seconds, sum(epoch.cpu_seconds for epoch in history)),
            "search": run.search(),
        }
    )
    report.write(run.files, card, history, replace(dataset, test=test_split), test)
    return checkpoint.save(classifier.model, card, run.directory)


def coded(dataset: TableDataset, card: Card, split: Split) -> Split:
    """A split of the data set as the card's model takes its rows."""
    return replace(split, images=recode(dataset.input, card.table, split.images))


def _baselines(
    config: Config, card: Card, dataset: TableDataset, judged: Judged, test: Split
) -> dict[str, Baseline]:
    """Network and boosting are compared on the same rows: those of the validation split that were held out."""
    compared = judged.index[judged.index >= len(dataset.train)]
    rows = Rows(
        coded(dataset, card, dataset.train),
        dataset.validation and coded(dataset, card, dataset.validation),
        compared - len(dataset.train),
        test,
    )
    return baselines(card.table, len(dataset.classes), rows, config.seed, config.threads)


def _comparison(mine: float | None, beside: dict[str, Baseline]) -> list[str]:
    """One sentence, the first of the report: whether the network pays."""
    best = beside["gradient-boosting"]
    if mine is None or best.validation_nll is None:
        return [f"gradient boosting has a log loss of {best.nll:.4f} on the test rows"]
    figures = f"log loss on validation rows {mine:.4f}, of gradient boosting {best.validation_nll:.4f}"
    if best.validation_nll < mine:
        return [f"gradient boosting is better than this network: {figures}"]
    return [f"this network is better than gradient boosting: {figures}"]


def _weights(classifier: Classifier) -> list[str]:
    weights: list[float] = classifier.model.get_buffer("weights").tolist()
    return [f"weights of the parts: {', '.join(f'{weight:.2f}' for weight in weights)}"] if weights[1:] else []


def evaluated(classifier: Classifier, dataset: TableDataset) -> tuple[TableDataset, Any]:
    """The data set with test rows as the classifier takes them, and the evaluation on them."""
    test = coded(dataset, classifier.card, dataset.test)
    return replace(dataset, test=test), evaluate(classifier, test)
