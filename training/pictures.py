"""The three pictures that people expect of a run."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from training.datasets import Split
from training.events import Epoch


def draw_curves(history: Sequence[Epoch], path: Path) -> None:
    """Loss and accuracy over the epochs, training against what was watched."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    watched = history[-1].split
    _plot(
        left, "loss", epochs, {"training": [e.train_loss for e in history], watched: [e.loss for e in history]}
    )
    accuracies = {"training": [e.train_accuracy for e in history], watched: [e.accuracy for e in history]}
    _plot(right, "accuracy", epochs, accuracies)
    figure.savefig(path, dpi=120)


def draw_confusion(confusion: Tensor, classes: Sequence[str], path: Path) -> None:
    """The confusion matrix [true, predicted], counts written in, mistakes shaded."""
    figure = Figure(figsize=(6.6, 6), layout="constrained")
    axes = figure.subplots()
    mistakes = confusion.clone().fill_diagonal_(0)
    axes.imshow(mistakes.numpy(), cmap="Reds", vmin=0, vmax=max(1, int(mistakes.max())))
    for true, row in enumerate(confusion.tolist()):
        for predicted, count in enumerate(row):
            shade = "white" if true != predicted and count > 0.6 * int(mistakes.max()) else "black"
            weight = "bold" if true == predicted else "normal"
            axes.text(
                predicted, true, count or "", ha="center", va="center", color=shade, weight=weight, size=8
            )
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix, test images")
    figure.savefig(path, dpi=120)


def draw_samples(split: Split, predicted: Tensor, classes: Sequence[str], path: Path) -> None:
    """24 test images titled true / predicted: the first 16, then 8 of the mistakes (in red)."""
    wrong = (predicted != split.labels).nonzero().flatten()[:8]
    right = torch.tensor([i for i in range(min(len(split), 24)) if i not in wrong])
    shown = torch.cat([right[: 24 - len(wrong)], wrong]).int().tolist()
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    for axes, index in zip(figure.subplots(3, 8).flat, shown, strict=False):
        true, guess = classes[int(split.labels[index])], classes[int(predicted[index])]
        axes.imshow(split.images[index, 0].numpy(), cmap="gray_r")
        axes.set_title(f"{true} / {guess}", size=7, color="black" if true == guess else "crimson")
    for axes in figure.axes:
        axes.set_axis_off()
    figure.suptitle("true / predicted", size=9)
    figure.savefig(path, dpi=120)


def _plot(axes: Axes, title: str, epochs: list[int], lines: dict[str, list[float]]) -> None:
    for color, (label, values) in zip(("tab:blue", "tab:orange"), lines.items(), strict=True):
        axes.plot(epochs, values, color=color, marker="o", markersize=3, label=label)
    axes.set(xlabel="epoch", title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
