"""Predictions as bytes: what is the same in every answer of a model is prepared once.

Probabilities are written with nine significant digits: float32 has seven, and short ones are written quicker.
"""

import json
from collections.abc import Sequence
from functools import lru_cache

from models.preprocessing.preprocess import InputInfo

MEDIA_TYPE = b"application/json"


class PredictionEncoder:
    """The answers of one version of a model."""

    def __init__(self, model: str, version: int, classes: Sequence[str]) -> None:
        rows = b",".join(_quoted(label) + b":%.9g" for label in classes)
        self._formats = [
            b'{"model":%s,"version":%d,"label":%s,"index":%d,"probability":%%.9g,"probabilities":{%s}%%b'
            % (_quoted(model), version, _quoted(label), index, rows)
            for index, label in enumerate(classes)
        ]

    def encode(self, row: Sequence[float], index: int, done: InputInfo | None = None) -> bytes:
        """The PredictionBody of probabilities in class order, the largest at `index`."""
        return self._formats[index] % (row[index], *row, b"}" if done is None else _ending(done))


@lru_cache(maxsize=64)  # nearly all images are as the model was trained
def _ending(done: InputInfo) -> bytes:
    fields = {"size": done.size, "inverted": done.inverted, "box": done.box}
    return b',"input":%s}' % json.dumps(fields, separators=(",", ":")).encode()


def with_id(answer: bytes, name: str) -> bytes:
    """The PredictionBody with the id by which it can be corrected."""
    return b'{"id":"%b",%b' % (name.encode(), answer[1:])


def with_more(answer: bytes, fields: bytes) -> bytes:
    """The PredictionBody with the fields of another JSON object at its end."""
    return answer[:-1] + b"," + fields[1:]


def most_probable(row: list[float]) -> int:
    """The index of the largest probability, the first of equals."""
    return row.index(max(row))


def _quoted(text: str) -> bytes:
    """As JSON, for a template in which a percent sign stands for a value."""
    return json.dumps(text).encode().replace(b"%", b"%%")
