"""Requests of the Open Inference Protocol: what is read is what was sent, anything else is refused."""

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.errors import RequestError, WrongTensor
from app.serving.decoding.instances import read_instances
from app.serving.decoding.tensors import (
    BYTES,
    MAX_ELEMENTS,
    TYPES,
    Tensor,
    attach,
    pack,
    read_head,
    text_bytes,
    unpack,
)
from app.web.v2.pixels import pixels_of

NUMBERS = [name for name in TYPES if name not in ("BOOL", "FP16")]


def request(**changes: Any) -> bytes:
    one = {"name": "input", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
    return json.dumps({"inputs": [{**one, **changes}]}).encode()


def read(body: bytes, rest: bytes = b"") -> tuple[Tensor, ...]:
    return attach(read_head(body), memoryview(rest))


shapes = arrays.array_shapes(min_dims=1, max_dims=4, max_side=4)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), datatype=st.sampled_from(list(TYPES)), shape=shapes, nested=st.booleans())
def test_json_and_raw_bytes_say_the_same(data: st.DataObject, datatype: str, shape: Any, nested: bool) -> None:
    finite: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else {}
    elements = arrays.from_dtype(TYPES[datatype], **finite)
    array = data.draw(arrays.arrays(TYPES[datatype], shape, elements=elements))
    said = array.tolist() if nested else array.ravel().tolist()
    head = {"name": "x", "shape": list(shape), "datatype": datatype}
    plain = json.dumps({"inputs": [{**head, "data": said}]}).encode()
    raw = {**head, "parameters": {"binary_data_size": array.nbytes}}
    binary = json.dumps({"inputs": [raw]}).encode()
    for (found,) in (read(plain), read(binary, array.tobytes())):
        np.testing.assert_array_equal(found.array(), array)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.binary(max_size=20), min_size=1, max_size=9))
def test_bytes_are_cut_at_their_lengths(texts: list[bytes]) -> None:
    tensor = Tensor("x", BYTES, (len(texts),), text_bytes(texts))
    assert [bytes(text) for text in tensor.strings()] == texts


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=64), count=st.integers(1, 6))
def test_lengths_that_lie_are_refused(raw: bytes, count: int) -> None:
    with contextlib.suppress(WrongTensor):
        found = Tensor("x", BYTES, (count,), raw).strings()
        assert text_bytes([bytes(text) for text in found]) == raw


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    name=json_values,
    shape=st.lists(st.integers(-1, 3), max_size=3) | json_values,
    datatype=st.sampled_from([*TYPES, BYTES]) | json_values,
    data=st.lists(st.integers(0, 255) | st.text(max_size=3), max_size=6) | json_values,
    parameters=st.fixed_dictionaries({"binary_data_size": json_values}) | json_values,
)
def test_any_json_is_read_or_refused(**members: Any) -> None:
    for left_out in (None, "data", "parameters"):
        kept = {key: value for key, value in members.items() if key != left_out}
        with contextlib.suppress(RequestError):
            read(json.dumps({"inputs": [kept]}).encode(), b"1234")
        with contextlib.suppress(RequestError):
            read_instances(json.dumps({"instances": [kept, members["data"]], **kept}).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2, 3]},
        {"shape": [4, 0]},
        {"shape": [-1, 2]},
        {"shape": [2.0, 2]},
        {"shape": [True, 4]},
        {"shape": []},
        {"shape": 4},
        {"shape": [1] * 9},
        {"shape": [2**40, 2**40]},
        {"shape": [2**31 - 1, 2**31 - 1, 2**31 - 1]},
        {"shape": [MAX_ELEMENTS, 2]},
        {"datatype": "FP8"},
        {"datatype": None},
        {"name": ""},
        {"name": 7},
        {"name": "x" * 5000},
        {"data": [[1, 2], [3]]},
        {"data": [[1, 2, 3, 4]]},
        {"data": [[1, 2], 3, 4]},
        {"data": [[[1], [2]], [[3], [4]]]},
        {"data": [1, 2, 3, "4"]},
        {"data": [1, 2, 3, None]},
        {"data": [1, 2, 3, True]},
        {"data": "1234"},
        {"data": [1, 2, 3, 10**400]},
        {"datatype": "UINT8", "data": [1, 2, 3, 256]},
        {"datatype": "UINT8", "data": [1, 2, 3, -1]},
        {"datatype": "INT64", "data": [1, 2, 3, 0.5]},
        {"datatype": "BOOL"},
        {"datatype": "BYTES"},
        {"parameters": []},
        {"parameters": {"binary_data_size": 16}},
        {"parameters": {"shared_memory_region": "x"}},
    ],
)
def test_what_is_no_tensor_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(WrongTensor) as found:
        read(request(**changes))
    assert found.value.hint
    assert len(found.value.detail) < 500


