"""The plots of a run: curves, confusion matrix, samples, reliability."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from models.preprocessing.pictures import Pixels, from_planes
from training.datasets import Split
from training.events import Epoch
from training.reliability import Reliability

File = Path | BinaryIO
MOST_CLASSES = 50  # of which every count is written into the confusion matrix
SMALL = (4.6, 3.4)  # inches; text of 10 points stays readable on a phone, 330 pixels wide


def draw_curves(history: Sequence[Epoch], path: Path) -> None:
    """Loss and accuracy over the epochs, on training and validation (or test) images."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _plot_loss(left, history)
    _plot_accuracy(right, history)
    figure.savefig(path, dpi=120)


def draw_loss(history: Sequence[Epoch], file: File) -> None:
    """Loss over the epochs, alone, on a transparent background."""
    figure = Figure(figsize=SMALL, layout="constrained")
    _plot_loss(figure.subplots(), history)
    figure.savefig(file, dpi=160, transparent=True)


def draw_line_loss(losses: Sequence[float], file: File) -> None:
    """Training loss over the epochs on a logarithmic axis, for the recipe that has no other curve."""
    figure = Figure(figsize=SMALL, layout="constrained")
    axes = figure.subplots()
    axes.semilogy(range(1, len(losses) + 1), losses, marker="o")
    axes.set(xlabel="epoch", title="training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=160)


def draw_accuracy(history: Sequence[Epoch], file: File) -> None:
    """Accuracy over the epochs, alone, on a transparent background."""
    figure = Figure(figsize=SMALL, layout="constrained")
    _plot_accuracy(figure.subplots(), history)
    figure.savefig(file, dpi=160, transparent=True)


def draw_reliability(
    before: Reliability, after: Reliability | None, file: File, transparent: bool = False
) -> None:
    """Accuracy over confidence, a point per bin, and how many images are in each bin.

    On the diagonal the probabilities are right; below it the classifier is overconfident.
    """
    figure = Figure(figsize=(SMALL[0], 4.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color="gray", linestyle="--", linewidth=1)
    shown = [(before, "before", "tab:orange", -0.25)]
    if after is not None:
        shown.append((after, "after", "tab:blue", 0.25))
    width = 1 / len(before.count)
    for bins, label, color, shift in shown:
        count, filled = bins.count.numpy(), bins.count.numpy() > 0
        x, y = bins.confidence.numpy()[filled], bins.accuracy.numpy()[filled]
        area = 8 + 14 * np.log10(count[filled])  # a point of few images says little
        upper.plot(x, y, color=color, linewidth=1, alpha=0.6)
        upper.scatter(x, y, s=area, color=color, label=f"{label} (error {bins.error:.2%})", zorder=3)
        middles = (np.arange(len(count)) + 0.5 + shift * (len(shown) - 1)) * width
        lower.bar(middles, count, width=0.9 * width / len(shown), color=color)
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title="Reliability, test split")
    upper.legend(loc="upper left")
    lower.set(xlabel="confidence", ylabel="answers", yscale="log")
    upper.grid(alpha=0.3)
    figure.savefig(file, dpi=160, transparent=transparent)


def draw_confusion(confusion: Tensor, classes: Sequence[str], path: Path) -> None:
    """The confusion matrix [true, predicted], counts written in, mistakes shaded."""
    figure = Figure(figsize=(6.6, 6), layout="constrained")
    axes = figure.subplots()
    mistakes = confusion.clone().fill_diagonal_(0)
    axes.imshow(mistakes.numpy(), cmap="Reds", vmin=0, vmax=max(1, int(mistakes.max())))
    for true, row in enumerate(confusion.tolist() if len(classes) <= MOST_CLASSES else []):
        for predicted, count in enumerate(row):
            shade = "white" if true != predicted and count > 0.6 * int(mistakes.max()) else "black"
            weight = "bold" if true == predicted else "normal"
            axes.text(
                predicted, true, count or "", ha="center", va="center", color=shade, weight=weight, size=8
            )
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix, test split")
    figure.savefig(path, dpi=120)


def draw_samples(split: Split, predicted: Tensor, classes: Sequence[str], path: Path) -> None:
    """24 test images titled true / predicted: the first 16, then 8 of the mistakes (in red)."""
    wrong = (predicted != split.labels).nonzero().flatten()[:8]
    right = torch.tensor([i for i in range(min(len(split), 24)) if i not in wrong])
    shown = torch.cat([right[: 24 - len(wrong)], wrong]).int().tolist()
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    for axes, index in zip(figure.subplots(3, 8).flat, shown, strict=False):
        true, guess = classes[int(split.labels[index])], classes[int(predicted[index])]
        axes.imshow(picture(split, index), cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(f"{true} / {guess}", size=7, color="black" if true == guess else "crimson")
    for axes in figure.axes:
        axes.set_axis_off()
    figure.suptitle("true / predicted", size=9)
    figure.savefig(path, dpi=120)


def picture(split: Split, index: int) -> Pixels:
    """An image of a split, [H, W] or [H, W, 3]."""
    planes = split.images[index].cpu()
    return from_planes(planes.numpy().tobytes(), (planes.shape[0], planes.shape[1], planes.shape[2]))


def _plot_loss(axes: Axes, history: Sequence[Epoch]) -> None:
    watched = history[-1].split
    lines = {"training": [e.train_loss for e in history], watched: [e.loss for e in history]}
    _plot(axes, "loss", [epoch.epoch for epoch in history], lines)


def _plot_accuracy(axes: Axes, history: Sequence[Epoch]) -> None:
    watched = history[-1].split
    lines = {"training": [e.train_accuracy for e in history], watched: [e.accuracy for e in history]}
    _plot(axes, "accuracy", [epoch.epoch for epoch in history], lines)


def _plot(axes: Axes, title: str, epochs: list[int], lines: dict[str, list[float]]) -> None:
    for color, (label, values) in zip(("tab:blue", "tab:orange"), lines.items(), strict=True):
        axes.plot(epochs, values, color=color, marker="o", markersize=3, label=label)
    axes.set(xlabel="epoch", title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
