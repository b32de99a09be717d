"""The architectures by name: how each is built, recognised and served; layers are in `models.networks`."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import isqrt
from typing import Any, TypeVar

import torch
from torch import nn

from models import networks
from models.card import Shape
from models.efficientnet import EfficientNetLite0
from models.errors import UnknownArchitecture
from models.graphs.module import ONNX, Graph
from models.stacks import SEQUENTIAL, Sequential
from models.state_dicts import StateDict, strip_prefixes
from models.table_networks import TableNetwork
from models.weights_file import summary

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Architecture:
    """One entry of the registry.

    `build` makes the module from keyword arguments; `first` and `last` name the layers whose weights
    reveal those arguments, given a state_dict (`first` is None where the input shape is not an argument).
    `fuse` turns the module into one that needs fewer steps for the same logits, on the same weights.
    `pads` says that zeros are put around what its first layer is given, beside that layer's own padding.
    `background` says that it may have a score for what is none of its classes: `build` takes an argument of
    that name, which has this value in new models, and the module has `background` and `judge`.
    """

    build: Callable[..., nn.Module]
    first: str | None
    last: str
    fuse: Callable[[Any], nn.Module] | None = None
    pads: bool = False
    background: bool | int = False

    def builds(self) -> Iterator[dict[str, Any]]:
        """The arguments that decide which layers there are, all of them in turn."""
        yield {}
        if self.background:
            yield {"background": self.background}

    def arguments(self, weights: StateDict) -> dict[str, Any]:
        """The keyword arguments of the module that has these weights."""
        arguments: dict[str, Any] = {"classes": _matrix(weights, f"{self.last}.weight")[0]}
        if self.first is not None:
            arguments["input_shape"] = _square(_matrix(weights, f"{self.first}.weight")[1])
        return arguments

    def serving_form(self, module: nn.Module) -> nn.Module:
        """A copy of a module of this architecture for serving, in evaluation mode: the same logits in fewer
        steps (its gradient may be slower).

        Its layers are its own, their weights are the module's tensors.
        """
        copy = shallow_copy(module)
        return (self.fuse(copy) if self.fuse else copy).eval()


@dataclass(frozen=True)
class PictureArchitecture(Architecture):
    """An architecture for pictures of many sizes: the layers alone do not say which."""

    def arguments(self, weights: StateDict) -> dict[str, Any]:
        raise UnknownArchitecture(
            "has weights for pictures of a size that only its card tells: put the card beside it"
        )


@dataclass(frozen=True)
class DigitsArchitecture(Architecture):
    """Its background sees what one or two convolutions say."""

    def arguments(self, weights: StateDict) -> dict[str, Any]:
        arguments = super().arguments(weights)
        if (name := "background.0.weight") in weights:
            stages, rest = divmod(_matrix(weights, name)[1], networks.Digits.FEATURES)
            if rest or stages not in (1, 2):
                raise UnknownArchitecture(
                    f"has {name} of shape {list(weights[name].shape)}, which fits no convolutions"
                )
            arguments["background"] = stages
        return arguments


@dataclass(frozen=True)
class ScratchArchitecture(Architecture):
    """An architecture of bare tensors: `first` and `last` name matrices [inputs, outputs], as in textbooks."""

    def arguments(self, weights: StateDict) -> dict[str, Any]:
        return {
            "classes": _matrix(weights, self.last)[1],
            "input_shape": _square(_matrix(weights, self.first or self.last)[0]),
        }


ARCHITECTURES: Mapping[str, Architecture] = {
    "softmax-scratch": ScratchArchitecture(networks.SoftmaxScratch, first="W", last="W"),
    "softmax": Architecture(networks.Softmax, first="linear", last="linear"),
    "mlp-scratch": ScratchArchitecture(networks.MLPScratch, first="W1", last="W2"),
    "softmax-mnist": Architecture(networks.SoftmaxMNIST, first="fc1", last="fc1"),
    "mlp": Architecture(networks.MLP, first="linear1", last="linear5"),
    "mlp-256": Architecture(networks.SmallMLP, first="linear1", last="linear2"),
    "mlp-adam": Architecture(networks.SequentialMLP, first="fc_layers.0", last="fc_layers.8"),
    "cnn": Architecture(networks.CNN, first=None, last="fc", fuse=networks.FusedCNN),
    "digits": DigitsArchitecture(
        networks.Digits, first=None, last="fc2", fuse=networks.FusedDigits.of, background=2
    ),
    "garments": Architecture(networks.Garments, first=None, last="fc", background=True),
    "small-image": PictureArchitecture(networks.SmallImage, first="stem.0", last="fc", background=True),
    "efficientnet-lite0": PictureArchitecture(
        EfficientNetLite0, first="stem.conv", last="fc", pads=True, background=True
    ),
}

TABLES: Mapping[str, Callable[..., nn.Module]] = {
    "table": TableNetwork
}  # of rows; their card tells the arguments

STACKS: Mapping[str, Callable[..., nn.Module]] = {
    SEQUENTIAL: Sequential
}  # of pictures; their card lists the layers

GRAPHS: Mapping[str, Callable[..., nn.Module]] = {ONNX: Graph}  # of pictures; their weights are the whole file


def arguments_for(name: str, classes: int, shape: Shape) -> dict[str, Any]:
    """The keyword arguments of that architecture for so many classes and images of that shape.

    Raises UnknownArchitecture, a sentence, for one that takes no such images.
    """
    architecture = ARCHITECTURES[name]
    if isinstance(architecture, PictureArchitecture):
        return {"classes": classes, "input_shape": shape}
    if shape == networks.MNIST_SHAPE:
        return {"classes": classes}
    if architecture.first is None or shape[0] != 1:
        takes = "grey pictures of any size" if architecture.first else "grey pictures of 28x28 pixels"
        raise UnknownArchitecture(
            f"architecture {name!r} takes {takes}, not {shape[2]}x{shape[1]} "
            f"{'in colour' if shape[0] == 3 else 'in grey'}: choose the recipe auto"
        )
    return {"classes": classes, "input_shape": shape}


def serving_form(name: str, module: nn.Module) -> nn.Module:
    """`Architecture.serving_form` of the architecture of that name; of an unknown one, the plain copy."""
    architecture = ARCHITECTURES.get(name)
    return architecture.serving_form(module) if architecture else shallow_copy(module).eval()


def shallow_copy(module: M) -> M:
    """New layers on the same weights: replacing a weight in the copy leaves the module as it is."""
    return deepcopy(module, {id(tensor): tensor for tensor in module.parameters()})


def build(name: str, **arguments: Any) -> nn.Module:
    """A freshly initialised module.

    Raises UnknownArchitecture for a name that is in neither registry, or arguments that it does not take.
    """
    described = {**TABLES, **STACKS, **GRAPHS}
    if name not in ARCHITECTURES and name not in described:
        raise UnknownArchitecture(f"there is no architecture {name!r}: choose one of {_names()}")
    try:
        return described[name](**arguments) if name in described else ARCHITECTURES[name].build(**arguments)
    except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:  # torch's, of sizes
        raise UnknownArchitecture(f"architecture {name!r} does not take these arguments: {error}") from error


def identify(weights: StateDict) -> tuple[str, dict[str, Any]]:
    """The name and arguments of the architecture that has these state_dict keys, common prefixes apart.

    Raises UnknownArchitecture where no architecture, or none of these sizes, has them.
    """
    for name, architecture in ARCHITECTURES.items():
        for layers in architecture.builds():
            with torch.device("meta"):  # names without numbers
                expected = architecture.build(**layers).state_dict()
            named = strip_prefixes(weights, expected)
            if named is not None:
                return name, layers | architecture.arguments(named)
    raise UnknownArchitecture(f"has layers of no known architecture ({summary(weights)}): known are {_names()}")


def _matrix(weights: StateDict, name: str) -> torch.Size:
    """The shape of a weight that must be a matrix, neither side empty."""
    shape = weights[name].shape
    if len(shape) != 2 or 0 in shape:
        raise UnknownArchitecture(f"has {name} of shape {list(shape)}, which should be a matrix")
    return shape


def _square(features: int) -> Shape:
    side = isqrt(features)
    if side * side != features:
        raise UnknownArchitecture(f"takes {features} features, which are not a square image of one channel")
    return (1, side, side)


def _names() -> str:
    return ", ".join((*ARCHITECTURES, *TABLES, *STACKS, *GRAPHS))
