"""The architecture `sequential`: the layers that a card lists, in a row, under people's own names."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.card import Shape
from models.errors import UnknownArchitecture
from models.layers import Activation, Conv2d, Layer, Linear, Norm, Pool, costs, read_layers

SEQUENTIAL = "sequential"
Step = Callable[[Tensor], Tensor]
_FUNCTIONS: dict[str, Step] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "silu": F.silu,
}


class Sequential(nn.Module):
    """Layers as `models.layers` describes them. Each has the name that it has in people's own state_dict,
    `features.0` too, so that the file goes back into the class that it came from.

    Raises UnknownArchitecture where the layers do not fit each other, or the picture, or would cost too much.
    """

    def __init__(
        self, layers: Sequence[Any], input_shape: Shape = (1, 28, 28), classes: int | None = None
    ) -> None:
        super().__init__()
        found = read_layers(layers)
        gives = costs(found, input_shape).classes
        if classes not in (None, gives):
            raise UnknownArchitecture(f"its layers give {gives} classes, not {classes}")
        self._steps = [step for layer in found if (step := self._step(layer)) is not None]
        if any(isinstance(layer, Conv2d) for layer in found):
            self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        for step in self._steps:
            x = step(x)
        return x

    def _step(self, layer: Layer) -> Step | None:
        if isinstance(layer, Linear | Conv2d | Norm):
            module = _module(layer)
            _place(self, layer.name, module)
            return module
        if isinstance(layer, Activation):
            return _FUNCTIONS[layer.kind]
        if isinstance(layer, Pool):
            return (nn.MaxPool2d if layer.kind == "maxpool" else nn.AvgPool2d)(layer.size, layer.stride)
        return _PLAIN[layer.kind]


def _module(layer: Linear | Conv2d | Norm) -> nn.Module:
    if isinstance(layer, Linear):
        return nn.Linear(layer.inputs, layer.outputs, bias=layer.bias)
    if isinstance(layer, Conv2d):
        return nn.Conv2d(
            layer.inputs,
            layer.outputs,
            layer.kernel,
            stride=layer.stride,
            padding=layer.padding,
            groups=layer.groups,
            bias=layer.bias,
        )
    if layer.kind == "layernorm":
        return nn.LayerNorm(layer.features, elementwise_affine=layer.affine)
    return _BatchNorm(layer.features, affine=layer.affine)


class _BatchNorm(nn.BatchNorm2d):
    """Of rows as well."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def _place(root: nn.Module, name: str, module: nn.Module) -> None:
    """Add a layer under a name with dots, in containers that do nothing."""
    *path, last = name.split(".")
    try:
        for part in path:
            if part not in root._modules:
                root.add_module(part, _Container())
            inner = root._modules[part]
            if not isinstance(inner, _Container):
                raise KeyError(part)
            root = inner
        if last in root._modules:
            raise KeyError(last)
        root.add_module(last, module)
    except KeyError as error:  # a name of nn.Module's own, or of a layer that is there
        raise UnknownArchitecture(f"a layer cannot be called {name!r}") from error


class _Container(nn.Module):
    """Holds names."""


def _flatten(x: Tensor) -> Tensor:
    return x.flatten(1)


def _global_average(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def _global_maximum(x: Tensor) -> Tensor:
    return x.amax((2, 3), keepdim=True)


_PLAIN: dict[str, Step | None] = {
    "flatten": _flatten,
    "global_avgpool": _global_average,
    "global_maxpool": _global_maximum,
    "dropout": None,
}
