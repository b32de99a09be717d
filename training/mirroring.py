"""Whether training images may be mirrored: a model that has never seen any mirrored is asked."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from models.classifier import BATCH
from models.tensors import normalise
from training.datasets import Split

MIRRORED = 1_000  # pictures that decide on it
MIRROR_SLACK = 0.05  # of their accuracy, that mirroring may cost a model which has never seen it


def to_mirror(validation: Split, train: Split) -> Split:
    """Validation images, and where these are few, training images, which are not known by heart yet."""
    few = validation[:MIRRORED]
    return few + train[: max(0, MIRRORED - len(few))].to(torch.device("cpu")) if len(few) < MIRRORED else few


def allowed_flips(
    model: nn.Module, pictures: Split, device: torch.device, mean: Sequence[float], std: Sequence[float]
) -> tuple[tuple[bool, bool], str]:
    """Whether images that are mirrored left to right, or top to bottom, are recognised as well as others; and a
    note that says so."""
    model.eval()
    plain, *mirrored = (_accuracy(model, pictures, axis, device, mean, std) for axis in (None, 3, 2))
    slack = max(MIRROR_SLACK, 2 * math.sqrt(plain * (1 - plain) / len(pictures)))
    flips = (mirrored[0] >= plain - slack, mirrored[1] >= plain - slack)
    words = ("left to right", "top to bottom")
    said = [
        f"{'mirrored' if allowed else 'not mirrored'} {way} ({accuracy:.2f})"
        for way, allowed, accuracy in zip(words, flips, mirrored, strict=True)
    ]
    return flips, (
        f"training pictures are {' and '.join(said)}: accuracy on mirrored pictures, "
        f"against {plain:.2f} on the same as they are"
    )


@torch.inference_mode()
def _accuracy(
    model: nn.Module,
    split: Split,
    axis: int | None,
    device: torch.device,
    mean: Sequence[float],
    std: Sequence[float],
) -> float:
    right = 0
    for batch in split.batches(BATCH):
        images = batch.to(device).images
        logits = model(normalise(images if axis is None else images.flip(axis), mean, std))
        right += int((logits.argmax(1).cpu() == batch.labels.cpu()).sum())
    return right / len(split)
