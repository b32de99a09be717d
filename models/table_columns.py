"""The cells of rows, float32 [N, width], NaN where one is missing, encoded by what training rows have shown.

Piecewise-linear encoding of numbers: Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in
tabular deep learning", arXiv:2203.05556.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

FARTHEST = 6.0  # standard deviations of a number


class Encoded(NamedTuple):
    """Rows, encoded: numbers [N, P, 2] (standardised, missing), their pieces [N, P, bins], codes [N, Q]."""

    numbers: Tensor
    pieces: Tensor
    codes: Tensor


class Columns(nn.Module):
    """The cells of rows, encoded by what was fitted on training rows (`fit`)."""

    numeric: Tensor
    categorical: Tensor
    last: Tensor
    offsets: Tensor
    low: Tensor
    high: Tensor
    centre: Tensor
    skewed: Tensor
    unit: Tensor
    absent: Tensor
    mean: Tensor
    scale: Tensor
    left: Tensor
    slope: Tensor

    def __init__(
        self, numeric: Sequence[int], categorical: Sequence[int], sizes: Sequence[int], bins: int
    ) -> None:
        """Places of numbers and categories in a row, and how many categories each of the latter has."""
        super().__init__()
        self.bins = bins
        self.sizes = [size + 2 for size in sizes]  # other, missing
        self.total = sum(self.sizes)
        count = len(numeric)
        self.register_buffer("numeric", torch.tensor(list(numeric), dtype=torch.long), persistent=False)
        self.register_buffer("categorical", torch.tensor(list(categorical), dtype=torch.long), persistent=False)
        self.register_buffer("last", torch.tensor(list(sizes), dtype=torch.float32), persistent=False)
        starts = list(accumulate(self.sizes, initial=0))[: len(self.sizes)]
        self.register_buffer("offsets", torch.tensor(starts, dtype=torch.long), persistent=False)
        for name in ("low", "centre", "mean", "skewed"):
            self.register_buffer(name, torch.zeros(count))
        for name in ("high", "unit", "scale"):
            self.register_buffer(name, torch.ones(count))
        self.register_buffer("absent", torch.zeros(count + len(sizes)))
        self.register_buffer("left", torch.zeros(count, bins))
        self.register_buffer("slope", torch.zeros(count, bins))

    @property
    def depth(self) -> int:
        """Figures that a number becomes."""
        return self.bins + 2

    def typical(self) -> Tensor:
        """A row like many, [width]: medians, the most frequent categories; NaN where most cells are missing."""
        row = torch.zeros(len(self.numeric) + len(self.categorical), device=self.centre.device)
        row = row.index_copy(0, self.numeric, self.centre)
        return torch.where(self.absent > 0, math.nan, row)

    @torch.no_grad()
    def fit(self, rows: Tensor) -> None:
        """On these rows, and no others."""
        for column in range(rows.shape[1]):
            values = rows[:, column]
            known = values[~values.isnan()]
            # of a category the number says how frequent it is, the first is 0
            often = int((known == 0).sum()) if column in self.categorical else len(known)
            self.absent[column] = float(len(values) - len(known) > often)
        for place, column in enumerate(self.numeric.tolist()):
            values = rows[:, column]
            values = values[~values.isnan()].double()
            if len(values):
                self._fit(place, values)

    def _fit(self, place: int, values: Tensor) -> None:
        span = (values.max() - values.min()).clamp(min=1e-6)
        self.low[place], self.high[place] = values.min() - span, values.max() + span
        self.centre[place] = values.median()
        centred = values - values.mean()
        skew = (centred**3).mean() / (centred**2).mean().clamp(min=1e-12) ** 1.5
        if values.min() >= 0 and skew > 2:  # counts, amounts
            positive = values[values > 0][:100_000]  # of more, torch gives no quantile
            self.skewed[place] = 1
            self.unit[place] = positive.quantile(0.1)
            values_z = (values / self.unit[place].double()).log1p()
        else:
            values_z = values
        self.mean[place] = values_z.mean()
        self.scale[place] = 1 / values_z.std(correction=0).clamp(
            min=1e-6 * max(1.0, float(values_z.abs().max()))
        )
        edges = _edges(values, self.bins)
        if len(edges) > 1:
            self.left[place, : len(edges) - 1] = edges[:-1].float()
            self.slope[place, : len(edges) - 1] = (1 / (edges[1:] - edges[:-1])).float().clamp(max=1e30)

    def forward(self, rows: Tensor) -> Encoded:
        numbers = rows.index_select(1, self.numeric)
        missing = numbers.isnan()
        numbers = torch.where(missing, self.centre, numbers).clamp(self.low, self.high)
        flat = torch.where(self.skewed > 0, (numbers.clamp(min=0) / self.unit).log1p(), numbers)
        standard = ((flat - self.mean) * self.scale).clamp(-FARTHEST, FARTHEST)
        pieces = ((numbers.unsqueeze(2) - self.left) * self.slope).clamp(0, 1)
        both = torch.stack([standard, missing.to(rows.dtype)], 2)
        codes = rows.index_select(1, self.categorical)
        codes = torch.where(codes.isnan(), self.last + 1, codes.clamp(min=0).minimum(self.last))
        return Encoded(both, pieces, codes.long() + self.offsets)


def _edges(values: Tensor, bins: int) -> Tensor:
    """Edges of bins that hold about as many values each; of few different values, the values. A value that is
    more frequent than that is an edge, and the others share the rest: most amounts are 0, the others tell more.
    """
    distinct, counts = torch.unique(values, return_counts=True)
    if len(distinct) <= bins + 1:
        return distinct
    heavy = distinct[counts > len(values) / bins]
    rest = values[~torch.isin(values, heavy)].sort().values
    places = torch.linspace(0, len(rest) - 1, max(2, bins + 1 - len(heavy))).round().long()
    return torch.unique(torch.cat([heavy, rest[places]]))[: bins + 1]
