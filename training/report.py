"""A run on one page: `report.html`, which asks for nothing from outside itself, and its pictures.

Every picture on the page is a data URL; those with lines come twice, for a light and a dark ground.
"""

import io
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import rc_context
from PIL import Image
from torch import Tensor

from models.card import Card
from models.files import write_atomically
from training import plots
from training.datasets import Dataset, Split
from training.evaluation import Evaluation
from training.events import Epoch
from training.reliability import Reliability, reliability

WORST = 25
GUESSES = 3  # shown of each mistake
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
    """The same picture for a light and for a dark page, as data URLs."""

    light: str
    dark: str


@dataclass(frozen=True)
class ClassRow:
    """How a classifier did on one class; 0..1, and the number of its images."""

    label: str
    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class Mistake:
    """An image, what it is, and what the classifier thought, most probable first."""

    image: str
    position: int
    label: str
    guesses: tuple[tuple[str, float], ...]
    probability: float  # of the true label


@dataclass(frozen=True)
class Timing:
    """What a run took. Seconds of the wall and of the CPU, over all epochs."""

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


def write(directory: Path, card: Card, history: Sequence[Epoch], dataset: Dataset, test: Evaluation) -> Path:
    """Draw the pictures and write the page of a run into its directory; returns the page's path."""
    labels = dataset.test.labels.cpu()
    before = reliability(test.logits.double().softmax(dim=1), labels)
    after = reliability(test.probabilities, labels) if test.metrics.calibrated else None
    plots.draw_curves(history, directory / "curves.png")
    plots.draw_confusion(test.confusion, dataset.classes, directory / "confusion.png")
    plots.draw_samples(dataset.test, test.predicted, dataset.classes, directory / "samples.png")
    plots.draw_reliability(before, after, directory / "reliability.png")
    path = directory / "report.html"
    write_atomically(path, page(card, history, dataset, test, before, after).encode())
    return path


def page(
    card: Card,
    history: Sequence[Epoch],
    dataset: Dataset,
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
        metrics=test.metrics,
        loss=_both(lambda file: plots.draw_loss(history, file)),
        accuracy=_both(lambda file: plots.draw_accuracy(history, file)),
        reliability=_both(lambda file: plots.draw_reliability(before, after, file, transparent=True)),
        confusion=test.confusion.tolist(),
        most_confused=max(1, int(test.confusion.clone().fill_diagonal_(0).max())),
        classes=class_rows(test.confusion, dataset.classes),
        mistakes=worst_mistakes(dataset.test, test, dataset.classes),
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


def worst_mistakes(split: Split, test: Evaluation, classes: Sequence[str]) -> list[Mistake]:
    """The mistakes that gave the truth the least probability, worst first; `WORST` at most."""
    labels = split.labels.cpu()
    truth = test.probabilities.gather(1, labels[:, None]).squeeze(1)
    wrong = (test.predicted != labels).nonzero().flatten()
    worst = wrong[truth[wrong].argsort(stable=True)][:WORST].tolist()
    return [
        Mistake(
            image=_grey_png(split.images[index, 0].cpu()),
            position=index,
            label=classes[int(labels[index])],
            guesses=_guesses(test.probabilities[index], classes),
            probability=truth[index].item(),
        )
        for index in worst
    ]


def timing(card: Card, history: Sequence[Epoch], dataset: Dataset) -> Timing:
    """Summed over the epochs; the images of one are those that were not held out."""
    held_out = card.training["validation_images"] if card.training else 0
    return Timing(
        epochs=len(history),
        seconds=sum(epoch.seconds for epoch in history),
        cpu_seconds=sum(epoch.cpu_seconds for epoch in history),
        images=len(dataset.train) - held_out,
    )


def _guesses(probabilities: Tensor, classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    best = probabilities.topk(min(GUESSES, len(classes)))
    return tuple((classes[i], p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True))


def _both(draw: Callable[[BinaryIO], None]) -> Picture:
    def drawn(colors: Colors) -> str:
        file = io.BytesIO()
        with rc_context(colors):
            draw(file)
        return _data_url(file.getvalue())

    return Picture(light=drawn(_LIGHT), dark=drawn(_DARK))


def _grey_png(pixels: Tensor) -> str:
    """Grey pixels, uint8 [H, W], as a data URL."""
    file = io.BytesIO()
    Image.fromarray(pixels.to(torch.uint8).numpy()).save(file, "PNG")
    return _data_url(file.getvalue())


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"
