"""What an ONNX file says of its graph; plain operators and weights that are all inside, or a refusal."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from models.errors import CheckpointError
from models.weights_file import is_safetensors

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
TYPES = {1: "float32", 2: "uint8", 10: "float16"}  # of the input, by onnx.TensorProto.DataType
_START = re.compile(rb"\x08[\x02-\x0f][\x12:B]|.{0,64}onnx", re.DOTALL)


@dataclass(frozen=True)
class Facts:
    """What an ONNX file says of its graph; a size that may be any is None."""

    sizes: tuple[int | None, ...]  # of the input
    kind: str  # of its numbers
    opset: int
    parameters: int
    metadata: Mapping[str, str]


def is_onnx(data: bytes) -> bool:
    """Whether a file begins as an ONNX model does."""
    if data.startswith((b"PK", b"\x80")) or is_safetensors(data):
        return False
    return _START.match(data[:128]) is not None


def inspect(data: bytes) -> Facts:
    """Raises CheckpointError for what is no ONNX model, or not one of plain operators and finite weights."""
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        raise CheckpointError(
            "is an ONNX model; the service needs packages for these: pip install 'minist[onnx]', or an image "
            "that is built with --build-arg EXTRAS=onnx"
        )
    model = _parsed(data)
    _check_operators(model)
    parameters = sum(_check_weights(tensor) for graph in _graphs(model.graph) for tensor in graph.initializer)
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in given]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise CheckpointError(
            f"is an ONNX model of {len(inputs)} inputs and {len(model.graph.output)} outputs; served are those "
            "of one input, the pictures, and one output, the figures of the classes"
        )
    sizes, kind = _sizes(inputs[0])
    if kind not in TYPES:
        raise CheckpointError(f"is an ONNX model whose input is neither {', '.join(TYPES.values())}")
    opset = max((one.version for one in model.opset_import if one.domain in DOMAINS[:2]), default=1)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return Facts(sizes, TYPES[kind], opset, parameters, metadata)


def _parsed(data: bytes) -> "ModelProto":
    import onnx

    try:
        model = onnx.load_model_from_string(data)
        if not any(tensor.data_location == 1 or tensor.external_data for tensor in _tensors(model.graph)):
            onnx.checker.check_model(model)
            return model
    except Exception as error:  # protobuf, onnx and numpy raise many
        words = " ".join(re.sub(r"\S*/\S*", "", str(error)).split())[:200]
        raise CheckpointError(f"is no ONNX model that can be read ({words or type(error).__name__})") from error
    raise CheckpointError(
        "is an ONNX model with weights in other files: save it in one, "
        "onnx.save_model(model, path, save_as_external_data=False)"
    )


def _check_operators(model: "ModelProto") -> None:
    if model.functions:
        raise CheckpointError("is an ONNX model with functions of its own: inline them before it is saved")
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.domain not in DOMAINS:
                raise CheckpointError(
                    f"is an ONNX model with the operator {node.domain[:60]}.{node.op_type[:60]}, which is none "
                    "of ONNX's own: export it with standard operators"
                )


def _check_weights(tensor: "TensorProto") -> int:
    """How many numbers it has. Raises CheckpointError where they are not all there, or not finite."""
    from onnx import numpy_helper

    try:
        values = numpy_helper.to_array(tensor)
    except Exception as error:  # of a tensor whose sizes are not those of its bytes
        raise CheckpointError(f"is an ONNX model whose tensor {tensor.name[:80]!r} is damaged") from error
    if values.dtype.kind != "f":
        return 0
    if not np.isfinite(values).all():
        raise CheckpointError(f"is an ONNX model with infinities or NaN in {tensor.name[:80]!r}")
    return values.size


def _graphs(graph: "GraphProto") -> Iterator["GraphProto"]:
    """It, and those inside its nodes (branches and loops)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _tensors(graph: "GraphProto") -> Iterator["TensorProto"]:
    for each in _graphs(graph):
        yield from each.initializer
        for sparse in each.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in each.node:
            for attribute in node.attribute:
                yield from ([attribute.t] if attribute.HasField("t") else [])
                yield from attribute.tensors


def _sizes(value: "ValueInfoProto") -> tuple[tuple[int | None, ...], int]:
    """Of an input, and the type of its numbers."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        raise CheckpointError("is an ONNX model that does not say the shape of its input")
    sizes = (one.dim_value if one.dim_value > 0 else None for one in kind.shape.dim)
    return tuple(sizes), kind.elem_type
