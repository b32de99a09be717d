"""Messages of gRPC to what `app.web.v2.inference` takes, and back."""

from collections.abc import Sequence
from typing import Any

from app.errors import WrongTensor
from app.serving.batching import Rows
from app.serving.decoding.tensors import (
    BYTES,
    MAX_INPUTS,
    MAX_STRINGS,
    OUTPUTS,
    TYPES,
    Head,
    Tensor,
    Wanted,
    checked_shape,
    checked_size,
    mode_of,
    numbers,
    text_bytes,
    wanted,
)
from app.serving.registry import ServedModel
from app.web.v2.answers import outputs
from app.web.v2.messages import messages

MAX_CONTENTS = 200_000  # elements that are no raw bytes: each becomes an object
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", BYTES: "bytes_contents",
}  # fmt: skip


def read(request: Any) -> tuple[Head, list[Tensor]]:
    """What a ModelInferRequest says: outputs, id and options, and its tensors. Raises WrongTensor."""
    if not 0 < len(request.inputs) <= MAX_INPUTS:
        raise WrongTensor("the request has no inputs, or too many", "ModelMetadata says which the model takes")
    parameters = _parameters(request.parameters)
    given = [_wanted(one) for one in request.outputs[: len(OUTPUTS) + 1]]
    if len({one.name for one in given}) < len(given):
        raise WrongTensor("an output comes twice", "ask for each once")
    head = Head((), tuple(given) or tuple(map(Wanted, OUTPUTS)), request.id or None, mode_of(parameters))
    return head, _tensors(request)


def _wanted(said: Any) -> Wanted:
    return wanted(said.name, True, _parameters(said.parameters).get("classification", 0))


def _parameters(given: Any) -> dict[str, Any]:
    found = {one.key: getattr(one.value, one.value.WhichOneof("parameter_choice") or "", None) for one in given}
    if any(name.startswith("shared_memory") for name in found):
        raise WrongTensor("a tensor is to be in shared memory", "send tensors in the request")
    return found


def _tensors(request: Any) -> list[Tensor]:
    raw: Sequence[bytes] = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise WrongTensor(
            f"there are {len(raw)} raw_input_contents for {len(request.inputs)} inputs", "send one for each"
        )
    found = [_tensor(one, raw[place] if raw else None) for place, one in enumerate(request.inputs)]
    if len({one.name for one in found}) < len(found):
        raise WrongTensor("an input comes twice", "send each once")
    if sum(one.count for one in found if one.datatype == BYTES) > MAX_STRINGS:
        raise WrongTensor(f"the request has more than {MAX_STRINGS:,} texts", "send fewer rows at a time")
    return found


def _tensor(said: Any, raw: bytes | None) -> Tensor:
    name, datatype = said.name, said.datatype
    if not name or (datatype not in TYPES and datatype != BYTES):
        raise WrongTensor(f"the input {name[:100]!r} has no name, or no datatype", "ModelMetadata says both")
    shape = checked_shape(name, list(said.shape[:100]))
    _parameters(said.parameters)
    if raw is not None:
        checked_size(name, datatype, shape, len(raw))
        return Tensor(name, datatype, shape, raw)
    return _of_contents(name, datatype, shape, said.contents)


def _of_contents(name: str, datatype: str, shape: tuple[int, ...], contents: Any) -> Tensor:
    if datatype not in _CONTENTS:
        raise WrongTensor(f"{datatype} has no contents of its own", "send raw_input_contents")
    values = getattr(contents, _CONTENTS[datatype])
    if len(values) > MAX_CONTENTS:
        raise WrongTensor(f"{name[:100]!r} has more than {MAX_CONTENTS:,} elements", "send raw_input_contents")
    tensor = Tensor(name, datatype, shape, b"")
    if len(values) != tensor.count:
        raise WrongTensor(
            f"{name[:100]!r} has {len(values):,} {_CONTENTS[datatype]}, its shape {tensor.count:,}", "send all"
        )
    data = text_bytes(values) if datatype == BYTES else numbers(name, datatype, list(values)).tobytes()
    return Tensor(name, datatype, shape, data)


def response(served: ServedModel, head: Head, rows: Rows) -> Any:
    """A ModelInferResponse with raw contents."""
    kinds = messages()
    found = outputs(served, head.outputs, rows)
    return kinds["ModelInferResponse"](
        model_name=served.name,
        model_version=str(served.version),
        id=head.id or "",
        outputs=[
            kinds["InferOutputTensor"](name=one.name, datatype=one.datatype, shape=one.shape) for one in found
        ],
        raw_output_contents=[one.raw() for one in found],
    )
