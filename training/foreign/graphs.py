"""An ONNX file from elsewhere: what its graph takes and gives, read and then tried, never assumed.

Read in the process of the upload, computed in one of its own (`models.graphs`); both have limits.
"""

import time
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from models.card import MAX_SIDE, Card, Input, Shape
from models.errors import CheckpointError, GraphFailed
from models.graphs.module import MOST, ONNX, Gives, Graph, Layout, at_once_for
from models.state_dicts import StateDict
from training.foreign.candidates import Candidate
from training.foreign.onnx_file import Facts, inspect
from training.foreign.order import Order

TRIED = 4  # pictures
MAX_SECONDS = 2.0  # of a picture
AGREE = 1e-3  # of a picture's figures alone and with others, relative to the largest
ORDER = ("classes", "preprocessing", "polarity", "resize")  # of a card in a file that was exported here


@dataclass(frozen=True)
class Taken:
    """What the graph takes: pictures of a shape, laid out in a way, so many at once where that is `fixed`."""

    shape: Shape
    layout: Layout
    fixed: int | None


def graph_of(weights: StateDict) -> bytes | None:
    """The ONNX file in the state_dict of a version that was one."""
    held = weights.get(ONNX)
    if len(weights) != 1 or held is None or held.dtype != torch.uint8 or held.ndim != 1:
        return None
    return held.contiguous().numpy().tobytes()


def read_graph(data: bytes, order: Order, shape: Shape | None) -> tuple[Candidate, Order]:
    """The graph as a candidate, and what is known of its pictures, with what the file says of them.

    Raises CheckpointError, a sentence, for a graph that is not served.
    """
    if order.table is not None:
        raise CheckpointError("is an ONNX model of a table, which is not served: upload it with format=pth")
    facts = inspect(data)
    order = _with_metadata(order, facts)
    taken = _taken(facts, shape or order.shape() or order.shape(1))
    graph, notes = _tried(data, facts, taken)
    if graph.gives == "probabilities" and order.temperature not in (None, 1.0):
        notes.append("the temperature on the card is not used: the graph gives probabilities")
        order = order.model_copy(update={"temperature": None})
    if facts.kind == "uint8":
        channels = taken.shape[0]
        if order.mean is not None:
            notes.append("mean and std on the card are not used: the graph takes bytes, as pictures have them")
        order = order.model_copy(update={"mean": (0.0,) * channels, "std": (1 / 255,) * channels})
    said = f"brought as an ONNX graph (opset {facts.opset}), {'; '.join(notes)}"
    arguments = _arguments(graph, data, taken)
    return Candidate(ONNX, arguments, graph.state_dict(), taken.shape, made=graph, said=said), order


def _arguments(graph: Graph, data: bytes, taken: Taken) -> dict[str, Any]:
    return {
        "size": len(data),
        "input_shape": list(taken.shape),
        "classes": graph.classes,
        "layout": graph.layout,
        "gives": graph.gives,
        "at_once": graph.at_once,
        "fixed": graph.fixed,
        "parameters": graph.learned,
    }


def _with_metadata(order: Order, facts: Facts) -> Order:
    """A file that was exported here has its card in it: what nobody has said otherwise is as there."""
    try:
        card = Card.model_validate_json(facts.metadata["card"])
    except (KeyError, ValidationError):
        return order
    if not isinstance(card.input, Input):
        raise CheckpointError("is the ONNX export of a model of a table, which is not served: take format=zip")
    held = {"classes": card.classes, **card.input.model_dump()}
    known = {name: held[name] for name in ORDER if getattr(order, name) is None and held[name] is not None}
    try:
        return Order.model_validate({**order.model_dump(exclude_none=True), **known})
    except ValidationError:
        return order


# -- what it takes -----------------------------------------------------------------------------------------


def _taken(facts: Facts, said: Shape | None) -> Taken:
    """Raises CheckpointError where that is not pictures of 1 or 3 channels, or not of the size that is said."""
    batch, *sizes = facts.sizes or (None,)
    if len(sizes) == 1:
        layout, shape = _flat(sizes[0], said)
    elif len(sizes) == 3:
        layout, shape = _spatial(sizes[0], sizes[1], sizes[2], said)
    else:
        raise CheckpointError(f"takes {_text(facts.sizes)}, which is neither [N, C, H, W] nor [N, C*H*W]")
    if said not in (None, shape):
        raise CheckpointError(f"takes pictures of {_text(shape)}, not of {_text(said or ())} as is said")
    if max(shape[1:]) > MAX_SIDE:
        raise CheckpointError(f"takes pictures of {_text(shape)}; at most {MAX_SIDE} pixels a side are served")
    if batch is not None and batch > MOST:
        raise CheckpointError(f"takes {batch:,} pictures at once, at most {MOST} are served: export it for one")
    return Taken(shape, layout, batch)


