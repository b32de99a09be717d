"""How much each column of a row counts for an answer: integrated gradients.

Source: Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", arXiv:1703.01365. The path is a
straight line from a typical row to this one in what the network's first layer sees: the encoded numbers, and,
as the authors do with words, the embeddings of categories, between which there is nothing else to walk on.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from models.architectures import shallow_copy
from models.table_columns import Encoded
from models.table_networks import TableNetwork
from models.tables import TableInput

STEPS = 64  # midpoints of the path


class Contributions(NamedTuple):
    """By column: what it adds to the logit of a class. Together, about `logit - typical_logit`."""

    columns: dict[str, float]
    typical: Tensor  # the row with which this one is compared, [width]
    logit: float
    typical_logit: float


def contributions(model: nn.Module, spec: TableInput, row: Tensor, index: int) -> Contributions:
    """Of a row, float32 [width], for the class at `index`, by a TableNetwork."""
    assert isinstance(model, TableNetwork)
    network = shallow_copy(model)  # its tables are replaced, while the model answers others
    with torch.no_grad():
        typical = network.columns.typical()
        ends = network(torch.stack([typical, row]))[:, index].tolist()
        start, end = network.columns(typical[None]), network.columns(row[None])
    numbers, codes = _along(network, start, end, index)
    places = torch.zeros(len(row), dtype=torch.float64)
    places[network.columns.numeric.cpu()] = numbers.double().cpu()
    places[network.columns.categorical.cpu()] = codes.double().cpu()
    parts = zip(spec.columns, spec.starts, strict=True)
    columns = {column.name: places[at : at + column.width].sum().item() for column, at in parts}
    return Contributions(columns, typical.cpu(), ends[1], ends[0])


def _along(network: TableNetwork, start: Encoded, end: Encoded, index: int) -> tuple[Tensor, Tensor]:
    """The integral of the gradient of a logit along the path, for each number [P] and each category [Q]."""
    at = (torch.arange(STEPS, device=start.numbers.device) + 0.5) / STEPS
    shape = STEPS, start.numbers.shape[1], start.codes.shape[1]
    numbers = at[:, None].repeat(1, shape[1]).requires_grad_()  # how far each column has gone
    codes = at[:, None].repeat(1, shape[2]).requires_grad_()
    with torch.enable_grad():
        between, pieces = (
            first + numbers[:, :, None] * (last - first)
            for first, last in ((start.numbers, end.numbers), (start.pieces, end.pieces))
        )
        tables = {
            f"network.{name}": _with_blends(table, start.codes, end.codes, codes)
            for name, table in network.named_parameters()
            if name.endswith(".categories")
        }
        places = network.columns.total + torch.arange(STEPS * shape[2], device=codes.device).view(STEPS, -1)
        logits = functional_call(_Answer(network), tables, (Encoded(between, pieces, places),))
        found = torch.autograd.grad(logits[:, index].sum(), (numbers, codes), allow_unused=True)
    by_number, by_code = (
        torch.zeros_like(given) if gradient is None else gradient
        for given, gradient in zip((numbers, codes), found, strict=True)
    )
    return by_number.mean(0), by_code.mean(0)


def _with_blends(table: Tensor, start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Embeddings [total, D], behind them those on the path: [total + steps * Q, D]."""
    first, last = table[start[0]], table[end[0]]  # [Q, D]
    blends = first + shares[:, :, None] * (last - first)
    return torch.cat([table, blends.flatten(0, 1)])


class _Answer(nn.Module):
    """A network from its encoded rows on."""

    def __init__(self, network: TableNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, encoded: Encoded) -> Tensor:
        return self.network.answer(encoded)
