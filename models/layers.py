"""Layers in a row, as a card describes them, and what becomes of a picture on the way. Without torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from models.card import Shape
from models.errors import UnknownArchitecture, first_problem

MAX_LAYERS = 200
MAX_MULTIPLICATIONS = 10**9  # of a picture: about 50 ms of a CPU
MAX_NUMBERS = 2**20  # that a layer gives for a picture
MAX_PARAMETERS = 2**27  # 512 MiB as float32

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", max_length=200)]
Width = Annotated[int, Field(ge=1, le=2**24)]
Pair = tuple[Annotated[int, Field(ge=0, le=64)], Annotated[int, Field(ge=0, le=64)]]
Sizes = tuple[int, ...]  # (channels, height, width), or (features,)
ActivationKind = Literal["relu", "tanh", "sigmoid", "gelu", "leaky_relu", "elu", "silu"]


class _Layer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def parameters(self) -> int:
        """How many numbers are learned."""
        return 0


class Linear(_Layer):
    """`<name>.weight` [outputs, inputs], and `<name>.bias`."""

    kind: Literal["linear"] = "linear"
    name: Name
    inputs: Width
    outputs: Width
    bias: bool = True

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs + self.outputs * self.bias


class Conv2d(_Layer):
    """`<name>.weight` [outputs, inputs / groups, *kernel], and `<name>.bias`."""

    kind: Literal["conv2d"] = "conv2d"
    name: Name
    inputs: Width
    outputs: Width
    kernel: Pair
    stride: int = Field(default=1, ge=1, le=16)
    padding: Pair = (0, 0)
    groups: Width = 1
    bias: bool = True

    @property
    def parameters(self) -> int:
        return self.inputs // self.groups * self.outputs * prod(self.kernel) + self.outputs * self.bias


class Norm(_Layer):
    """Batch normalisation by the running mean and variance, or `layernorm` of the features of a row."""

    kind: Literal["batchnorm", "layernorm"] = "batchnorm"
    name: Name
    features: Width
    affine: bool = True

    @property
    def parameters(self) -> int:
        return 2 * self.features * self.affine


class Activation(_Layer):
    """Of every number by itself."""

    kind: ActivationKind


class Pool(_Layer):
    """The largest, or the mean, of `size` x `size` numbers."""

    kind: Literal["maxpool", "avgpool"]
    size: int = Field(default=2, ge=2, le=64)
    stride: int = Field(default=2, ge=1, le=64)


class Plain(_Layer):
    """`global_avgpool` and `global_maxpool` leave a number of each channel, `flatten` makes a row of channels
    after each other, `dropout` changes nothing in a model that answers."""

    kind: Literal["flatten", "global_avgpool", "global_maxpool", "dropout"]


Layer = Linear | Conv2d | Norm | Activation | Pool | Plain
_LAYERS: TypeAdapter[tuple[Layer, ...]] = TypeAdapter(
    Annotated[tuple[Annotated[Layer, Field(discriminator="kind")], ...], Field(max_length=MAX_LAYERS)]
)


@dataclass(frozen=True)
class Costs:
    """Of one picture: the classes that come out, multiplications, the most numbers at a time."""

    classes: int
    multiplications: int
    numbers: int


def read_layers(described: Any) -> tuple[Layer, ...]:
    """Layers from the dictionaries on a card. Raises UnknownArchitecture, naming the first that is wrong."""
    try:
        return _LAYERS.validate_python(described)
    except ValidationError as error:
        raise UnknownArchitecture(f"its layers cannot be read: {first_problem(error)}") from error


def describe(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """As `read_layers` takes them."""
    return [layer.model_dump(mode="json") for layer in layers]


def costs(layers: Sequence[Layer], shape: Shape) -> Costs:
    """What a picture of that shape costs. Raises UnknownArchitecture where a layer does not take what comes
    from the one before, or where the whole is too much to be served."""
    sizes: Sizes = tuple(shape)
    multiplications, numbers = 0, prod(sizes)
    for layer in layers:
        sizes = after(layer, sizes)
        multiplications += _multiplications(layer, sizes)
        numbers = max(numbers, prod(sizes))
    if len(sizes) != 1 or sizes[0] < 2:
        raise UnknownArchitecture(f"gives {_text(sizes)}, which are not figures of two or more classes")
    if multiplications > MAX_MULTIPLICATIONS or numbers > MAX_NUMBERS:
        raise UnknownArchitecture(
            f"needs {multiplications:,} multiplications and {numbers:,} numbers at a time for a picture; "
            f"at most {MAX_MULTIPLICATIONS:,} and {MAX_NUMBERS:,} are served"
        )
    if sum(layer.parameters for layer in layers) > MAX_PARAMETERS:
        raise UnknownArchitecture(f"has more than {MAX_PARAMETERS:,} parameters")
    return Costs(sizes[0], multiplications, numbers)


def after(layer: Layer, sizes: Sizes) -> Sizes:
    """The sizes of what a layer makes of that. Raises UnknownArchitecture where it does not take it."""
    if isinstance(layer, Linear):
        _require(layer, sizes == (layer.inputs,), f"{layer.inputs} numbers in a row", sizes)
        return (layer.outputs,)
    if isinstance(layer, Conv2d):
        _require(layer, len(sizes) == 3 and sizes[0] == layer.inputs, f"{layer.inputs} channels", sizes)
        fits = layer.inputs % layer.groups == 0 == layer.outputs % layer.groups and min(layer.kernel) > 0
        _require(layer, fits, "a kernel and channels in as many groups", sizes)
        pairs = zip(sizes[1:], layer.kernel, layer.padding, strict=True)
        return (layer.outputs, *_positive(layer, [(s + 2 * p - k) // layer.stride + 1 for s, k, p in pairs]))
    if isinstance(layer, Norm):
        rows = layer.kind != "layernorm" or len(sizes) == 1
        _require(layer, sizes[0] == layer.features and rows, f"{layer.features} features", sizes)
        return sizes
    if isinstance(layer, Pool):
        _require(layer, len(sizes) == 3, "channels of pictures", sizes)
        return (sizes[0], *_positive(layer, [(s - layer.size) // layer.stride + 1 for s in sizes[1:]]))
    if layer.kind == "flatten":
        return (prod(sizes),)
    if layer.kind in ("global_avgpool", "global_maxpool"):
        _require(layer, len(sizes) == 3, "channels of pictures", sizes)
        return (sizes[0], 1, 1)
    return sizes


def summary(layers: Sequence[Layer]) -> str:
    """One line for people: `conv2d conv1 1-32 3x3, relu, ..`."""
    return ", ".join(_words(layers))


def _words(layers: Sequence[Layer]) -> Iterator[str]:
    for layer in layers:
        if isinstance(layer, Conv2d):
            more = f" stride {layer.stride}" if layer.stride > 1 else ""
            more += f" padding {layer.padding[0]}" if any(layer.padding) else ""
            kernel = f"{layer.kernel[0]}x{layer.kernel[1]}"
            yield f"{layer.name} (conv2d {layer.inputs}-{layer.outputs} {kernel}{more})"
        elif isinstance(layer, Linear):
            yield f"{layer.name} (linear {layer.inputs}-{layer.outputs})"
        elif isinstance(layer, Norm):
            yield f"{layer.name} ({layer.kind})"
        else:
            yield f"{layer.kind} {layer.size}" if isinstance(layer, Pool) else layer.kind


def _multiplications(layer: Layer, after: Sizes) -> int:
    if isinstance(layer, Conv2d):
        return prod(after) * (layer.inputs // layer.groups) * prod(layer.kernel)
    return layer.inputs * layer.outputs if isinstance(layer, Linear) else 0


def _positive(layer: Layer, sizes: list[int]) -> list[int]:
    if min(sizes) < 1:
        raise UnknownArchitecture(f"its layer {_called(layer)} gets a picture that is smaller than it takes")
    return sizes


def _require(layer: Layer, fits: bool, takes: str, sizes: Sizes) -> None:
    if not fits:
        raise UnknownArchitecture(f"its layer {_called(layer)} takes {takes}, and gets {_text(sizes)}")


def _called(layer: Layer) -> str:
    return str(getattr(layer, "name", layer.kind))


def _text(sizes: Sizes) -> str:
    return f"{sizes[0]:,} numbers" if len(sizes) == 1 else " x ".join(map(str, sizes)) + " numbers"
