"""What every peer answers with: the MLP, Pillow and softmax of `benchmarks.handwritten`, in batches."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from models.networks import MLP

WEIGHTS = Path(__file__).parents[2] / "models" / "weights" / "minist.pth"


def load() -> nn.Module:
    torch.set_num_threads(1)
    model = MLP()
    model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return model.eval()


def pixels(image: Image.Image) -> Tensor:
    """[1, 1, 28, 28], normalised."""
    array = np.asarray(image.convert("L"), dtype=np.float32) / 255
    return (torch.from_numpy(array)[None, None] - 0.1307) / 0.3081


def decode(data: bytes) -> Tensor:
    """[1, 1, 28, 28], normalised."""
    return pixels(Image.open(io.BytesIO(data)))


def probabilities(model: nn.Module, images: list[Tensor]) -> list[list[float]]:
    """Ten for each image."""
    with torch.inference_mode():
        rows: list[list[float]] = model(torch.cat(images)).softmax(dim=1).tolist()
    return rows
