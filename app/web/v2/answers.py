"""Probabilities as the outputs of the protocol: JSON, and raw tensors behind it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.serving.batching import Rows
from app.serving.decoding.tensors import BYTES, Wanted, text_bytes
from app.serving.encoding import most_probable
from app.serving.registry import ServedModel


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor of an answer: its values, or its raw bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    texts: Sequence[str] | None = None
    rows: Rows | None = None

    def raw(self) -> bytes:
        if self.texts is not None:
            return text_bytes([text.encode("utf-8", "replace") for text in self.texts])
        return np.array(self.rows, "<f4").tobytes()

    def data(self) -> str:
        """As a JSON list, flat; probabilities with the digits of float32."""
        if self.texts is not None:
            return json.dumps(self.texts)
        assert self.rows is not None
        form = ",".join(["%.9g"] * self.shape[1])
        return f"[{','.join([form % tuple(row) for row in self.rows])}]"


def outputs(served: ServedModel, wanted: Sequence[Wanted], rows: Rows) -> list[Output]:
    """What is asked for, in that order."""
    return [_output(served.classifier.card.classes, one, rows) for one in wanted]


def _output(classes: Sequence[str], wanted: Wanted, rows: Rows) -> Output:
    if wanted.name == "label":
        return Output("label", BYTES, (len(rows),), texts=[classes[most_probable(row)] for row in rows])
    if not wanted.classes:
        return Output(wanted.name, "FP32", (len(rows), len(classes)), rows=rows)
    count = min(wanted.classes, len(classes))
    texts = [text for row in rows for text in _best(classes, row, count)]
    return Output(wanted.name, BYTES, (len(rows), count), texts=texts)


def _best(classes: Sequence[str], row: Sequence[float], count: int) -> list[str]:
    """The most probable classes, as "value:index:label"."""
    best = sorted(range(len(row)), key=row.__getitem__, reverse=True)[:count]
    return [f"{row[index]:.9g}:{index}:{classes[index]}" for index in best]


def encoded(
    served: ServedModel, request_id: str | None, wanted: Sequence[Wanted], rows: Rows
) -> tuple[bytes, int]:
    """The body of an answer, and how much of it is JSON."""
    parts, tensors = [], []
    for output, one in zip(outputs(served, wanted, rows), wanted, strict=True):
        if one.binary:
            tensors.append(output.raw())
            content = f'"parameters":{{"binary_data_size":{len(tensors[-1])}}}'
        else:
            content = f'"data":{output.data()}'
        shape = ",".join(map(str, output.shape))
        parts.append(f'{{"name":"{output.name}","datatype":"{output.datatype}","shape":[{shape}],{content}}}')
    named = "" if request_id is None else f'"id":{json.dumps(request_id)},'
    name = json.dumps(served.name)
    said = f'{{"model_name":{name},"model_version":"{served.version}",{named}"outputs":[{",".join(parts)}]}}'
    head = said.encode()
    return b"".join((head, *tensors)), len(head)
