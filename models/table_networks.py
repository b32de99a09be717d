"""Networks for the rows of a table: float32 [N, width], NaN where a cell is missing, to logits.

All that was fitted on the training rows is a buffer or a parameter, so a state_dict is the whole model. The
logits are logarithms of probabilities, of the mean over all members: their softmax is that mean.

Piecewise-linear encoding of numbers and its embedding: Gorishniy, Rubachev and Babenko, "On embeddings for
numerical features in tabular deep learning", arXiv:2203.05556. Members that share a network: Gorishniy,
Kotelnikov and Babenko, "TabM", arXiv:2410.24210 (its form with one adapter, in front).
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import UnknownArchitecture

MOST = {"columns": 10_000, "categories": 1_000_000, "classes": 10_000, "bins": 128, "side": 4_096, "parts": 16}
FARTHEST = 6.0  # standard deviations of a number


class Encoded(NamedTuple):
    """Rows, encoded: numbers [N, P, 1 + bins + 1] (standardised, piecewise-linear, missing), codes [N, Q]."""

    numbers: Tensor
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
        self.register_buffer("left", torch.zeros(count, bins))
        self.register_buffer("slope", torch.zeros(count, bins))

    @property
    def depth(self) -> int:
        """Figures that a number becomes."""
        return self.bins + 2

    def typical(self) -> Tensor:
        """A row like many: medians, and the most frequent categories, [width]."""
        row = torch.zeros(len(self.numeric) + len(self.categorical), device=self.centre.device)
        return row.index_copy(0, self.numeric, self.centre)

    @torch.no_grad()
    def fit(self, rows: Tensor) -> None:
        """On these rows, and no others."""
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
        return Encoded(torch.cat([both, pieces], 2), codes.long() + self.offsets)


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


class LinearPart(nn.Module):
    """Softmax regression on the encoded cells, in `groups` that share nothing."""

    def __init__(self, columns: Columns, groups: int, classes: int, pieces: bool = True) -> None:
        super().__init__()
        self.groups, self.classes, self.members = groups, classes, 1
        self.used = columns.depth if pieces else 2
        self.numbers = nn.Parameter(torch.zeros(len(columns.numeric) * self.used, groups * classes))
        self.categories = nn.Parameter(torch.zeros(columns.total, groups * classes))
        self.bias = nn.Parameter(torch.zeros(groups * classes))

    def forward(self, rows: Encoded) -> Tensor:
        """Logits [groups, 1, N, classes]."""
        found = rows.numbers[:, :, : self.used].flatten(1) @ self.numbers + self.bias
        if rows.codes.shape[1]:
            found = found + F.embedding(rows.codes, self.categories).sum(1)
        return found.view(-1, self.groups, 1, self.classes).permute(1, 2, 0, 3)


class NetworkPart(nn.Module):
    """Embeddings, two hidden layers and a head for each member, in `groups` that share nothing."""

    def __init__(
        self,
        columns: Columns,
        groups: int,
        classes: int,
        *,
        members: int,
        width: int,
        embedding: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.groups, self.classes, self.members, self.dropout = groups, classes, members, dropout
        count, depth, chosen = len(columns.numeric), columns.depth, len(columns.sizes)
        self.features = (count + chosen) * embedding
        start = torch.zeros(count, depth, groups, embedding)
        start[:, 0].normal_()  # pieces and missing begin at nothing
        self.numbers = nn.Parameter(start.view(count, depth, groups * embedding))
        self.categories = nn.Parameter(torch.randn(columns.total, groups * embedding))
        self.adapter = nn.Parameter(torch.randn(groups, members, 1, self.features).sign())
        self.weight1 = nn.Parameter(_uniform(groups, self.features, width))
        self.bias1 = nn.Parameter(torch.zeros(groups, 1, width))
        self.weight2 = nn.Parameter(_uniform(groups, width, width))
        self.bias2 = nn.Parameter(torch.zeros(groups, 1, width))
        self.head = nn.Parameter(_uniform(groups * members, width, classes))
        self.bias3 = nn.Parameter(torch.zeros(groups * members, 1, classes))

    def forward(self, rows: Encoded) -> Tensor:
        """Logits [groups, members, N, classes]."""
        x = self._embedded(rows).unsqueeze(1) * self.adapter
        x = x.reshape(self.groups, -1, self.features)
        for weight, bias in ((self.weight1, self.bias1), (self.weight2, self.bias2)):
            x = F.dropout(F.relu(torch.baddbmm(bias, x, weight)), self.dropout, self.training)
        x = x.reshape(self.groups * self.members, -1, x.shape[-1])
        return torch.baddbmm(self.bias3, x, self.head).view(self.groups, self.members, -1, self.classes)

    def _embedded(self, rows: Encoded) -> Tensor:
        """[groups, N, features]."""
        parts = []
        if rows.numbers.shape[1]:
            numbers = torch.bmm(rows.numbers.transpose(0, 1), self.numbers)  # [P, N, groups * embedding]
            parts.append(numbers.view(len(self.numbers), -1, self.groups, numbers.shape[2] // self.groups))
        if rows.codes.shape[1]:
            codes = F.embedding(rows.codes.transpose(0, 1), self.categories)
            parts.append(codes.view(codes.shape[0], -1, self.groups, codes.shape[2] // self.groups))
        together = torch.cat(parts) if len(parts) > 1 else parts[0]
        x = together.permute(2, 1, 0, 3).reshape(self.groups, -1, self.features)
        return F.dropout(x, self.dropout / 2, self.training)


def _uniform(groups: int, inputs: int, outputs: int) -> Tensor:
    bound = math.sqrt(1 / max(inputs, 1))
    return torch.empty(groups, inputs, outputs).uniform_(-bound, bound)


class TableNetwork(nn.Module):
    """Parts that answer together: their probabilities are averaged with weights that training has fitted."""

    weights: Tensor

    def __init__(
        self,
        classes: int = 2,
        numeric: Sequence[int] = (0,),
        categorical: Sequence[int] = (),
        sizes: Sequence[int] = (),
        bins: int = 8,
        groups: int = 1,
        parts: Sequence[dict[str, float]] = ({},),
    ) -> None:
        """`parts` holds keyword arguments of NetworkPart; `{"linear": 1}` and `{"linear": 2}` are LinearPart,
        with piecewise-linear encoding and without."""
        super().__init__()
        _check(classes, numeric, categorical, sizes, bins, groups, parts)
        self.columns = Columns(numeric, categorical, sizes, bins)
        self.parts = nn.ModuleList(_part(self.columns, groups, classes, dict(part)) for part in parts)
        self.register_buffer("weights", torch.full((len(parts),), 1 / len(parts)))

    def forward(self, rows: Tensor) -> Tensor:
        """The logarithm of the mean probability, [N, classes], of rows, float32 [N, width]."""
        return self.answer(self.columns(rows))

    def answer(self, encoded: Encoded) -> Tensor:
        """The same of encoded rows."""
        together = []
        for part, weight in zip(self.parts, self.weights.clamp(min=1e-30), strict=True):
            logits = part(encoded).flatten(0, 1)
            together.append(logits.log_softmax(2) + weight.log() - math.log(len(logits)))
        return torch.cat(together).logsumexp(0)


def _part(columns: Columns, groups: int, classes: int, settings: dict[str, float]) -> nn.Module:
    if settings.get("linear"):
        return LinearPart(columns, groups, classes, pieces=settings["linear"] == 1)
    return NetworkPart(
        columns,
        groups,
        classes,
        members=int(settings.get("members", 4)),
        width=int(settings.get("width", 64)),
        embedding=int(settings.get("embedding", 4)),
        dropout=float(settings.get("dropout", 0)),
    )


def _check(
    classes: int,
    numeric: Sequence[int],
    categorical: Sequence[int],
    sizes: Sequence[int],
    bins: int,
    groups: int,
    parts: Sequence[dict[str, float]],
) -> None:
    """Raises UnknownArchitecture for what no training writes: a card may be anybody's."""
    try:
        places = [*numeric, *categorical]
        sides = [int(value) for part in parts for value in part.values() if value >= 1]
        sound = (
            0 < len(places) <= MOST["columns"]
            and sorted(places) == list(range(len(places)))
            and len(sizes) == len(categorical)
            and all(isinstance(size, int) and size >= 0 for size in sizes)
            and sum(sizes) <= MOST["categories"]
            and 2 <= classes <= MOST["classes"]
            and 1 <= bins <= MOST["bins"]
            and 1 <= groups <= MOST["side"]
            and 1 <= len(parts) <= MOST["parts"]
            and max(sides, default=0) <= MOST["side"]
            and all(0 <= part.get("dropout", 0) < 1 for part in parts)
        )
    except (TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise UnknownArchitecture("architecture 'table' does not take these arguments")
