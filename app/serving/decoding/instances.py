"""Pictures in the JSON of TF Serving and Vertex AI, `{"instances": [..]}`, as a request of the protocol V2.

{"b64": ".."}, {"image_bytes": {"b64": ".."}}, or the base64 itself    a file each: one tensor `image`
[[0, 0.5, ..], ..], {"input": [[..]]}                                  pixels each: one tensor `input`
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from app.errors import WrongTensor
from app.serving.decoding.tensors import (
    BYTES,
    MAX_RANK,
    OUTPUTS,
    Head,
    Input,
    Wanted,
    checked_shape,
    flattened,
    loaded,
    mode_of,
    numbers,
    parameters_of,
    read_head,
    text_bytes,
)

MAX_INSTANCES = 100_000
_EXAMPLE = 'send {"instances": [{"b64": "<base64 of a PNG>"}]}, or arrays of pixels'


def read_instances(text: bytes | memoryview) -> Head:
    """Raises EmptyBody or WrongTensor."""
    request = loaded(text)
    given = [_inner(one) for one in instances_of(request)]
    outputs = tuple(map(Wanted, OUTPUTS))
    mode = mode_of(parameters_of(request, "the request"))
    if all(isinstance(one, str) for one in given):
        data = text_bytes([one.encode("utf-8", "surrogatepass") for one in given])
        return Head((Input("image", BYTES, (len(given),), len(data), data),), outputs, None, mode)
    if all(isinstance(one, list) for one in given):
        return Head((_pixels(given),), outputs, None, mode)
    raise WrongTensor("the instances are not all files, or all arrays", _EXAMPLE)


def instances_of(request: Mapping[str, Any]) -> list[Any]:
    """Those of a request, at least one. Raises WrongTensor."""
    found = request.get("instances")
    if not isinstance(found, list) or not found:
        raise WrongTensor("the request has no list of instances", _EXAMPLE)
    if len(found) > MAX_INSTANCES:
        raise WrongTensor(f"there are more than {MAX_INSTANCES:,} instances", "send fewer at a time")
    return found


def _inner(instance: Any) -> Any:
    """The base64 or the array in an instance, which may have a name around it."""
    for _ in range(2):
        if isinstance(instance, dict):
            if len(instance) != 1:
                raise WrongTensor("an instance is an object with other members than one", _EXAMPLE)
            instance = next(iter(instance.values()))
    return instance


def _pixels(given: Sequence[Any]) -> Input:
    """Of numbers up to 1 FP32, 0..1; of larger ones UINT8, 0..255."""
    shape, inner = [len(given)], given[0]
    while isinstance(inner, list) and len(shape) < MAX_RANK:
        shape.append(len(inner))
        inner = inner[0] if inner else None
    flat = flattened("instances", checked_shape("instances", shape), given)
    values = numbers("instances", "FP64", flat)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):
        raise WrongTensor(
            "the instances have numbers that are no pixels", "send pixels as numbers 0..1, or as numbers 0..255"
        )
    data = values.astype("<f4").tobytes() if high <= 1 else np.rint(values).astype(np.uint8).tobytes()
    return Input("input", "FP32" if high <= 1 else "UINT8", tuple(shape), len(data), data)


READERS: Mapping[bytes, Callable[[bytes | memoryview], Head]] = {b"v2": read_head, b"v1": read_instances}
