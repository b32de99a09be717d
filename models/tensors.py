"""Grey pixels to tensors: the one part of preprocessing that needs torch."""

import numpy as np
import torch
from torch import Tensor

from models.preprocessing.decode import Grey


def normalise(images: Tensor, mean: float, std: float) -> Tensor:
    """Pixels 0..255 (uint8) to (x / 255 - mean) / std (float32), same shape: the only place."""
    return images.float().mul_(1 / (255 * std)).add_(-mean / std)  # dividing takes twice as long


def stack(images: list[Grey]) -> Tensor:
    """Grey images of one size as one uint8 tensor [N, 1, height, width]."""
    return torch.from_numpy(np.stack(images)[:, None])
