"""Requests of the Open Inference Protocol (V2): JSON, and raw tensors behind it.

    {"id"?, "parameters"?, "inputs": [{"name", "shape", "datatype", "data"}], "outputs"?: [..]}
    an input with `parameters.binary_data_size` has no `data`: its bytes follow the JSON, in the order of inputs

    read_head -> Head: everything that the JSON says, its numbers as bytes; attach -> the tensors

The product of a shape is compared with what came before anything is made. Needs no torch: where the JSON is
large, `read_head` runs in a decoder, and its Head comes back by `pack` and `unpack`.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import EmptyBody, WrongTensor

BYTES = "BYTES"
_FIXED = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
TYPES: Mapping[str, np.dtype[Any]] = {name: np.dtype(code) for name, code in _FIXED.items()}
OUTPUTS = ("probabilities", "label")
MAX_INPUTS = 2_100  # a table has at most 2,000 columns
MAX_RANK = 8
MAX_SIDE = 2**31 - 1
MAX_ELEMENTS = 64 * 1024 * 1024
MAX_STRINGS = 1_000_000  # elements of all BYTES tensors of a request
MAX_ID = 4_096  # characters
MAX_NAME = 1_000  # characters, as of a column
_SHOWN = 100  # characters of a name in a message
_LENGTH = struct.Struct("<I")
_KINDS: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "u": frozenset({int}),
    "i": frozenset({int}),
    "f": frozenset({int, float}),
}
Mode = Literal["auto", "none"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Little-endian values; of BYTES each element behind its length, a uint32."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview

    @property
    def count(self) -> int:
        return prod(self.shape)

    def array(self) -> NDArray[Any]:
        """Of the tensor's shape. Raises WrongTensor for BYTES."""
        if self.datatype == BYTES:
            raise WrongTensor(f"the input {_name(self.name)} is BYTES", "send it as numbers, such as FP32")
        return np.frombuffer(self.raw, TYPES[self.datatype]).reshape(self.shape)

    def strings(self) -> list[memoryview]:
        """The elements of BYTES. Raises WrongTensor where lengths and bytes do not fit."""
        if self.datatype != BYTES:
            raise WrongTensor(f"the input {_name(self.name)} is {self.datatype}", "send it as BYTES")
        found, view, at = [], memoryview(self.raw), 0
        for _ in range(self.count):
            if at + 4 > len(view):
                raise self._cut()
            start = at + 4
            at = start + _LENGTH.unpack_from(view, at)[0]
            found.append(view[start:at])
        if at != len(view):
            raise self._cut()
        return found

    def _cut(self) -> WrongTensor:
        return WrongTensor(
            f"the bytes of {_name(self.name)} are not {self.count:,} elements, each behind its length",
            "let a client of the protocol write them: a uint32, little-endian, then so many bytes",
        )


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor whose `size` bytes are here, or (None) follow the JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that is asked for; `classes`: as so many "probability:index:label" instead."""

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """What the JSON of a request says."""

    inputs: tuple[Input, ...]
    outputs: tuple[Wanted, ...]
    id: str | None = None
    preprocess: Mode | None = None


def read_head(text: bytes | memoryview) -> Head:
    """Raises EmptyBody or WrongTensor."""
    request = loaded(text)
    if "inputs" not in request:
        raise WrongTensor(
            "the request has no inputs", 'send {"inputs": [{"name", "shape", "datatype", "data"}]}'
        )
    given = _objects(request["inputs"], "inputs", MAX_INPUTS)
    if not given:
        raise WrongTensor("the request has no inputs", "GET /v2/models/NAME says which the model takes")
    parameters = parameters_of(request, "the request")
    inputs = tuple(_input(one) for one in given)
    _named_once([one.name for one in inputs], "input")
    binary = _flag(parameters, "binary_data_output")
    return Head(inputs, _outputs(request, binary), _id(request.get("id")), mode_of(parameters))


def attach(head: Head, rest: memoryview) -> tuple[Tensor, ...]:
    """The tensors, those that are not in the JSON from the bytes behind it. Raises WrongTensor."""
    follow = sum(one.size for one in head.inputs if one.data is None)
    if follow != len(rest):
        raise WrongTensor(
            f"{len(rest):,} bytes follow the JSON, its inputs announce {follow:,}",
            "send the whole body, and Inference-Header-Content-Length with the length of the (unpacked) JSON",
        )
    found, at, strings = [], 0, 0
    for one in head.inputs:
        raw: bytes | memoryview
        if one.data is None:
            raw, at = rest[at : at + one.size], at + one.size
        else:
            raw = one.data
        strings += prod(one.shape) if one.datatype == BYTES else 0
        found.append(Tensor(one.name, one.datatype, one.shape, raw))
    if strings > MAX_STRINGS:
        raise WrongTensor(f"the request has more than {MAX_STRINGS:,} texts", "send fewer rows at a time")
    return tuple(found)


def pack(head: Head) -> tuple[bytes, bytes]:
    """A head as JSON, and the bytes that it holds."""
    said = {
        "inputs": [[one.name, one.datatype, one.shape, one.size, one.data is None] for one in head.inputs],
        "outputs": [[one.name, one.binary, one.classes] for one in head.outputs],
        "id": head.id,
        "preprocess": head.preprocess,
    }
    return json.dumps(said).encode(), b"".join(one.data for one in head.inputs if one.data is not None)


def unpack(said: bytes | memoryview, raw: memoryview) -> Head:
    """What `pack` was given. Raises ValueError, KeyError or TypeError for anything else."""
    found, at, inputs = json.loads(bytes(said)), 0, []
    for name, datatype, shape, size, follows in found["inputs"]:
        data = None if follows else bytes(raw[at : at + size])
        at += 0 if follows else size
        inputs.append(Input(str(name), str(datatype), tuple(shape), int(size), data))
    if at != len(raw):
        raise ValueError("bytes of another number")
    outputs = tuple(Wanted(str(name), bool(binary), int(classes)) for name, binary, classes in found["outputs"])
    return Head(tuple(inputs), outputs, found["id"], found["preprocess"])


def text_bytes(texts: Sequence[bytes]) -> bytes:
    """Elements of BYTES, each behind its length."""
    return b"".join(chain.from_iterable((_LENGTH.pack(len(text)), text) for text in texts))


# -- the parts of a request ------------------------------------------------------------------------


def loaded(text: bytes | memoryview) -> dict[str, Any]:
    if not text:
        raise EmptyBody("the body has no bytes", 'send {"inputs": [..]}')
    try:
        found = json.loads(bytes(text))
    except RecursionError as error:
        raise WrongTensor("the JSON is nested too deeply", "send data flat, or nested as its shape") from error
    except ValueError as error:  # bytes that are no text and numbers of thousands of digits too
        raise WrongTensor(
            f"the body is not JSON: {str(error)[:_SHOWN]}",
            "where raw tensors follow, say how long the JSON is: Inference-Header-Content-Length",
        ) from error
    if not isinstance(found, dict):
        raise WrongTensor("the JSON is not an object", 'send {"inputs": [..]}')
    return found


def _objects(found: Any, called: str, most: int) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise WrongTensor(f"{called} is not a list of objects", f'send "{called}": [{{"name": ..}}]')
    if len(found) > most:
        raise WrongTensor(f"there are more than {most:,} {called}", "send those that the model has")
    return found


def parameters_of(found: Mapping[str, Any], called: str) -> Mapping[str, Any]:
    parameters = found.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise WrongTensor(f"the parameters of {called} are not an object", 'send "parameters": {}')
    if any(name.startswith("shared_memory") for name in parameters):
        raise WrongTensor(f"{called} is to be in shared memory", "send tensors in the request")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    found = parameters.get(name, False)
    if not isinstance(found, bool):
        raise WrongTensor(f"{name} is neither true nor false", "send true or false")
    return found


def mode_of(parameters: Mapping[str, Any]) -> Mode | None:
    mode = parameters.get("preprocess")
    if mode not in (None, "auto", "none"):
        raise WrongTensor("preprocess is none of auto and none", "send one of them, or leave it out")
    return mode


def _id(found: Any) -> str | None:
    if found is not None and (not isinstance(found, str) or len(found) > MAX_ID):
        raise WrongTensor(f"the id is not a text of up to {MAX_ID:,} characters", "send a short text")
    return found


def _named_once(names: Sequence[str], kind: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise WrongTensor(f"the {kind} {_name(twice)} comes twice", "send each once")


def _name(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else name[:_SHOWN] + "..")


def _outputs(request: Mapping[str, Any], binary: bool) -> tuple[Wanted, ...]:
    if request.get("outputs") is None:
        return tuple(Wanted(name, binary) for name in OUTPUTS)
    given = _objects(request["outputs"], "outputs", len(OUTPUTS))
    found = tuple(_wanted(one, binary) for one in given)
    _named_once([one.name for one in found], "output")
    return found or tuple(Wanted(name, binary) for name in OUTPUTS)


def _wanted(said: Mapping[str, Any], binary: bool) -> Wanted:
    parameters = parameters_of(said, "an output")
    own = _flag(parameters, "binary_data") if "binary_data" in parameters else binary
    return wanted(said.get("name"), own, parameters.get("classification", 0))


def wanted(name: Any, binary: bool, classes: Any) -> Wanted:
    """An output as a request names it. Raises WrongTensor."""
    if not isinstance(name, str) or name not in OUTPUTS:
        called = _name(name) if isinstance(name, str) else "without a name"
        raise WrongTensor(f"there is no output {called}", f"ask for {' or '.join(OUTPUTS)}")
    if not isinstance(classes, int) or isinstance(classes, bool) or not 0 <= classes <= MAX_SIDE:
        raise WrongTensor("classification is not a number of classes", "send a whole number, such as 3")
    if classes and name != "probabilities":
        raise WrongTensor(f"{name} cannot be classified", "ask for it of probabilities")
    return Wanted(name, binary, classes)


def _input(said: Mapping[str, Any]) -> Input:
    name = said.get("name")
    if not isinstance(name, str) or not name:
        raise WrongTensor("an input has no name", "GET /v2/models/NAME says how they are called")
    if len(name) > MAX_NAME:
        raise WrongTensor(f"the name {_name(name)} is too long", "GET /v2/models/NAME says how they are called")
    datatype = said.get("datatype")
    if not isinstance(datatype, str) or (datatype not in TYPES and datatype != BYTES):
        raise WrongTensor(
            f"the datatype of {_name(name)} is none of the protocol's", f"it has {', '.join((*TYPES, BYTES))}"
        )
    shape = checked_shape(name, said.get("shape"))
    size = parameters_of(said, f"the input {_name(name)}").get("binary_data_size")
    if size is not None:
        if "data" in said:
            raise WrongTensor(f"{_name(name)} has data and a binary_data_size", "send one of them")
        return Input(name, datatype, shape, checked_size(name, datatype, shape, size), None)
    if "data" not in said:
        raise WrongTensor(
            f"the input {_name(name)} has no data", "send data, or binary_data_size and raw bytes"
        )
    data = _converted(name, datatype, shape, said["data"])
    return Input(name, datatype, shape, len(data), data)


def checked_shape(name: str, found: Any) -> tuple[int, ...]:
    """A shape of whole numbers above 0, whose product can be borne. Raises WrongTensor."""
    if not isinstance(found, list) or not 0 < len(found) <= MAX_RANK:
        raise WrongTensor(
            f"the shape of {_name(name)} is not a list of 1 to {MAX_RANK} numbers", "send [N, ..]"
        )
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in found):
        raise WrongTensor(
            f"the shape of {_name(name)} has something else than whole numbers above 0",
            "send the shape that the tensor has: -1 stands for any number in metadata alone",
        )
    if prod(found) > MAX_ELEMENTS:
        raise WrongTensor(f"{_name(name)} has more than {MAX_ELEMENTS:,} elements", "send fewer at a time")
    return tuple(found)


def checked_size(name: str, datatype: str, shape: Sequence[int], size: Any) -> int:
    """The bytes of a raw tensor. Raises WrongTensor where they are not those of its shape."""
    if type(size) is not int or not 0 <= size <= MAX_SIDE:
        raise WrongTensor(
            f"the binary_data_size of {_name(name)} is not a number of bytes", "send a whole number"
        )
    if datatype == BYTES:
        if size < 4 * prod(shape):
            raise WrongTensor(
                f"{_name(name)} has {size:,} bytes, less than the lengths of {prod(shape):,} elements",
                "put its length, a uint32, in front of each element",
            )
    elif size != (wanted := prod(shape) * TYPES[datatype].itemsize):
        raise WrongTensor(
            f"{_name(name)} has {size:,} bytes, {datatype} {list(shape)} has {wanted:,}", "send all of it"
        )
    return size


# -- data in JSON ----------------------------------------------------------------------------------


def _converted(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> bytes:
    """Flat or nested data as the tensor's bytes."""
    flat = flattened(name, shape, data)
    if datatype == BYTES:
        if not all(isinstance(one, str) for one in flat):
            raise WrongTensor(
                f"{_name(name)} is BYTES, and has data that is no text", "send texts (files: base64)"
            )
        return text_bytes([one.encode("utf-8", "surrogatepass") for one in flat])
    return numbers(name, datatype, flat).tobytes()


