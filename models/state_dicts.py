"""State_dicts: found in what a file holds, and matched with the layers of a model."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.errors import CheckpointError
from models.weights_file import load, summary

StateDict = Mapping[str, Tensor]


def parse(data: bytes) -> StateDict:
    """The tensors by layer name in a weights file: a state_dict, alone or as an entry of a training checkpoint
    (`model_state_dict`, Lightning's `state_dict`, ..).

    Raises CheckpointError: one sentence, without the file's name.
    """
    return _tensors(load(data))


def _tensors(loaded: Any) -> StateDict:
    """The state_dict in what was loaded: itself, or the only entry that is one."""
    if not isinstance(loaded, dict):
        kind = "one tensor" if isinstance(loaded, Tensor) else f"a {type(loaded).__name__}"
        raise CheckpointError(f"holds {kind}, not tensors by layer name: save model.state_dict()")
    if _is_state_dict(loaded):
        return loaded
    found = {str(key): value for key, value in loaded.items() if _is_state_dict(value)}
    for key in ("model_state_dict", "state_dict", "model"):
        if key in found:
            return found[key]
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise CheckpointError(f"holds several sets of weights ({summary(found)}): save the one to use alone")
    if "param_groups" in loaded:
        raise CheckpointError("holds the state of an optimizer, not of a model: save model.state_dict()")
    entries = f"only {summary(loaded)}" if loaded else "nothing"
    raise CheckpointError(f"holds no weights ({entries}): save model.state_dict()")


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in value.items())
    )


def match(weights: StateDict, expected: StateDict) -> StateDict:
    """The weights under the names, and of the shapes, that `expected` has (on any device, values unused).

    Prefixes that all names share (`module.`, `_orig_mod.`, Lightning's `model.`) are removed where that helps.
    Raises CheckpointError, a sentence without the file.
    """
    named = strip_prefixes(weights, expected)
    if named is None:
        raise CheckpointError(f"has the layers {summary(weights)}, not {summary(expected)}")
    for name, tensor in named.items():
        _check(name, tensor, expected[name])
    return named


def strip_prefixes(weights: StateDict, expected: StateDict) -> StateDict | None:
    """The weights under the names of `expected`; None where removing common prefixes does not lead there."""
    names = list(weights)
    while True:
        if set(names) == set(expected):
            return dict(zip(names, weights.values(), strict=True))
        prefix = names[0].partition(".")[0] + "."
        if not all(name.startswith(prefix) for name in names):
            return None
        names = [name.removeprefix(prefix) for name in names]


def _check(name: str, tensor: Tensor, expected: Tensor) -> None:
    if tensor.shape != expected.shape:
        raise CheckpointError(
            f"has other widths: {name} is {_shape(tensor)} instead of {_shape(expected)}; "
            "only the widths of the recipes can be used"
        )
    check_plain(name, tensor)
    if tensor.is_floating_point() != expected.is_floating_point():
        raise CheckpointError(f"holds {name} as {tensor.dtype} instead of {expected.dtype}: save it as float32")
    if not tensor.to(expected.dtype).isfinite().all():
        raise CheckpointError(f"holds infinities or NaN in {name}: the run that wrote it has diverged")


def check_plain(name: str, tensor: Tensor) -> None:
    """Raises CheckpointError for a tensor whose shape declares more numbers than the file holds."""
    if not _is_plain(tensor):
        raise CheckpointError(f"holds {name} as a sparse, quantized or expanded tensor: save a plain one")


def _is_plain(tensor: Tensor) -> bool:
    """Whether all numbers that the shape declares are there: not sparse, quantized, or one number repeated."""
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
