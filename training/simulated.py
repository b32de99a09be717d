"""What a run simulates to train on, kept in its directory until it has ended."""

import io
from pathlib import Path

import numpy as np
import torch

from models.card import Card
from models.files import write_atomically
from training.datasets import Split
from training.errors import TrainingError
from training.recipes import Config
from training.synthetic.split import synthetic_split, written_split
from training.synthetic.unfamiliar import unfamiliar

PER_SECOND = 150  # pictures that one core simulates
HELD_OUT = 2_000  # simulated pictures at most that tell what is usual


def generated(config: Config, train: Split, classes: int, path: Path) -> Split | None:
    """All that a run adds to its training images; None where it adds nothing.

    It takes minutes to make, so it is kept in `path` for a run that is resumed. What is no digit has the label
    `classes`. Raises TrainingError for a damaged file.
    """
    parts = []
    if not simulated_images(config):
        return None
    if path.exists():
        return _read(path)
    if config.synthetic_images:
        parts.append(synthetic_split(train, config.synthetic_images, config.seed))
    if config.written_images:
        parts.append(written_split(config.written_images, config.seed))
    if config.unfamiliar_images:
        images = unfamiliar(config.unfamiliar_images, config.seed)
        parts.append(Split(images, torch.full((len(images),), classes)))
    found = sum(parts[1:], parts[0])
    _write(path, found)
    return found


def simulated_images(config: Config) -> int:
    """How many pictures are to be made."""
    return config.synthetic_images + config.written_images + config.unfamiliar_images


def held_out(card: Card, validation: Split) -> Split:
    """Validation pictures, and simulated ones of the kinds that the model has learned, if it has."""
    learned = card.training or {}
    if not learned.get("synthetic_images"):
        return validation
    count, seed = min(HELD_OUT, len(validation)), learned["seed"] + 1
    return validation + synthetic_split(validation, count, seed) + written_split(count, seed)


def _write(path: Path, split: Split) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, images=split.images.numpy(), labels=split.labels.numpy())
    write_atomically(path, stream.getvalue())


def _read(path: Path) -> Split:
    try:
        with np.load(path) as file:
            return Split(torch.from_numpy(file["images"]), torch.from_numpy(file["labels"]))
    except Exception as error:  # whatever zip files and numpy's format raise
        raise TrainingError(f"{path} is damaged: delete it, and continue the run") from error
