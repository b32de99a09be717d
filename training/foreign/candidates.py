"""The architectures that a state_dict may belong to: a registered one by its keys, else layers in a row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.architectures import ARCHITECTURES, STACKS, TABLES, Architecture, PictureArchitecture, build
from models.card import Shape
from models.checkpoint import build_with
from models.errors import CheckpointError, ModelError, UnknownArchitecture
from models.layers import MAX_PARAMETERS, describe, summary
from models.stacks import SEQUENTIAL
from models.state_dicts import StateDict, check_plain, match, strip_prefixes
from training.foreign.order import Order
from training.foreign.parts import Row, row_of
from training.foreign.readings import Reading, readings

WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and torch.compile; the class does not know them
TRACKED = "num_batches_tracked"
SHOWN = 6  # names of keys in a sentence


@dataclass(frozen=True)
class Candidate:
    """An architecture that these weights fit. `reading` is None where nothing had to be inferred."""

    architecture: str
    arguments: Mapping[str, Any]
    weights: StateDict
    shape: Shape | None  # None: rows of a table
    reading: Reading | None = None
    made: nn.Module | None = None  # an ONNX graph, whose process has been started
    said: str = ""  # what it was brought as, where that was no weights

    def model(self) -> nn.Module:
        """For trying: in evaluation mode, on the weights themselves."""
        if self.made is not None:
            return self.made
        with torch.device("meta"):
            model = build(self.architecture, **self.arguments)
        model.load_state_dict(self.weights, assign=True)
        return model.eval().requires_grad_(False)

    @classmethod
    def of(cls, reading: Reading, weights: StateDict) -> "Candidate":
        layers = reading.layers()
        arguments = {"layers": describe(layers), "input_shape": list(reading.shape)}
        return cls(SEQUENTIAL, arguments, weights, reading.shape, reading)

    def built(self) -> nn.Module:
        """To be kept. Raises ModelError where the weights do not fit."""
        return self.made or build_with(self.architecture, self.arguments, self.weights)

    def describe(self) -> str:
        if self.reading is None:
            return f"the layers of architecture {self.architecture!r}"
        return f"the layers {summary(self.reading.layers())}"


def cleaned(weights: StateDict) -> dict[str, Tensor]:
    """The same as float32, without the prefixes of wrappers.

    Raises CheckpointError for what is no plain tensor of finite numbers, or for tensors that share memory,
    which would become many times as large.
    """
    names = list(weights)
    while (prefix := next((p for p in WRAPPERS if all(n.startswith(p) for n in names)), None)) is not None:
        names = [name.removeprefix(prefix) for name in names]
    tensors = dict(zip(names, weights.values(), strict=True))
    for name, tensor in tensors.items():
        check_plain(name, tensor)
    _check_memory(tensors)
    found = {name: _number(name, tensor) for name, tensor in tensors.items()}
    for name in [name for name in found if name.endswith("running_mean")]:
        found.setdefault(f"{name.removesuffix('running_mean')}{TRACKED}", torch.tensor(0))
    return found


def _check_memory(tensors: Mapping[str, Tensor]) -> None:
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()
    }
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > sum(storages.values()):
        raise CheckpointError("holds tensors that share their numbers: save a copy of each (tensor.clone())")
    if (count := sum(tensor.numel() for tensor in tensors.values())) > MAX_PARAMETERS:
        raise CheckpointError(f"holds {count:,} numbers, more than the {MAX_PARAMETERS:,} that are served")


def _number(name: str, tensor: Tensor) -> Tensor:
    if name.rpartition(".")[2] == TRACKED:
        return tensor.detach().double().nan_to_num(0, 0, 0).long()
    if not tensor.is_floating_point():
        raise CheckpointError(f"holds {name} as {tensor.dtype}, which is no float: save it as float32")
    plain = tensor.detach().float().contiguous()
    if not plain.isfinite().all():
        raise CheckpointError(f"holds infinities or NaN in {name}: the run that wrote it has diverged")
    return plain


def candidates(weights: StateDict, order: Order, shape: Shape | None, keeps_order: bool) -> list[Candidate]:
    """What these weights fit, most likely first. `shape` is that of the pictures, where it is known.

    Raises ModelError: a sentence that says what fits best, and what is missing.
    """
    if order.architecture in TABLES or (order.arguments is not None and order.architecture is not None):
        return [_said(weights, order, shape)]
    only = order.architecture
    if only is not None and only not in ARCHITECTURES and only not in STACKS:
        names = ", ".join((*ARCHITECTURES, *STACKS))
        raise UnknownArchitecture(f"there is no architecture {only!r}: choose one of {names}")
    other = only is None and order.activation not in (None, "relu")  # that of the known ones
    found = [] if only in STACKS or other else [*_registered(weights, only, shape)]
    if only is not None and only not in STACKS:
        if not found:
            raise UnknownArchitecture(f"is not of architecture {only!r}: {differences(weights, only)}")
        return found
    if any(tensor.ndim == 4 for one in found for tensor in one.weights.values()):
        return found  # to try other readings of its layers as well would take long
    try:
        row = row_of(weights, keeps_order)
        return [*found, *_stacks(row, weights, order, shape)]
    except UnknownArchitecture as error:
        if found:
            return found
        raise UnknownArchitecture(f"{error}. {nearest(weights)}") from error


def _stacks(row: Row, weights: StateDict, order: Order, shape: Shape | None) -> Iterator[Candidate]:
    for reading in readings(row, shape, order.activation or "relu"):
        yield Candidate.of(reading, weights)


def _said(weights: StateDict, order: Order, shape: Shape | None) -> Candidate:
    """As the card says."""
    name, arguments = str(order.architecture), dict(order.arguments or {})
    if name in STACKS and shape is not None:
        arguments.setdefault("input_shape", list(shape))
    if order.table is not None and name in TABLES:
        shape = None
    elif "input_shape" in arguments:
        shape = _shape(arguments["input_shape"])
    try:
        with torch.device("meta"):
            expected = build(name, **arguments).state_dict()
    except ModelError:
        raise
    except Exception as error:  # torch raises whatever sizes that are none lead to
        raise UnknownArchitecture(f"has a card whose arguments architecture {name!r} does not take") from error
    return Candidate(name, arguments, match(weights, expected), shape or (None if order.table else (1, 28, 28)))


def _shape(given: Any) -> Shape:
    if not isinstance(given, list | tuple) or len(given) != 3 or not all(isinstance(n, int) for n in given):
        raise UnknownArchitecture("has an input_shape on its card that is not [channels, height, width]")
    return (given[0], given[1], given[2])


def _registered(weights: StateDict, only: str | None, shape: Shape | None) -> Iterator[Candidate]:
    for name, architecture in ARCHITECTURES.items():
        if only not in (None, name):
            continue
        named = strip_prefixes(weights, _expected(architecture))
        if named is None:
            continue
        try:
            arguments = _arguments(name, architecture, named, shape)
            with torch.device("meta"):
                fitted = match(named, build(name, **arguments).state_dict())
        except (UnknownArchitecture, CheckpointError):
            if only is not None or isinstance(architecture, PictureArchitecture):
                raise
            continue  # of other widths: perhaps layers in a row
        takes = arguments.get("input_shape", (1, 28, 28))
        if shape in (None, takes):
            yield Candidate(name, arguments, fitted, takes)


def _expected(architecture: Architecture) -> StateDict:
    with torch.device("meta"):
        return architecture.build().state_dict()


def _arguments(name: str, architecture: Architecture, named: StateDict, shape: Shape | None) -> dict[str, Any]:
    if not isinstance(architecture, PictureArchitecture):
        return architecture.arguments(named)
    if shape is None:
        raise UnknownArchitecture(
            f"has the layers of {name!r}, for pictures of a size that weights do not tell: say it on the card, "
            '{"input_shape": [channels, height, width]}, or name its data set'
        )
    arguments = {"classes": named[f"{architecture.last}.weight"].shape[0], "input_shape": shape}
    if name == "small-image":
        arguments["width"] = named["stem.0.weight"].shape[0]
    return arguments


def nearest(weights: StateDict) -> str:
    """Which registered architecture has most of these keys, and what differs."""

    def shared(name: str) -> float:
        expected = set(_expected(ARCHITECTURES[name]))
        mine = set(_unprefixed(weights, expected))
        return len(mine & expected) / len(mine | expected)

    best = max(ARCHITECTURES, key=shared)
    if shared(best) == 0:
        return f"No known architecture has any of its keys; known are {', '.join(ARCHITECTURES)}"
    return f"Of the known architectures {best!r} fits best: {differences(weights, best)}"


def differences(weights: StateDict, name: str) -> str:
    """What is missing, what is too much, which shapes are other."""
    expected = _expected(ARCHITECTURES[name])
    mine = _unprefixed(weights, set(expected))
    missing = [key for key in expected if key not in mine]
    surplus = [key for key in mine if key not in expected]
    other = [
        f"{key} is {_sizes(tensor)} instead of {_sizes(expected[key])}"
        for key, tensor in mine.items()
        if key in expected and tensor.shape != expected[key].shape
    ]
    said = [f"{word} {_list(keys)}" for word, keys in (("missing", missing), ("unexpected", surplus)) if keys]
    return "; ".join([*said, *other[:3]]) or "its widths are other"


def _unprefixed(weights: StateDict, expected: set[str]) -> dict[str, Tensor]:
    """Without the prefixes that all keys share, where that brings them nearer."""
    best = dict(weights)
    names = list(weights)
    while names and all("." in name for name in names):
        prefix = names[0].partition(".")[0] + "."
        if not all(name.startswith(prefix) for name in names):
            break
        names = [name.removeprefix(prefix) for name in names]
        if len(expected & set(names)) > len(expected & set(best)):
            best = dict(zip(names, weights.values(), strict=True))
    return best


def _list(keys: list[str]) -> str:
    shown = ", ".join(key[:80] for key in keys[:SHOWN])
    return shown + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


def _sizes(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"
