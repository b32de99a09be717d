"""ONNX files for tests, made here: small classifiers, and what must not be served."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn


def exported(net: nn.Module, shape: tuple[int, ...] = (1, 28, 28), batch: int | None = None) -> bytes:
    """As people export: pictures float32 in, whatever the network gives out."""
    stream = io.BytesIO()
    axes = None if batch else {"x": {0: "N"}, "y": {0: "N"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (torch.zeros(batch or 2, *shape),), stream, dynamo=False,  # type: ignore[arg-type]
            input_names=["x"], output_names=["y"], dynamic_axes=axes,
        )  # fmt: skip
    return stream.getvalue()


def model(
    nodes: Sequence[onnx.NodeProto],
    taken: Sequence[int | str] = ("N", 1, 28, 28),
    kind: int = TensorProto.FLOAT,
    weights: dict[str, NDArray[Any]] | None = None,
    outputs: Sequence[str] = ("y",),
    **more: Any,
) -> onnx.ModelProto:
    """From `x` to `y` [N, classes]."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, taken)],
        [helper.make_tensor_value_info(name, kind, ["N", "K"]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def line(seed: int = 0, features: int = 784, kind: Any = np.float32) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(seed)
    return {
        "w": generator.normal(size=(features, 10)).astype(kind),
        "b": generator.normal(size=10).astype(kind),
    }


def linear(last: str = "Identity", **more: Any) -> onnx.ModelProto:
    """One linear layer, and an operator behind it."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["z"]),
        helper.make_node(last, ["z"], ["y"]),
    ]
    return model(nodes, weights=more.pop("weights", line()), **more)


def outside(location: str = "../../etc/passwd") -> onnx.ModelProto:
    """With weights in another file."""
    found = linear()
    weight = found.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    return found


def endless() -> onnx.ModelProto:
    """A loop that goes on until somebody ends it."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes"]),
            helper.make_node("MatMul", ["held", "square"], ["holds"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, ["N", 784]),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("holds", TensorProto.FLOAT, ["N", 784]),
        ],
    )
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Loop", ["rounds", "", "f"], ["z"], body=body),
        helper.make_node("Gemm", ["z", "w", "b"], ["y"]),
    ]
    square = np.eye(784, dtype=np.float32)
    body.node.insert(0, helper.make_node("Cast", ["round"], ["unused"], to=TensorProto.FLOAT))
    return model(nodes, weights={"rounds": np.array(2**40), "square": square, **line()})


def huge() -> onnx.ModelProto:
    """A tensor of a terabyte, out of a few bytes."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["much"]),
        helper.make_node("ReduceSum", ["much"], ["sum"], keepdims=0),
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["z"]),
        helper.make_node("Add", ["z", "sum"], ["y"]),
    ]
    return model(nodes, weights={"size": np.array([2**38]), **line()})
