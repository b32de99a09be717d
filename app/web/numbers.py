"""All digits of a picture as one answer, and the warning where one was asked for and there are several."""

import secrets
from math import prod
from typing import Any

from app.errors import InvalidRequest
from app.serving.batching import Rows
from app.serving.registry import ServedModel
from app.store.recent_predictions import RecentPredictions
from app.web.payloads import Options
from app.web.schemas import to_json
from models.errors import NothingFound
from models.numbers import Candidates, Digit, choose
from models.preprocessing.preprocess import InputInfo


def refuse(served: ServedModel, options: Options) -> None:
    """Raises InvalidRequest where a number cannot be read by this model, or not with these options."""
    if served.takes_rows:
        raise served.not_pictures
    if served.classifier.card.picture.preprocessing != "digit":
        raise InvalidRequest(
            f"read is 'number', and {served.name!r} is no model of digits",
            "ask one of digits, or leave read out",
        )
    if options.preprocess == "none":
        raise InvalidRequest(
            "read is 'number', and preprocess 'none' takes one digit as it is", "leave preprocess out"
        )
    if options.explain:
        raise InvalidRequest("a number is not explained as a whole", "send one digit, or leave explain out")


def warning(served: ServedModel, candidates: Candidates, rows: Rows) -> bytes | None:
    """That there are several digits, by the answers to the candidates, as JSON; None where there is one."""
    count = len(choose(candidates, rows, served.classes))
    if count < 2:
        return None
    least = "at least " if candidates.more else ""
    detail = f"there are {least}{count} digits in the picture, this is the answer for one of them"
    detail += ": ask with read=number for all of them, or send one digit"
    return to_json({"type": "several", "count": count, "detail": detail})


def encode(
    served: ServedModel,
    candidates: Candidates,
    rows: Rows,
    done: InputInfo | None,
    memory: RecentPredictions | None,
) -> bytes:
    """The NumberBody of a picture; each digit is counted and, where it can be corrected, remembered.

    Raises NothingFound where nothing in it looks like a digit.
    """
    digits = choose(candidates, rows, served.classes)
    if not digits:
        raise NothingFound("no digit found in the picture", "send digits, dark on light or light on dark")
    classes = served.classifier.card.classes
    lines = [""] * (digits[-1].line + 1)
    for digit in digits:
        lines[digit.line] += classes[digit.index]
        served.counted.count(digit.index, digit.probability)
    return to_json(
        {
            "model": served.name,
            "version": served.version,
            "number": "\n".join(lines),
            "lines": lines,
            "probability": _short(prod(digit.probability for digit in digits)),
            "digits": [_fields(served, candidates, digit, rows[digit.candidate], memory) for digit in digits],
            **(
                {}
                if done is None
                else {"input": {"size": done.size, "inverted": done.inverted, "box": done.box}}
            ),
        }
    )


def _fields(
    served: ServedModel,
    candidates: Candidates,
    digit: Digit,
    row: list[float],
    memory: RecentPredictions | None,
) -> dict[str, Any]:
    card = served.classifier.card
    label = card.classes[digit.index]
    left, top, right, bottom = digit.box
    fields = {
        "label": label,
        "index": digit.index,
        "probability": _short(digit.probability),
        "box": [left, top, right - left, bottom - top],
        "line": digit.line,
    }
    if card.novelty is not None:
        fields["novelty"] = float(f"{card.novelty.of_answer(row, digit.index):.4g}")
    if memory is None:
        return fields
    name = secrets.token_hex(12)
    memory.remember(name, served.name, served.version, label, candidates.pixels_of(digit.candidate))
    return {"id": name, **fields}


def _short(probability: float) -> float:
    """Nine significant digits, as all probabilities have."""
    return float(f"{probability:.9g}")
