"""Linear layers with ReLU between them, forward and back without autograd.

The same operations in the same order, so the same gradients to the last bit; what a graph costs, a seventh of a
step of the MLP, is left out.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ARCHITECTURES = ("softmax", "softmax-mnist", "mlp", "mlp-256", "mlp-adam")  # that have no others


class LinearLayers:
    """The layers of a model and, between `forward` and `backward`, what went into each."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._layers = layers
        self._inputs: list[Tensor] = []

    @classmethod
    def of(cls, architecture: str, model: nn.Module) -> Self | None:
        """None where the model has other layers."""
        if architecture not in ARCHITECTURES:
            return None
        return cls([layer for layer in model.modules() if isinstance(layer, nn.Linear)])

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = x.flatten(1)
        self._inputs = []
        for layer in self._layers:
            if self._inputs:
                x = x.relu_()
            self._inputs.append(x)
            x = torch.addmm(layer.bias, x, layer.weight.t())
        return x

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> None:
        """Leave the gradients in the parameters; `gradient` is that of the logits."""
        for number in reversed(range(len(self._layers))):
            layer, x = self._layers[number], self._inputs[number]
            layer.weight.grad = gradient.t() @ x
            layer.bias.grad = gradient.sum(0)
            if number:
                gradient = torch.ops.aten.threshold_backward(gradient @ layer.weight, x, 0)
        self._inputs = []


@torch.no_grad()
def cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What `F.cross_entropy` gives, [], and its gradient, [N, classes]."""
    logs = torch.log_softmax(logits, 1)
    gradient = torch.zeros_like(logs).scatter_(1, labels[:, None], -1 / len(labels))
    gradient = torch.ops.aten._log_softmax_backward_data(gradient, logs, 1, logs.dtype)
    return F.nll_loss(logs, labels), gradient
