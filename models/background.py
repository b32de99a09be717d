"""How a network tells pictures of what is none of its classes."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NEAREST = 3


@runtime_checkable
class Judging(Protocol):
    """A network that may have a background, in its attribute of that name (None: it has none)."""

    def judge(self, x: Tensor) -> Tensor:
        """Of normalised images logits and, last, the score of the background: [N, classes + 1].

        The greater it is, the less the picture is like those of the classes.
        """


class Neighbours(nn.Module):
    """How far features are from the nearest of some training pictures: minus the cosine of the third.

    Source: Sun, Ming, Zhu and Li, "Out-of-distribution detection with deep nearest neighbors"
    (arXiv:2204.06507).
    """

    references: Tensor

    def __init__(self, features: int, count: int) -> None:
        super().__init__()
        self.register_buffer("references", torch.zeros(count, features))

    def remember(self, features: Tensor) -> None:
        """Of training pictures, [count, F]."""
        self.references.copy_(F.normalize(features, dim=1))

    def forward(self, features: Tensor) -> Tensor:
        cosines = F.normalize(features, dim=1) @ self.references.T
        return -cosines.topk(min(NEAREST, len(self.references)), dim=1).values[:, -1:]
