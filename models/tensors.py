"""Pixels to tensors: the one part of preprocessing that needs torch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.preprocessing.pictures import Pixels


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
