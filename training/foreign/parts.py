"""The layers with weights in a state_dict, and their order, as names and shapes tell it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from models.errors import UnknownArchitecture
from models.layers import MAX_LAYERS, Norm

_PARAMETERS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_NOT_IN_A_ROW = re.compile(
    r"(?i)downsample|shortcut|(^|[._])skip|residual|(^|[._])(attn|attention|query|lstm|gru|rnn|embed)"
    r"|(^|\.)layer\d+\.\d+\.conv\d"
)
_PRUNED = re.compile(r"weight_(orig|mask|g|v)$|parametrizations\.")


@dataclass(frozen=True)
class Main:
    """A linear layer or a convolution [outputs, inputs / groups, kernel], and the normalisation behind it."""

    name: str
    inputs: int
    outputs: int
    kernel: tuple[int, int] | None
    bias: bool
    groups: int = 1
    norm: Norm | None = None

    @property
    def is_linear(self) -> bool:
        return self.kernel is None


@dataclass(frozen=True)
class Row:
    """Layers in order, and a normalisation of the picture before the first."""

    mains: tuple[Main, ...]
    before: Norm | None
    sure: bool  # whether the order is the file's, or that of numbers in the names


def row_of(weights: Mapping[str, Tensor], keeps_order: bool) -> Row:
    """The layers of a plain stack. `keeps_order`: the file has its entries as they were defined.

    Raises UnknownArchitecture, saying which entry belongs to no such stack, or that there is no one order.
    """
    mains, norms = _parts(weights)
    if not mains:
        raise UnknownArchitecture("has no linear layers and no convolutions")
    names = list(dict.fromkeys(name.rpartition(".")[0] for name in weights))
    orders = [sorted(names, key=natural)]
    if keeps_order:
        orders.insert(0, names)
    for order in orders:
        chained = _chained([mains[name] for name in order if name in mains])
        if chained is not None:
            row, before = _with_norms(chained, norms, order)
            return Row(row, before, True)
    found = _only_chain(list(mains.values()))
    row, before = _with_norms(found, norms, [])
    return Row(row, before, False)


def natural(name: str) -> list[tuple[int, str]]:
    """For sorting: `10` after `9`."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part != ""
    ]


def _parts(weights: Mapping[str, Tensor]) -> tuple[dict[str, Main], dict[str, Norm]]:
    entries: dict[str, dict[str, Tensor]] = {}
    for key, tensor in weights.items():
        name, _, parameter = key.rpartition(".")
        if parameter not in _PARAMETERS or not name or _NOT_IN_A_ROW.search(key):
            raise UnknownArchitecture(_why_not(key))
        entries.setdefault(name, {})[parameter] = tensor
    if len(entries) > MAX_LAYERS // 3:
        raise UnknownArchitecture(f"has {len(entries)} layers, more than {MAX_LAYERS // 3}")
    mains, norms = {}, {}
    for name, tensors in entries.items():
        part = _part(name, tensors)
        if isinstance(part, Main):
            mains[name] = part
        else:
            norms[name] = part
    return mains, norms


def _why_not(key: str) -> str:
    if _PRUNED.search(key):
        return (
            f"has {key!r}, of a layer that is pruned or reparametrised: make it plain first "
            "(torch.nn.utils.prune.remove, remove_weight_norm, parametrize.remove_parametrizations)"
        )
    return f"has {key!r}, which is not of layers in a row: linear, conv2d, batchnorm, layernorm"


def _part(name: str, tensors: Mapping[str, Tensor]) -> Main | Norm:
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if {"running_mean", "running_var"} <= tensors.keys():
        shapes = {tuple(t.shape) for key, t in tensors.items() if key != "num_batches_tracked"}
        if len(shapes) == 1 and len(next(iter(shapes))) == 1 and (weight is None) == (bias is None):
            features = tensors["running_mean"].shape[0]
            return Norm(name=name, features=features, affine=weight is not None)
    elif weight is not None and weight.ndim in (2, 4) and weight.numel():
        if set(tensors) <= {"weight", "bias"} and (bias is None or tuple(bias.shape) == weight.shape[:1]):
            kernel = (weight.shape[2], weight.shape[3]) if weight.ndim == 4 else None
            return Main(name, weight.shape[1], weight.shape[0], kernel, bias is not None)
    elif weight is not None and bias is not None and weight.ndim == 1 and weight.shape == bias.shape:
        return Norm(kind="layernorm", name=name, features=weight.shape[0])
    shapes_text = ", ".join(f"{key} {'x'.join(map(str, tensor.shape))}" for key, tensor in tensors.items())
    raise UnknownArchitecture(f"has a layer {name!r} of no known kind ({shapes_text})")


