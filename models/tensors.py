"""Pixels to tensors: the one part of preprocessing that needs torch. And inputs to try a model on."""

from collections.abc import Sequence
from datetime import date

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.card import Card
from models.preprocessing.pictures import Pixels
from models.tables import Column, TableInput

TRIALS = 11
EPOCH = date(1970, 1, 1)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels 0..255 (uint8, [N, C, H, W]) to (x / 255 - mean) / std (float32), by channel: the only place."""
    if len(mean) == 1:
        # dividing takes twice as long
        return images.float().mul_(1 / (255 * std[0])).add_(-mean[0] / std[0])
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device)
    return images.float().mul_(scale[:, None, None]).add_(shift[:, None, None])


def stack(images: Sequence[Pixels]) -> Tensor:
    """Images of one size, [height, width] or [height, width, 3], as one uint8 tensor [N, C, height, width]."""
    stacked = np.stack(images)
    planes = stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(planes))


def trial_inputs(card: Card) -> Tensor:
    """What a model must be able to answer: uint8 [11, C, H, W], the first blank, two full, then random ones.

    Of a table float32 [11, width]: the first with all missing, two with what training has not seen, then rows
    within what it has.
    """
    generator = np.random.default_rng(0)
    if not isinstance(card.input, TableInput):
        images = generator.integers(0, 256, (TRIALS, *card.input.shape), np.uint8)
        images[0], images[1:3] = 0, 255
        return torch.from_numpy(images)
    parts = [_cells(column, generator) for column in card.input.columns]
    rows = np.concatenate(parts, axis=1).astype(np.float32)
    rows[0] = np.nan
    return torch.from_numpy(rows)


def _cells(column: Column, generator: np.random.Generator) -> NDArray[np.float64]:
    """[11, width of the column]"""
    if column.role in ("categorical", "boolean"):
        codes = generator.integers(0, len(column.categories) + 1, (TRIALS, 1)).astype(np.float64)
        codes[1:3] = len(column.categories)
        return codes
    low, high = column.minimum or 0.0, column.maximum or 1.0
    values = generator.uniform(min(low, high), max(low, high), (TRIALS, 1))
    values[1:3] = [[-1e6], [1e6]] if column.role == "numeric" else [[low - 10_000], [high + 10_000]]
    if column.role == "numeric":
        return values
    days = np.clip(values[:, 0], -700_000, 2_900_000).astype("datetime64[D]").tolist()
    return np.array([[day.year, day.month, day.day, day.weekday(), (day - EPOCH).days] for day in days])
