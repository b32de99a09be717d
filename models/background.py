"""How a network tells pictures of what is none of its classes."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

SHRINKAGE = 0.03  # of a covariance towards a ball


@runtime_checkable
class Judging(Protocol):
    """A network that may have a background, in its attribute of that name (None: it has none)."""

    def judge(self, x: Tensor) -> Tensor:
        """Of normalised images logits and, last, the score of the background: [N, classes + 1].

        The greater it is, the less the picture is like those of the classes.
        """


@runtime_checkable
class Shown(Protocol):
    """A network whose background has learned from pictures of what is no class; None: it has none."""

    background: nn.Module | None

    def evidence(self, x: Tensor) -> Tensor:
        """Of normalised images features [N, F], by which its background judges."""


@runtime_checkable
class Seeing(Protocol):
    """A network whose background is the distance from what it saw in training; None: it has none."""

    background: "Distance | None"

    def seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of normalised images features [N, F], which its background takes, and logits [N, classes]."""


class Distance(nn.Module):
    """How far features are from those of the nearest class, and how little the logits stand out.

    The Mahalanobis distance of what the stages of a network see, summed over the picture, to the mean of a
    class, less the largest logit, each measured by its spread among training pictures. What the last stage says
    alone does not tell noise from pictures; what the first ones see does.
    Sources: Lee, Lee, Lee and Shin, "A simple unified framework for detecting out-of-distribution samples and
    adversarial attacks" (arXiv:1807.03888); Hendrycks and others, "Scaling out-of-distribution detection for
    real-world settings" (arXiv:1911.11132).
    """

    whiten: Tensor
    shift: Tensor
    centres: Tensor
    squares: Tensor
    weight: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("whiten", torch.zeros(features, features))
        self.register_buffer("shift", torch.zeros(features))
        self.register_buffer("centres", torch.zeros(features, classes))  # times -2
        self.register_buffer("squares", torch.zeros(classes))  # of the centres, less what makes the median 0
        self.register_buffer("weight", torch.zeros(1))  # of the largest logit

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        """To those of training pictures: [N, F], [N, classes], [N]."""
        x, logits, labels = features.double().cpu(), logits.double().cpu(), labels.cpu()
        middle, scale = x.mean(0), x.std(0, correction=0)
        scale = scale + 1e-3 * scale.mean() + 1e-6  # a channel that never changes says nothing
        x = (x - middle) / scale
        present, row = torch.unique(labels, return_inverse=True)
        means = torch.stack([x[labels == label].mean(0) for label in present])
        root = _root_of_inverse(x - means[row])
        distances = torch.cdist(x @ root, means @ root).amin(1).square()
        median, spread = _spread(distances)
        largest, spread_of_largest = _spread(-logits.amax(1))
        root /= spread.sqrt()
        centres = (means @ root)[:1].repeat(logits.shape[1], 1)  # of a class without pictures: another's
        centres[present] = means @ root
        self.whiten.copy_(root / scale[:, None])
        self.shift.copy_(-(middle / scale) @ root)
        self.centres.copy_(-2 * centres.T)
        self.squares.copy_(centres.square().sum(1) - median / spread - largest / spread_of_largest)
        self.weight.copy_(-1 / spread_of_largest)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """[N, 1]; as of a logarithm, so that rounding does not show in what is far beyond all pictures."""
        x = torch.addmm(self.shift, features, self.whiten)
        far = (x * x).sum(1, keepdim=True) + torch.addmm(self.squares, x, self.centres).amin(1, keepdim=True)
        return torch.addcmul(far, logits.amax(1, keepdim=True), self.weight).asinh()


def _root_of_inverse(x: Tensor) -> Tensor:
    """The Cholesky factor of the inverse of the covariance of centred rows."""
    covariance = x.T @ x / len(x)
    ball = covariance.diagonal().mean().clamp(min=1e-6) * torch.eye(len(covariance), dtype=x.dtype)
    root: Tensor = torch.linalg.cholesky(torch.linalg.inv(torch.lerp(covariance, ball, SHRINKAGE)))
    return root


def _spread(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The median, and how far above it 95 % of the scores end."""
    median, high = scores.quantile(torch.tensor([0.5, 0.95], dtype=scores.dtype))
    return median, (high - median).clamp(min=1e-3)
