"""Networks for the rows of a table: float32 [N, width], NaN where a cell is missing, to logits.

All that was fitted on the training rows is a buffer or a parameter, so a state_dict is the whole model. The
logits are logarithms of probabilities, of the mean over all members: their softmax is that mean.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.errors import UnknownArchitecture
from models.table_columns import Columns, Encoded
from models.table_parts import GaussianPart, LinearPart, NetworkPart

MOST = {"columns": 10_000, "categories": 1_000_000, "classes": 10_000, "bins": 128, "side": 4_096, "parts": 16}


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
        with piecewise-linear encoding and without, `{"gaussian": 1, "degrees": 10}` is GaussianPart."""
        super().__init__()
        _check(classes, numeric, categorical, sizes, bins, groups, parts)
        self.columns = Columns(numeric, categorical, sizes, bins)
        self.parts = nn.ModuleList(_part(self.columns, groups, classes, dict(part)) for part in parts)
        self.register_buffer("weights", torch.full((len(parts),), 1 / len(parts)))

    def keep(self, places: Sequence[int], weights: Tensor) -> None:
        """Only these parts, with these weights."""
        self.parts = nn.ModuleList(self.parts[place] for place in places)
        self.weights = weights

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
    if settings.get("gaussian"):
        return GaussianPart(columns, groups, classes, float(settings.get("degrees", 0)))
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
            and all(0 <= part.get("dropout", 0) < 1 and part.get("degrees", 0) >= 0 for part in parts)
        )
    except (TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise UnknownArchitecture("architecture 'table' does not take these arguments")
