"""How layers with weights may be joined: activations, pooling, padding and strides that fit the shapes.

Weights do not tell these. The readings are ordered by how usual they are; the first is taken where nothing else
decides, a few are tried where there are pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal

from pydantic import ValidationError

from models.card import Shape
from models.errors import UnknownArchitecture, first_problem
from models.layers import Activation, ActivationKind, Conv2d, Layer, Linear, Plain, Pool, costs
from training.foreign.parts import Main, Row

MOST = 24  # readings
SIDES = {1: (28, 32, 64, 8, 16, 48, 96, 128, 224), 3: (32, 28, 64, 96, 48, 128, 224)}
Place = Literal[
    "norm, activation, pool", "activation, norm, pool", "pool, norm, activation", "activation, pool, norm"
]
PLACES: tuple[Place, ...] = (
    "norm, activation, pool",
    "activation, norm, pool",
    "pool, norm, activation",
    "activation, pool, norm",
)
Reduction = Literal["", "maxpool", "avgpool", "maxpool 3", "stride"]


@dataclass(frozen=True)
class Spatial:
    """What the convolutions do to the size of a picture; of each its padding and what halves behind it."""

    shape: Shape
    padding: tuple[int, ...] = ()
    reductions: tuple[Reduction, ...] = ()
    whole: Literal["", "global_avgpool", "global_maxpool"] = ""  # before the first linear layer


@dataclass(frozen=True)
class Reading:
    """One way to join the layers."""

    row: Row
    spatial: Spatial
    activation: ActivationKind = "relu"
    place: Place = "norm, activation, pool"

    @property
    def shape(self) -> Shape:
        return self.spatial.shape

    def layers(self) -> list[Layer]:
        """In order, as the architecture `sequential` takes them."""
        return list(self._layers())

    def _layers(self) -> Iterator[Layer]:
        mains, spatial = self.row.mains, self.spatial
        if mains[0].is_linear:
            yield Plain(kind="flatten")
        if self.row.before is not None:
            yield self.row.before
        for index, main in enumerate(mains):
            yield _layer(main, spatial, index)
            yield from self._behind(index)
            ends = index + 1 == len(mains)
            if not main.is_linear and (ends or mains[index + 1].is_linear):
                whole = spatial.whole or ("global_avgpool" if ends else "")
                if whole:
                    yield Plain(kind=whole)
                yield Plain(kind="flatten")

    def _behind(self, index: int) -> Iterator[Layer]:
        main = self.row.mains[index]
        pool = None if main.is_linear else _pool(self.spatial.reductions[index])
        acts = index + 1 < len(self.row.mains) and slots(self.row, index) != 0
        for part in self.place.split(", "):
            if part == "norm" and main.norm is not None:
                yield main.norm
            elif part == "activation" and acts:
                yield Activation(kind=self.activation)
            elif part == "pool" and pool is not None:
                yield pool

    @property
    def has_norms(self) -> bool:
        return any(main.norm is not None for main in self.row.mains)

    def inferred(self) -> str:
        """What the weights do not tell, in words."""
        return f"{self.activation} between the layers{self._pooling()}"

    def _pooling(self) -> str:
        spatial = self.spatial
        if not spatial.padding:
            return ""
        names = [main.name for main in self.row.mains]
        shrinks = [
            f"{kind} behind {name}" for name, kind in zip(names, spatial.reductions, strict=False) if kind
        ]
        shrinks = [text.replace("stride behind", "stride 2 in") for text in shrinks]
        padded = [f"{name} by {p}" for name, p in zip(names, spatial.padding, strict=False) if p]
        said = [
            ", ".join(shrinks) or "no pooling",
            f"padding of {', '.join(padded)}" if padded else "no padding",
        ]
        if spatial.whole:
            said.append(f"{spatial.whole} before the first linear layer")
        if self.has_norms:
            said.append(f"the order {self.place}")
        return "; " + "; ".join(said)


def readings(row: Row, shape: Shape | None, activation: ActivationKind = "relu") -> list[Reading]:
    """Those that fit the shapes, most usual first; with every size of picture that is usual where none is said.

    Raises UnknownArchitecture where none fits.
    """
    found: list[tuple[float, Reading]] = []
    problems: list[str] = []
    for extra, one in enumerate(_shapes(row.mains[0], shape)):
        convolutions = [main for main in row.mains if not main.is_linear]
        spatials = _spatials(row, convolutions, one) if convolutions else iter([(0.0, Spatial(one))])
        for rank, spatial in spatials:
            reading = Reading(row, spatial, activation, _place(row))
            if (problem := _problem(reading)) is None:
                found.append((rank + 4 * extra, reading))
            else:
                problems.append(problem)
    if not found and problems:
        raise UnknownArchitecture(problems[0])
    if not found:
        said = f"pictures of {shape[0]}x{shape[1]}x{shape[2]}" if shape else "any usual size of picture"
        raise UnknownArchitecture(
            f"has layers that do not fit {said}, whatever pooling and padding are between them"
        )
    found.sort(key=lambda pair: pair[0])
    return [reading for _, reading in found[:MOST]]


def slots(row: Row, index: int) -> int | None:
    """How many layers without weights are behind a layer and its normalisation, by the numbers in an
    `nn.Sequential`; None where names do not tell."""
    if index + 1 >= len(row.mains):
        return None
    main, following = row.mains[index], row.mains[index + 1]
    last = main.norm.name if main.norm is not None else main.name
    behind = _gap(last, following.name)
    between = _gap(main.name, last) if main.norm is not None else 0
    return None if behind is None or between is None else behind + between


def _gap(one: str, other: str) -> int | None:
    """How many entries of the same container are between two."""
    first, second = one.rpartition("."), other.rpartition(".")
    if first[0] != second[0] or not first[2].isdecimal() or not second[2].isdecimal():
        return None
    gap = int(second[2]) - int(first[2]) - 1
    return gap if gap >= 0 else None


def _place(row: Row) -> Place:
    """Where the normalisation is, if the numbers of an `nn.Sequential` tell."""
    for main in row.mains:
        if main.norm is not None and (gap := _gap(main.name, main.norm.name)) is not None:
            return {0: PLACES[0], 1: PLACES[1]}.get(gap, PLACES[3])
    return PLACES[0]


def _shapes(first: Main, said: Shape | None) -> list[Shape]:
    if said is not None:
        return [said]
    if not first.is_linear:
        if first.inputs not in SIDES:
            raise UnknownArchitecture(
                f"takes {first.inputs} channels in {first.name}: pictures have 1 (grey) or 3 (colour)"
            )
        return [(first.inputs, side, side) for side in SIDES[first.inputs]]
    for channels in (1, 3):
        side = round((first.inputs / channels) ** 0.5)
        if channels * side * side == first.inputs:
            return [(channels, side, side)]
    raise UnknownArchitecture(
        f"takes {first.inputs} numbers in {first.name}, which are no square picture of 1 or 3 channels: "
        'say its shape on the card, {"input_shape": [channels, height, width]}'
    )


def _spatials(row: Row, convolutions: Sequence[Main], shape: Shape) -> Iterator[tuple[float, Spatial]]:
    """With how unusual each is."""
    linear = next((main for main in row.mains if main.is_linear), None)
    for (cost, padding), (more, reductions) in product(_paddings(convolutions), _reductions(row, convolutions)):
        left = _left(convolutions, padding, reductions, shape)
        if left is None:
            continue
        last = convolutions[-1].outputs
        rank = cost + more + 0.02 * abs(left[0] - 5)
        if linear is None:
            yield rank, Spatial(shape, padding, reductions, "global_avgpool")
        elif linear.inputs == last * left[0] * left[1]:
            yield rank, Spatial(shape, padding, reductions)
        elif linear.inputs == last and left != (1, 1):
            yield rank + 0.5, Spatial(shape, padding, reductions, "global_avgpool")
            yield rank + 1.5, Spatial(shape, padding, reductions, "global_maxpool")


def _paddings(convolutions: Sequence[Main]) -> list[tuple[float, tuple[int, ...]]]:
    same = [min(main.kernel or (1, 1)) // 2 for main in convolutions]
    count = len(convolutions)
    found: dict[tuple[int, ...], float] = {(0,) * count: 0.0}
    found.setdefault(tuple(same), 0.1)
    found.setdefault((same[0], *(0,) * (count - 1)), 1.0)
    found.setdefault((2, *(0,) * (count - 1)), 1.5 if same[0] >= 2 else 3.0)  # of LeNet's first, 5x5
    found.setdefault((1,) * count, 1.5)
    if count <= 3:
        for choice in product((False, True), repeat=count):
            found.setdefault(tuple(s if yes else 0 for s, yes in zip(same, choice, strict=True)), 2.0)
    return [(cost, padding) for padding, cost in found.items()]


def _reductions(row: Row, convolutions: Sequence[Main]) -> Iterator[tuple[float, tuple[Reduction, ...]]]:
    """What halves, behind which convolutions."""
    count = len(convolutions)
    patterns: dict[tuple[bool, ...], float] = {
        (True,) * count: 0.0,
        (*(False,) * (count - 1), True): 0.3,
        tuple(index % 2 == 1 for index in range(count)): 0.35,
        (*(True,) * (count - 1), False): 0.5,
        (False,) * count: 0.8,
    }
    grows = [*(a.outputs < b.outputs for a, b in pairwise(convolutions)), True]
    patterns.setdefault(tuple(grows), 0.5)  # as in VGG
    if count <= 6:
        for choice in product((False, True), repeat=count):
            patterns.setdefault(choice, 2.0)
    hints = [slots(row, index) for index in range(count)]
    for pattern, cost in patterns.items():
        surprise = sum(
            _surprise(yes, hint, row.mains, i) for i, (yes, hint) in enumerate(zip(pattern, hints, strict=True))
        )
        kinds: tuple[tuple[Reduction, float], ...] = (
            ("maxpool", surprise),
            ("avgpool", surprise + 1.0),
            ("maxpool 3", surprise + 3.0),
            ("stride", 1.4 + cost),
        )
        for kind, more in kinds if any(pattern) else kinds[:1]:
            yield cost + more, tuple(kind if yes else "" for yes in pattern)


def _surprise(pools: bool, slots: int | None, mains: Sequence[Main], index: int) -> float:
    """How little a pooling, or none, goes with the number of layers without weights that are there."""
    if slots is None:
        return 0.0
    flattens = index + 1 < len(mains) and mains[index + 1].is_linear
    room = slots - 1 - flattens
    if pools:
        return 0.0 if room >= 1 else 5.0
    return 0.4 if room >= 1 else 0.0


def _left(
    convolutions: Sequence[Main], padding: Sequence[int], reductions: Sequence[Reduction], shape: Shape
) -> tuple[int, int] | None:
    """Height and width behind the last convolution, None where nothing would be left."""
    sides = [shape[1], shape[2]]
    for main, pad, reduction in zip(convolutions, padding, reductions, strict=True):
        stride = 2 if reduction == "stride" else 1
        kernel = main.kernel or (1, 1)
        sides = [(side + 2 * pad - k) // stride + 1 for side, k in zip(sides, kernel, strict=True)]
        if reduction in ("maxpool", "avgpool"):
            sides = [side // 2 for side in sides]
        elif reduction == "maxpool 3":
            sides = [side // 3 for side in sides]
        if min(sides) < 1:
            return None
    return sides[0], sides[1]


def _layer(main: Main, spatial: Spatial, index: int) -> Layer:
    if main.kernel is None:
        return Linear(name=main.name, inputs=main.inputs, outputs=main.outputs, bias=main.bias)
    return Conv2d(
        name=main.name,
        inputs=main.inputs,
        outputs=main.outputs,
        kernel=main.kernel,
        stride=2 if spatial.reductions[index] == "stride" else 1,
        padding=(spatial.padding[index], spatial.padding[index]),
        groups=main.groups,
        bias=main.bias,
    )


def _pool(reduction: Reduction) -> Pool | None:
    if reduction in ("", "stride"):
        return None
    size = 3 if reduction.endswith("3") else 2
    kind: Literal["maxpool", "avgpool"] = "avgpool" if reduction.startswith("avg") else "maxpool"
    return Pool(kind=kind, size=size, stride=size)


def _problem(reading: Reading) -> str | None:
    """Why it cannot be served."""
    try:
        costs(reading.layers(), reading.shape)
    except UnknownArchitecture as error:
        return str(error)
    except ValidationError as error:  # a width or a kernel beyond what a layer may have
        return f"has layers that are not served: {first_problem(error)}"
    return None
