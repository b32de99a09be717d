"""The layers of a model that is ready to be asked: their kinds, the shapes that they give, their parameters."""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.architectures import shallow_copy
from models.graphs.module import Graph


class Layer(NamedTuple):
    """A module that computes by itself, in the order in which the modules are asked."""

    name: str  # of the module, as in the keys of the state_dict; "" is the model itself
    kind: str
    output: tuple[int, ...] | None  # its shape for one input; None where it is not one tensor, or not asked
    parameters: int  # learned numbers


def layers(model: nn.Module, inputs: Tensor) -> list[Layer]:
    """By asking a copy about one input: what serves is left alone."""
    if isinstance(model, Graph):
        return [Layer("onnx", "ONNX graph", (model.classes,) if model.classes else None, model.learned)]
    model = shallow_copy(model)
    asked: dict[str, tuple[int, ...] | None] = {}
    own = {name: _parameters(module) for name, module in model.named_modules()}
    parts = {name: module for name, module in model.named_modules() if _computes(module)}
    for name, module in parts.items():
        module.register_forward_hook(partial(_note, asked, name))
    with torch.inference_mode():
        model(inputs)
    asked |= {name: None for name in parts if name not in asked and own[name]}
    return [Layer(name, type(parts[name]).__name__, shape, own[name]) for name, shape in asked.items()]


def _computes(module: nn.Module) -> bool:
    """Whether it is no mere container of others."""
    return _parameters(module) > 0 or not any(True for _ in module.children())


def _parameters(module: nn.Module) -> int:
    """Its own, without those of the modules in it."""
    return sum(parameter.numel() for parameter in module.parameters(recurse=False))


def _note(asked: dict[str, tuple[int, ...] | None], name: str, module: nn.Module, _: Any, output: Any) -> None:
    if name not in asked:
        asked[name] = tuple(output.shape[1:]) if isinstance(output, Tensor) else None