@pytest.mark.parametrize("size", [15, 17, 0, -16, 2**70, "16", None, True])
def test_raw_bytes_have_the_size_of_their_shape(size: Any) -> None:
    one = {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    with pytest.raises(WrongTensor):
        read(json.dumps({"inputs": [one]}).encode(), bytes(16))


def test_raw_bytes_are_all_there_and_no_more() -> None:
    one = {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    body = json.dumps({"inputs": [one]}).encode()
    assert len(read(body, bytes(16))) == 1
    for rest in (bytes(15), bytes(17), b""):
        with pytest.raises(WrongTensor, match="follow the JSON"):
            read(body, rest)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"{}", b"\xff", b'{"inputs": []}', b'{"inputs": {}}', b'{"inputs": [1]}',
        b'{"inputs": ' + b"[" * 100_000, b"1" * 5_000, b'{"inputs": [], "inputs": 1}',
        b'{"inputs": [' + b",".join([request()[12:-2]] * 2) + b"]}",
        b'{"inputs": [' + b",".join([b"{}"] * 3_000) + b"]}",
        request()[:-1] + b', "id": 7}',
        request()[:-1] + b', "id": "' + b"x" * 5_000 + b'"}',
        request()[:-1] + b', "outputs": [{"name": "none"}]}',
        request()[:-1] + b', "outputs": [{"name": "label"}, {"name": "label"}]}',
        request()[:-1] + b', "outputs": [{"name": "label", "parameters": {"classification": 2}}]}',
        request()[:-1] + b', "outputs": [{"name": "probabilities", "parameters": {"classification": -2}}]}',
        request()[:-1] + b', "outputs": [{"name": "probabilities", "parameters": {"binary_data": 1}}]}',
        request()[:-1] + b', "parameters": {"preprocess": "some"}}',
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        read(body)


def test_a_head_comes_back_from_a_decoder_as_it_was() -> None:
    texts = {"name": "t", "shape": [1], "datatype": "BYTES", "data": ["é"]}
    raw = {"name": "r", "shape": [2], "datatype": "INT16", "parameters": {"binary_data_size": 4}}
    body = {
        "id": "7",
        "inputs": [json.loads(request())["inputs"][0], raw, texts],
        "outputs": [{"name": "label"}],
    }
    head = read_head(json.dumps(body).encode())
    said, held = pack(head)
    assert unpack(said, memoryview(held)) == head
    assert [tensor.name for tensor in attach(head, memoryview(b"\1\0\2\0"))] == ["input", "r", "t"]


SHAPE = (3, 2, 2)
PLANES = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2) * 10


@pytest.mark.parametrize("datatype", NUMBERS)
@pytest.mark.parametrize("form", ["planes", "flat", "channels last"])
def test_pixels_of_every_type_and_form_are_the_same(datatype: str, form: str) -> None:
    array = PLANES.reshape(2, -1) if form == "flat" else PLANES
    array = array.transpose(0, 2, 3, 1) if form == "channels last" else array
    if datatype == "INT8":
        array = array // 2
    values = array / 255 if datatype.startswith("FP") else array
    raw = np.ascontiguousarray(values, TYPES[datatype])
    found, count = pixels_of(Tensor("input", datatype, raw.shape, raw.tobytes()), SHAPE)
    assert count == 2
    assert bytes(found) == (PLANES // 2 if datatype == "INT8" else PLANES).tobytes()


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("FP32", np.nan), ("FP32", np.inf), ("FP32", 1.01), ("FP64", -0.01), ("INT16", 256), ("INT32", -1)],
)
def test_what_is_no_pixel_is_refused(datatype: str, value: float) -> None:
    array = np.full((1, *SHAPE), value, TYPES[datatype])
    with pytest.raises(WrongTensor, match="pixels in"):
        pixels_of(Tensor("input", datatype, array.shape, array.tobytes()), SHAPE)


@pytest.mark.parametrize("shape", [(3, 2, 2), (1, 3, 3, 2), (12,), (1, 2, 2), (1, 1, 3, 2, 2)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(WrongTensor, match=r"\[N, 3, 2, 2\]"):
        pixels_of(Tensor("input", "UINT8", shape, bytes(int(np.prod(shape)))), SHAPE)


@pytest.mark.parametrize(
    ("instances", "datatype", "shape"),
    [
        ([[0, 0.5], [1, 0]], "FP32", (2, 2)),
        ([[0, 128.0], [255, 0]], "UINT8", (2, 2)),
        ([{"input": [[0, 1]]}], "FP32", (1, 1, 2)),
        (["aGVsbG8="], "BYTES", (1,)),
        ([{"b64": "aGVsbG8="}, {"image_bytes": {"b64": "aGVsbG8="}}], "BYTES", (2,)),
    ],
)
def test_instances_are_tensors(instances: list[Any], datatype: str, shape: tuple[int, ...]) -> None:
    (found,) = read_instances(json.dumps({"instances": instances}).encode()).inputs
    assert (found.datatype, found.shape) == (datatype, shape)


@pytest.mark.parametrize(
    "instances", [None, [], {}, [1, 2], [[1], "x"], [[256]], [[-1]], [[1], [1, 2]], [{"a": 1, "b": 2}], [[]]]
)
def test_what_are_no_instances_is_refused(instances: Any) -> None:
    with pytest.raises(WrongTensor):
        read_instances(json.dumps({"instances": instances}).encode())