def numbers(name: str, datatype: str, flat: Sequence[Any]) -> NDArray[Any]:
    """Numbers of a JSON list as an array. Raises WrongTensor."""
    dtype = TYPES[datatype]
    if not set(map(type, flat)) <= _KINDS[dtype.kind]:
        kind = "true or false" if dtype.kind == "b" else "numbers" if dtype.kind == "f" else "whole numbers"
        raise WrongTensor(f"{_name(name)} is {datatype}, and has other data", f"send {kind}")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype)
    except OverflowError as error:
        raise WrongTensor(
            f"a number in {_name(name)} is too large for {datatype}", "send smaller ones"
        ) from error


def flattened(name: str, shape: tuple[int, ...], data: Any) -> list[Any]:
    """The elements in one list: it may be flat, or nested as its shape."""
    if not isinstance(data, list):
        raise WrongTensor(
            f"the data of {_name(name)} is not a list", "send a list, flat or nested as its shape"
        )
    level, left = [data], list(shape)
    while left:
        inner = _next_level(name, level, left)
        if inner is None:
            break
        level, left = inner, left[1:]
    lengths = set(map(len, level))
    found = level[0] if len(level) == 1 else list(chain.from_iterable(level))
    if lengths != {prod(left)} or any(map(_is_nested, found)):
        raise WrongTensor(
            f"the data of {_name(name)} does not have its shape, {list(shape)}",
            f"send {prod(shape):,} elements, flat or nested as the shape",
        )
    return found


def _next_level(name: str, level: list[list[Any]], left: list[int]) -> list[list[Any]] | None:
    """The lists in these lists; None where they hold elements."""
    if not any(one and _is_nested(one[0]) for one in level[:1]):
        return None
    if len(left) == 1 or set(map(len, level)) != {left[0]}:
        raise WrongTensor(
            f"the data of {_name(name)} is not nested as its shape", "send it flat, or as the shape"
        )
    inner = list(chain.from_iterable(level))
    if not all(map(_is_nested, inner)):
        raise WrongTensor(
            f"the data of {_name(name)} has lists beside elements", "send it flat, or as the shape"
        )
    return inner


def _is_nested(found: Any) -> bool:
    return isinstance(found, list)


def names_of(tensors: Sequence[Tensor]) -> Iterator[str]:
    """For a message."""
    return (_name(tensor.name) for tensor in tensors[:10])
