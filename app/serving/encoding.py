"""Predictions as bytes: what is the same in every answer of a model is prepared once.

Probabilities are written with nine significant digits: float32 has seven, and short ones are written quicker.
"""

import json
from collections.abc import Sequence
from functools import lru_cache

from app.telemetry.counters import Answers
from models.card import Card
from models.preprocessing.preprocess import InputInfo

MEDIA_TYPE = b"application/json"
UNFAMILIAR = json.dumps(
    {
        "type": "unfamiliar",
        "detail": "the picture is like none that the model was trained on, its answer may mean nothing: "
        "send a picture of what it knows, or ask another model",
    },
    separators=(",", ":"),
).encode()


class PredictionEncoder:
    """The answers of one version of a model."""

    def __init__(self, model: str, version: int, card: Card, counted: Answers) -> None:
        """Warnings are counted there."""
        self._counted = counted
        rows = b",".join(_quoted(label) + b":%.9g" for label in card.classes)
        self._classes = len(card.classes)
        self._novelty = card.novelty
        more = b"" if card.novelty is None else b',"novelty":%.4g'
        self._formats = [
            b'{"model":%s,"version":%d,"label":%s,"index":%d,"probability":%%.9g,"probabilities":{%s}%s%%b'
            % (_quoted(model), version, _quoted(label), index, rows, more)
            for index, label in enumerate(card.classes)
        ]

    def encode(
        self, row: Sequence[float], index: int, done: InputInfo | None = None, warning: bytes | None = None
    ) -> bytes:
        """The PredictionBody of a model's answer: probabilities in class order, the largest at `index`, and
        of a background its logit. `warning` is a JSON object; without it an unfamiliar picture gets one."""
        ending = b"}" if done is None else _ending(done)
        novelty = self._novelty
        if novelty is None:
            values: tuple[float, ...] = (row[index], *row[: self._classes])
        else:
            unusual = novelty.of_answer(row, index)
            values = (row[index], *row[: self._classes], unusual)
            if unusual > novelty.threshold and warning is None:
                warning = UNFAMILIAR
        if warning is not None:
            self._counted.warned += 1
            ending = b',"warning":%b%b' % (warning, ending)
        return self._formats[index] % (*values, ending)


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


def most_probable(probabilities: list[float]) -> int:
    """The index of the largest probability, the first of equals."""
    return probabilities.index(max(probabilities))


def _quoted(text: str) -> bytes:
    """As JSON, for a template in which a percent sign stands for a value."""
    return json.dumps(text).encode().replace(b"%", b"%%")