def _chained(mains: Iterable[Main]) -> tuple[Main, ...] | None:
    """The same, with their groups, if each takes what the one before gives."""
    found: list[Main] = []
    for main in mains:
        if not found:
            found.append(main)
            continue
        linked = _linked(found[-1], main)
        if linked is None:
            return None
        found.append(linked)
    return tuple(found)


def _linked(before: Main, main: Main) -> Main | None:
    if main.is_linear:
        fits = main.inputs == before.outputs or (not before.is_linear and main.inputs % before.outputs == 0)
        return main if fits else None
    if before.is_linear:
        return None
    if main.inputs == before.outputs:
        return main
    if main.inputs == 1 and main.outputs % before.outputs == 0:  # a depthwise convolution
        return replace(main, inputs=before.outputs, groups=before.outputs)
    return None


def _only_chain(mains: Sequence[Main]) -> tuple[Main, ...]:
    """The one order in which each takes what the one before gives. Raises UnknownArchitecture."""
    found: list[tuple[Main, ...]] = []
    tries = 0

    def extend(row: tuple[Main, ...], left: tuple[Main, ...]) -> None:
        nonlocal tries
        tries += 1
        if len(found) > 1 or tries > 20_000:
            return
        if not left:
            found.append(row)
        for index, main in enumerate(left):
            linked = _linked(row[-1], main) if row else main
            if linked is not None:
                extend((*row, linked), (*left[:index], *left[index + 1 :]))

    extend((), tuple(mains))
    if len(found) != 1:
        shapes = ", ".join(_text(main) for main in mains[:8])
        more = (
            "more than one order of its layers is possible" if found else "its layers do not follow each other"
        )
        raise UnknownArchitecture(f"cannot be read as layers in a row: {more} ({shapes})")
    return found[0]


def _text(main: Main) -> str:
    kernel = "" if main.kernel is None else f" {main.kernel[0]}x{main.kernel[1]}"
    return f"{main.name} {main.inputs}-{main.outputs}{kernel}"


def _with_norms(
    mains: tuple[Main, ...], norms: Mapping[str, Norm], order: Sequence[str]
) -> tuple[tuple[Main, ...], Norm | None]:
    """Each normalisation behind its layer: the one that it follows in the order, or that has its number, or the
    next of its width."""
    for pairs in (_by_place(mains, norms, order), _by_number(mains, norms), _by_width(mains, norms)):
        found, before = dict(pairs), None
        if None in found:
            before = found.pop(None)
        if len(found) + (before is not None) == len(norms):
            return tuple(replace(main, norm=found.get(main.name)) for main in mains), before
    raise UnknownArchitecture(
        f"has normalisations of which it is not plain where they belong ({', '.join(list(norms)[:4])})"
    )


Pairs = Iterator[tuple[str | None, Norm]]


def _by_place(mains: Sequence[Main], norms: Mapping[str, Norm], order: Sequence[str]) -> Pairs:
    by_name = {main.name: main for main in mains}
    last: Main | None = None
    for name in order:
        if name in by_name:
            last = by_name[name]
        elif name in norms and last is None and norms[name].features == mains[0].inputs:
            yield None, norms[name]
        elif name in norms and last is not None and norms[name].features == last.outputs:
            yield last.name, norms[name]


def _by_number(mains: Sequence[Main], norms: Mapping[str, Norm]) -> Pairs:
    taken: set[str] = set()
    for name in sorted(norms, key=natural):
        fitting = [m for m in mains if m.name not in taken and m.outputs == norms[name].features]
        same = [main for main in fitting if _number(main.name) == _number(name)]
        named = [main for main in same if re.sub(r"[\d.]", "", main.name) in name]
        if chosen := (named or same)[:1]:
            taken.add(chosen[0].name)
            yield chosen[0].name, norms[name]


def _by_width(mains: Sequence[Main], norms: Mapping[str, Norm]) -> Pairs:
    start = 0
    for name in sorted(norms, key=natural):
        for index in range(start, len(mains)):
            if mains[index].outputs == norms[name].features:
                start = index + 1
                yield mains[index].name, norms[name]
                break


def _number(name: str) -> str | None:
    found = re.findall(r"\d+", name)
    return found[-1] if found else None
