"""The parts of a network for tables: each makes logits of encoded rows, in `groups` that share nothing.

Members that share a network: Gorishniy, Kotelnikov and Babenko, "TabM", arXiv:2410.24210 (its form with one
adapter, in front). Distributions of the classes: Friedman, "Regularized discriminant analysis", 1989; with the
tails of Student's t: Lange, Little and Taylor, "Robust statistical modeling using the t distribution", 1989.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.table_columns import Columns, Encoded


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
        weight = self.numbers.view(rows.numbers.shape[1], self.used, -1)
        found = rows.numbers.flatten(1) @ weight[:, :2].flatten(0, 1) + self.bias
        if self.used > 2:
            found = found + rows.pieces.flatten(1) @ weight[:, 2:].flatten(0, 1)
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
        x = torch.baddbmm(self.bias1.repeat(1, 1, self.members), self._embedded(rows), self._first())
        x = F.dropout(F.relu(x), self.dropout, self.training)  # [groups, N, members * width]
        width = self.weight2.shape[1]
        x = torch.baddbmm(self.bias2, x.reshape(self.groups, -1, width), self.weight2)
        x = F.dropout(F.relu(x), self.dropout, self.training).view(self.groups, -1, self.members, width)
        x = x.transpose(1, 2).reshape(self.groups * self.members, -1, width)
        return torch.baddbmm(self.bias3, x, self.head).view(self.groups, self.members, -1, self.classes)

    def _first(self) -> Tensor:
        """The first layer of all members side by side, [groups, features, members * width]: in one product with
        the features it is quicker than with those of each member."""
        adapter = self.adapter[:, :, 0].transpose(1, 2)  # [groups, features, members]
        return (adapter.unsqueeze(3) * self.weight1.unsqueeze(2)).flatten(2)

    def _embedded(self, rows: Encoded) -> Tensor:
        """[groups, N, features]."""
        parts = []
        if rows.numbers.shape[1]:
            # [P, N, groups * embedding]; joined before, the figures of a number would be copied
            plain = torch.bmm(rows.numbers.transpose(0, 1), self.numbers[:, :2])
            numbers = torch.baddbmm(plain, rows.pieces.transpose(0, 1), self.numbers[:, 2:])
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


class GaussianPart(nn.Module):
    """A distribution of the numbers for each class, fitted at once (`training.tables.gaussian`): multivariate t
    of so many `degrees` of freedom, by which one odd row is no proof of anything. Where they are 0 (models of
    before) it is normal.

    Classes that differ in how columns go together, in differences of columns that are nearly the same, are told
    apart by few rows; a network needs many.
    """

    def __init__(self, columns: Columns, groups: int, classes: int, degrees: float = 0.0) -> None:
        super().__init__()
        self.groups, self.classes, self.members, self.degrees = groups, classes, 1, degrees
        count = len(columns.numeric)
        self.centre = nn.Parameter(torch.zeros(groups * classes, 1, count))
        self.whitening = nn.Parameter(torch.zeros(groups * classes, count, count))
        self.bias = nn.Parameter(torch.zeros(groups * classes))
        if degrees:
            self.slope = nn.Parameter(torch.zeros(1))

    def forward(self, rows: Encoded) -> Tensor:
        """Logits [groups, 1, N, classes]."""
        apart = rows.numbers[:, :, 0] - self.centre
        far = torch.bmm(apart, self.whitening).square().sum(2)
        if self.degrees:
            far = self.slope * far.log1p()
        found = self.bias[:, None] - far
        return found.view(self.groups, 1, self.classes, -1).transpose(2, 3)
