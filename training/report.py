"""A run on one page: `report.html`, which needs no other file, and the pictures of the run.

Every picture on the page is a data URL; plots come twice, for a light and a dark background.
"""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import rc_context
from torch import Tensor

from models.card import Card
from models.files import write_atomically
from models.preprocessing.decode import png
from models.preprocessing.png import data_url
from models.tables import TableInput
from training import plots
from training.datasets import Dataset, Split
from training.directory import RunDirectory
from training.evaluation import Evaluation
from training.events import Epoch
from training.reliability import Reliability, reliability
from training.tables.dataset import TableDataset

WORST = 25
CELLS = 12  # of a row, shown with a mistake
GUESSES = 3  # classes shown with each mistake
Colors = dict[Any, str]  # matplotlib types the keys as a literal of all its parameters
_LIGHT: Colors = {"text.color": "#1c1f24", "axes.edgecolor": "#6b7280"}
_DARK: Colors = {
    "text.color": "#e5e7eb",
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": "#e5e7eb",
    "xtick.color": "#e5e7eb",
    "ytick.color": "#e5e7eb",
    "legend.facecolor": "#22262c",
}


@dataclass(frozen=True)
class Picture:
    """The same plot for a light and for a dark page, as data URLs."""

    light: str
    dark: str


@dataclass(frozen=True)
class ClassRow:
    """The results on one class, 0..1, and the number of its images."""

    label: str
    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class Mistake:
    """A wrongly classified image: its label, and the most probable classes, best first."""

    image: str | None  # of a row, its cells instead
    cells: tuple[tuple[str, str], ...]
    position: int
    label: str
    guesses: tuple[tuple[str, float], ...]
    probability: float  # of the true label


@dataclass(frozen=True)
class Timing:
    """How long a run took: wall-clock and CPU seconds over all epochs."""

    epochs: int
    seconds: float
    cpu_seconds: float
    images: int  # per epoch

    @property
    def seconds_per_epoch(self) -> float:
        return self.seconds / self.epochs

    @property
    def images_per_second(self) -> float:
        return self.images * self.epochs / self.seconds


def write(
    files: RunDirectory, card: Card, history: Sequence[Epoch], dataset: Dataset | TableDataset, test: Evaluation
) -> Path:
    """Draw the pictures and write the page of a run into its directory; returns the page's path."""
    labels = dataset.test.labels.cpu()
    before = reliability(test.logits.double().softmax(dim=1), labels)
    after = reliability(test.probabilities, labels) if test.metrics.calibrated else None
    plots.draw_curves(history, files.picture("curves"))
    plots.draw_confusion(test.confusion, dataset.classes, files.picture("confusion"))
    if isinstance(dataset, Dataset):
        plots.draw_samples(dataset.test, test.predicted, dataset.classes, files.picture("samples"))
    plots.draw_reliability(before, after, files.picture("reliability"))
    write_atomically(files.report, page(card, history, dataset, test, before, after).encode())
    return files.report


def page(
    card: Card,
    history: Sequence[Epoch],
    dataset: Dataset | TableDataset,
    test: Evaluation,
    before: Reliability,
    after: Reliability | None,
) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        card=card,
        dataset=dataset.name,
        own_rows=[(name.replace("-", " "), row, row.nll) for name, row in card.baselines.items()],
        most_classes=plots.MOST_CLASSES,
        metrics=test.metrics,
        loss=_both(lambda file: plots.draw_loss(history, file)),
        accuracy=_both(lambda file: plots.draw_accuracy(history, file)),
        reliability=_both(lambda file: plots.draw_reliability(before, after, file, transparent=True)),
        confusion=test.confusion.tolist(),
        most_confused=max(1, int(test.confusion.clone().fill_diagonal_(0).max())),
        classes=class_rows(test.confusion, dataset.classes),
        mistakes=worst_mistakes(card, dataset.test, test),
        unit="rows" if isinstance(card.input, TableInput) else "images",
        wrong=test.metrics.images - int(test.confusion.diagonal().sum()),
        timing=timing(card, history, dataset),
        history=history,
    )


def class_rows(confusion: Tensor, classes: Sequence[str]) -> list[ClassRow]:
    """Precision, recall and F1 of each class, from confusion[true, predicted]."""
    right = confusion.diagonal().double()
    taken, seen = confusion.sum(0), confusion.sum(1)
    precision, recall = right / taken.clamp(min=1), right / seen.clamp(min=1)
    f1 = 2 * right / (taken + seen).clamp(min=1)
    rows = zip(classes, precision.tolist(), recall.tolist(), f1.tolist(), seen.tolist(), strict=True)
    return [ClassRow(*row) for row in rows]


def worst_mistakes(card: Card, split: Split, test: Evaluation) -> list[Mistake]:
    """The mistakes with the least probability for the true class, worst first; `WORST` at most."""
    labels, classes = split.labels.cpu(), card.classes
    truth = test.probabilities.gather(1, labels[:, None]).squeeze(1)
    wrong = (test.predicted != labels).nonzero().flatten()
    worst = wrong[truth[wrong].argsort(stable=True)][:WORST].tolist()
    return [
        Mistake(
            image=None if isinstance(card.input, TableInput) else data_url(png(plots.picture(split, index))),
            cells=cells_of(card.input, split.images[index]) if isinstance(card.input, TableInput) else (),
            position=index,
            label=classes[int(labels[index])],
            guesses=_guesses(test.probabilities[index], classes),
            probability=truth[index].item(),
        )
        for index in worst
    ]


def cells_of(spec: TableInput, row: Tensor) -> tuple[tuple[str, str], ...]:
    """Names and cells of a row that `spec` has encoded, the first of them."""
    found = []
    for column, start in list(zip(spec.columns, spec.starts, strict=True))[:CELLS]:
        value = float(row[start])
        if math.isnan(value):
            text = "missing"
        elif column.role == "date":
            text = "-".join(f"{int(part):02}" for part in row[start : start + 3].tolist())
        elif column.role == "numeric":
            text = f"{value:.6g}"
        else:
            text = column.categories[int(value)] if value < len(column.categories) else "other"
        found.append((column.name, text))
    return tuple(found)


def timing(card: Card, history: Sequence[Epoch], dataset: Dataset | TableDataset) -> Timing:
    """Sums over the epochs; an epoch has the images that were not held out."""
    held_out = card.training["validation_images"] if card.training and not dataset.imported else 0
    return Timing(
        epochs=len(history),
        seconds=sum(epoch.seconds for epoch in history),
        cpu_seconds=sum(epoch.cpu_seconds for epoch in history),
        images=len(dataset.learned if isinstance(dataset, TableDataset) else dataset.train) - held_out,
    )


def _guesses(probabilities: Tensor, classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    best = probabilities.topk(min(GUESSES, len(classes)))
    return tuple((classes[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True))


def _both(draw: Callable[[BinaryIO], None]) -> Picture:
    def drawn(colors: Colors) -> str:
        file = io.BytesIO()
        with rc_context(colors):
            draw(file)
        return data_url(file.getvalue())

    return Picture(light=drawn(_LIGHT), dark=drawn(_DARK))
