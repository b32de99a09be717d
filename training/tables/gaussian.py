"""A distribution of the numbers of each class, fitted in one step: all the training of a GaussianPart.

Regularised discriminant analysis (Friedman, 1989): covariances of classes are drawn towards that of all, which
is drawn towards its diagonal. How far, and how much is believed of the whole, rows that were held out tell.
"""

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from models.table_columns import Columns
from models.table_parts import GaussianPart
from training.calibration import likeliest_temperature

TOGETHER = (0.02, 0.1, 0.3, 0.6)  # how far covariances of classes are drawn towards that of all
APART = (0.0, 0.03, 0.2)  # how far these are drawn towards their diagonal
LEAST = 1e-4  # variance that is added to each number
CHUNK = 4_096  # rows at a time
SEEN = 20_000  # rows by which the choice is made, at most


@dataclass(frozen=True)
class Moments:
    """Of the training rows of a group: rows of each class [C], means [C, P], scatters [C, P, P]."""

    counts: Tensor
    means: Tensor
    scatter: Tensor


def fit_gaussian(part: GaussianPart, columns: Columns, rows: Tensor, labels: Tensor, held: Tensor) -> None:
    """Fit each group on the rows that it does not hold out; `held` [N] is the group that does, or -1."""
    numbers = torch.cat([columns(chunk).numbers[:, :, 0].double() for chunk in torch.split(rows, CHUNK)])
    moments = [
        _moments(numbers[held != group], labels[held != group], part.classes) for group in range(part.groups)
    ]
    judged = (held >= 0).nonzero()[:SEEN, 0]
    best = math.inf
    for together, apart in product(TOGETHER, APART):
        distributions = [_distributions(group, together, apart) for group in moments]
        logits = torch.cat(
            [
                _logits(distributions, numbers[chunk], held[chunk], part.degrees)
                for chunk in torch.split(judged, CHUNK)
            ]
        )
        temperature = max(1.0, likeliest_temperature(logits, labels[judged]))
        loss = float(torch.nn.functional.cross_entropy(logits / temperature, labels[judged]))
        if loss < best:
            best = loss
            _write(part, distributions, temperature)


def _moments(numbers: Tensor, labels: Tensor, classes: int) -> Moments:
    counts = torch.bincount(labels, minlength=classes).double()
    means, scatter = [], []
    for label in range(classes):
        mine = numbers[labels == label]
        mean = mine.mean(0) if len(mine) else numbers.mean(0)
        means.append(mean)
        scatter.append((mine - mean).T @ (mine - mean))
    return Moments(counts, torch.stack(means), torch.stack(scatter))


Distributions = tuple[Tensor, Tensor, Tensor]  # means [C, P], whitening [C, P, P], bias [C]


def _distributions(moments: Moments, together: float, apart: float) -> Distributions:
    """So that a logit is `bias - |(numbers - mean) @ whitening|**2`."""
    counts, total = moments.counts, moments.counts.sum()
    pooled = moments.scatter.sum(0) / (total - len(counts)).clamp(min=1)
    own = moments.scatter / (counts - 1).clamp(min=1)[:, None, None]
    share = torch.where(counts > 1, together, 1.0)[:, None, None]
    covariance = (1 - apart) * (own + share * (pooled - own)) + apart * pooled.diagonal().diag()
    covariance = covariance + LEAST * torch.eye(len(pooled), dtype=pooled.dtype)
    lower = torch.linalg.cholesky(covariance)
    inverse = torch.linalg.solve_triangular(lower, torch.eye(len(pooled), dtype=pooled.dtype), upper=False)
    shares = (counts + 1) / (total + len(counts))
    bias = shares.log() - lower.diagonal(dim1=1, dim2=2).log().sum(1)
    return moments.means, inverse.transpose(1, 2) / math.sqrt(2), bias


def _logits(distributions: list[Distributions], numbers: Tensor, held: Tensor, degrees: float) -> Tensor:
    """Of each row, by the group that holds it out, [N, C]."""
    found = numbers.new_empty(len(numbers), len(distributions[0][2]))
    for group, (means, whitening, bias) in enumerate(distributions):
        mine = held == group
        apart = numbers[mine] - means[:, None]
        far = _slope(numbers.shape[1], degrees) * ((apart @ whitening).square().sum(2) * (2 / degrees)).log1p()
        found[mine] = (bias[:, None] - far).T
    return found


def _slope(count: int, degrees: float) -> float:
    """Of the logarithm of a t density of `count` numbers against that of 1 + distance**2 / degrees."""
    return (degrees + count) / 2


@torch.no_grad()
def _write(part: GaussianPart, distributions: list[Distributions], temperature: float) -> None:
    means, whitening, bias = (torch.cat(each) for each in zip(*distributions, strict=True))
    part.centre.copy_(means[:, None])
    part.slope.fill_(_slope(means.shape[1], part.degrees) / temperature)
    part.whitening.copy_(whitening * math.sqrt(2 / part.degrees))
    part.bias.copy_(bias / temperature)
