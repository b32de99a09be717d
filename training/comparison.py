"""Small-image or transfer: both are trained on the training pictures, and validation pictures tell.

How many pictures there are does not tell by itself: of 50 animals a class, features of photographs know more
than a network learns from them alone; of 50 traffic signs they may know less.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.tensors import normalise
from training.choice import LITE0, SMALL
from training.datasets import Dataset, Split
from training.directory import RunDirectory
from training.errors import DatasetError
from training.events import Event
from training.loop import Trainer
from training.recipes import Config
from training.transfer import HeadTrainer

BATCH = 256


def compare(
    files: RunDirectory, dataset: Dataset, small: Config, transfer: Config, device: torch.device
) -> tuple[str, str]:
    """The architecture with more validation pictures right, and why; small-image where they have as many.

    Features stay in the run's directory, where training finds them. Raises DatasetError without validation.
    """
    scores = {SMALL: _of_network(dataset, small, device), LITE0: _of_head(files, dataset, transfer, device)}
    better = max(scores, key=scores.__getitem__)
    names = {SMALL: "small-image", LITE0: "transfer"}
    said = ", ".join(f"{names[each]} {score:.3f}" for each, score in scores.items())
    return better, f"{names[better]} was chosen by accuracy on validation pictures: {said}"


def _of_network(dataset: Dataset, config: Config, device: torch.device) -> float:
    train, validation = _held_out(dataset, config)
    trainer = Trainer(config, train, len(dataset.classes), device, validation)
    losses: list[float] = []
    accuracy = 0.0
    while not trainer.try_is_over(losses):
        trainer.run_epoch(_ignore)
        trainer.decide_flips()
        logits = _logits(trainer, validation)
        losses.append(F.cross_entropy(logits, validation.labels).item())
        accuracy = (logits.argmax(1) == validation.labels).double().mean().item()
    return accuracy


@torch.inference_mode()
def _logits(trainer: Trainer, split: Split) -> Tensor:
    model = trainer.result.eval()
    parts = []
    for batch in split.batches(BATCH):
        images = normalise(batch.images.to(trainer.device), trainer.mean, trainer.std)
        parts.append(model(images).cpu())
    return torch.cat(parts)


def _of_head(files: RunDirectory, dataset: Dataset, config: Config, device: torch.device) -> float:
    dataset = dataset.enlarged()
    train, validation = _held_out(dataset, config)
    history = HeadTrainer(config, train, len(dataset.classes), device, validation).run(files, _ignore)
    return min(history, key=lambda epoch: epoch.loss).accuracy


def _held_out(dataset: Dataset, config: Config) -> tuple[Split, Split]:
    train, validation = dataset.hold_out(config.validation_images, config.seed)
    if validation is None:
        raise DatasetError("auto chooses by validation images: hold some out, or choose a recipe")
    return train, validation


def _ignore(event: Event) -> None:
    """Epochs of a comparison are not those of the run."""