def _flat(features: int | None, said: Shape | None) -> tuple[Layout, Shape]:
    count = features or (prod(said) if said else None)
    if said is not None and count == prod(said):
        return "flat", said
    for channels in (1, 3):
        side = round(((count or 0) / channels) ** 0.5)
        if count and said is None and channels * side * side == count:
            return "flat", (channels, side, side)
    raise CheckpointError(
        f"takes {count or 'any number of'} numbers in a row, no {'such' if said else 'square'} picture: "
        'say the shape on the card, {"input_shape": [channels, height, width]}'
    )


def _spatial(
    first: int | None, second: int | None, third: int | None, said: Shape | None
) -> tuple[Layout, Shape]:
    last = third in (1, 3) and first not in (1, 3)
    sizes = (third, first, second) if last else (first, second, third)
    known = [size or (said[index] if said else None) for index, size in enumerate(sizes)]
    channels, height, width = known
    if channels is None or height is None or width is None:
        raise CheckpointError(
            "takes pictures of any size: say it on the card, "
            '{"input_shape": [channels, height, width]}, or name its data set'
        )
    if channels not in (1, 3):
        raise CheckpointError(
            f"takes pictures of {channels} channels: those served have 1 (grey) or 3 (colour)"
        )
    return "nhwc" if last else "nchw", (channels, height, width)


def _text(sizes: tuple[int | None, ...]) -> str:
    return "x".join("?" if size is None else str(size) for size in sizes)


# -- what it does ------------------------------------------------------------------------------------------


def _tried(data: bytes, facts: Facts, taken: Taken) -> tuple[Graph, list[str]]:
    """The graph as it is asked later, and what was found. Raises CheckpointError where it does not answer."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (TRIED, *taken.shape), generator=generator).float()
    pixels = pixels if facts.kind == "uint8" else pixels / 255
    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    try:
        graph = _graph(raw, taken, facts.parameters)
        alone = graph(pixels)
        seconds = _seconds(graph, pixels)
        together = None if taken.fixed else _together(graph, pixels, alone)
    except GraphFailed as error:
        raise CheckpointError(f"is an ONNX model that gives no answers: {error}") from error
    if seconds > MAX_SECONDS:
        raise CheckpointError(
            f"is an ONNX model that takes {seconds:.1f} s for a picture, more than {MAX_SECONDS:g} s"
        )
    if alone.shape[1] < 2:
        raise CheckpointError("is an ONNX model that gives one figure, not one for each of two or more classes")
    gives: Gives = "probabilities" if _are_probabilities(alone) else "logits"
    graph.fixed, graph.gives = 0 if together else taken.fixed or 1, gives
    graph.at_once = at_once_for(taken.shape, seconds)
    return graph, [
        f"{taken.layout.upper() if taken.layout != 'flat' else 'rows of pixels'} {_text(taken.shape)} as "
        f"{facts.kind} in, {gives} out",
        f"{graph.fixed or 'any number of'} pictures in a run",
    ]


def _graph(raw: Tensor, taken: Taken, parameters: int) -> Graph:
    with torch.device("meta"):
        graph = Graph(len(raw), taken.shape, None, taken.layout, fixed=taken.fixed or 1)
    graph.learned = parameters
    graph.load_state_dict({ONNX: raw}, assign=True)
    return graph.eval()


def _seconds(graph: Graph, pixels: Tensor) -> float:
    begun = time.perf_counter()
    graph(pixels[:1])
    return time.perf_counter() - begun


def _together(graph: Graph, pixels: Tensor, alone: Tensor) -> bool:
    """Whether pictures may go together: the graph takes any number, and each gets the answer it gets alone."""
    graph.fixed = 0
    try:
        found = graph(pixels)
    except GraphFailed:
        return False
    return bool((found - alone).abs().max() <= AGREE * alone.abs().max().clamp(min=1e-6))


def _are_probabilities(figures: Tensor) -> bool:
    return bool((figures >= -1e-6).all() and ((figures.sum(1) - 1).abs() < 1e-3).all())
