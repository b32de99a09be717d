"""Predictions: one, or many in requests that the service takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

from minist_client import pictures, tables
from minist_client.answers import Number, Prediction, Problem, prediction_of, read
from minist_client.errors import ServiceError, UnusableInput
from minist_client.steps import Body, Call, Plan, ask, work

Preprocess = Literal["auto", "none"]
MOST_PICTURES, MOST_BYTES = (
    200,
    8 * 1024 * 1024,
)  # of a request with files; the service bounds their pixels, too
MOST_IMAGES = 10_000  # of a request with an array
_TOO_LARGE = 413
_TOO_MANY_PIXELS = "urn:minist:image-too-large"
_ROW_NUMBER = re.compile(r"^row (\d+)")


def predict(
    image: Any, model: str | None = None, preprocess: Preprocess | None = None, explain: bool = False
) -> Plan[Prediction]:
    """Classify one picture: a path, bytes, an open file, a PIL image, or an array ([H, W] or [H, W, 3]; uint8,
    or floats from 0, black, to 1, white). Of a model of a table: a row, as a mapping from columns to values.

    `preprocess="none"` takes a picture of exactly the model's size, as it is; `explain` adds what counted.
    Raises ServiceError where the service refuses it.
    """
    params = _params(model, preprocess, explain)
    if isinstance(image, Mapping):
        body = tables.row_body(image)
    else:
        data = yield from work(partial(pictures.encoded, image))
        body = Body(pictures.media_type(data), data)
    return (yield from ask(Call("POST", "/predict", partial(read, Prediction), params, body)))


def read_number(image: Any, model: str | None = None) -> Plan[Number]:
    """Read all digits of one picture, as `predict` takes it, line by line.

    Raises ServiceError where the service refuses it, for instance where there is no digit.
    """
    data = yield from work(partial(pictures.encoded, image))
    body = Body(pictures.media_type(data), data)
    params = {**_params(model, None), "read": "number"}
    return (yield from ask(Call("POST", "/predict", partial(read, Number), params, body)))


def predict_batch(
    images: Any, model: str | None = None, preprocess: Preprocess | None = None
) -> Plan[list[Prediction | Problem]]:
    """Classify many: pictures as `predict` takes them; one array [N, H, W] or [N, H, W, 3] of the model's own
    size; rows (mappings, or a pandas DataFrame); or the path of a CSV, parquet or Arrow file of rows.

    The answers are in order, a bad picture or row is a Problem in its place. As many requests are sent as it
    takes.
    """
    params = _params(model, preprocess)
    if pictures.is_array(images) and preprocess != "auto":
        return (yield from _array(images, params))
    if isinstance(images, str | Path):
        return (yield from _rows(_table_file(Path(images)), params))
    if isinstance(images, bytes | Mapping):
        raise UnusableInput("one picture or row goes to predict; predict_batch takes a list of them")
    rows = tables.records(images)
    found = iter(images if rows is None else rows)
    first = next(found, None)
    if first is None:
        return []
    together = _chain(first, found)
    if isinstance(first, Mapping):
        return (yield from _rows(tables.of_mappings(together), params))
    return (yield from _pictures(together, params))


def _params(model: str | None, preprocess: Preprocess | None, explain: bool = False) -> Mapping[str, str]:
    given = {"model": model, "preprocess": preprocess, "explain": "true" if explain else None}
    return {name: value for name, value in given.items() if value is not None}


def _chain(first: Any, others: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from others


def _table_file(path: Path) -> Iterator[tables.Rows]:
    if not tables.is_table_file(path):
        raise UnusableInput(
            f"{path} is one file: pass it to predict, or a list of files; rows are CSV or parquet"
        )
    return tables.of_file(path)


# -- pictures ----------------------------------------------------------------------------------------


def _pictures(images: Iterable[Any], params: Mapping[str, str]) -> Plan[list[Prediction | Problem]]:
    answers: list[Prediction | Problem] = []
    files, size, left = list[bytes | Problem](), 0, iter(images)
    while some := list(islice(left, 1)):
        file = yield from work(partial(_file, some[0]))
        bytes_of = len(file) if isinstance(file, bytes) else 0
        if files and (len(files) == MOST_PICTURES or size + bytes_of > MOST_BYTES):
            answers += yield from _files(files, params)
            files, size = [], 0
        files.append(file)
        size += bytes_of
    return answers + (yield from _files(files, params))


def _file(picture: Any) -> bytes | Problem:
    """Its bytes, or why there are none."""
    try:
        return pictures.encoded(picture)
    except OSError as error:
        return Problem("Unreadable file", 0, str(error), "look at the path and whether it may be read")
    except UnusableInput as error:
        return Problem("Unusable input", 0, str(error))


def _files(files: Sequence[bytes | Problem], params: Mapping[str, str]) -> Plan[list[Prediction | Problem]]:
    """The answers for files of one request, with what could not be read in its place."""
    sent = [file for file in files if isinstance(file, bytes)]
    found = iter((yield from _sent(sent, params)) if sent else ())
    return [next(found) if isinstance(file, bytes) else file for file in files]


def _sent(files: Sequence[bytes], params: Mapping[str, str]) -> Plan[list[Prediction | Problem]]:
    """In halves where the service says that they are too much together."""
    try:
        answers = yield from _answers(_form(files), params)
    except ServiceError as error:
        if error.status != _TOO_LARGE:
            raise
        if len(files) == 1:
            return [error.problem]
        middle = len(files) // 2
        first = yield from _sent(files[:middle], params)
        return first + (yield from _sent(files[middle:], params))
    if len(files) > 1:
        for at, answer in enumerate(answers):
            if isinstance(answer, Problem) and answer.type == _TOO_MANY_PIXELS:  # it may be so by the others
                answers[at] = (yield from _sent(files[at : at + 1], params))[0]
    return answers


def _form(files: Sequence[bytes]) -> Body:
    edge = token_hex(16)
    parts = [
        f'--{edge}\r\ncontent-disposition: form-data; name="files"; filename="{number}"\r\n'
        f"content-type: {pictures.media_type(data)}\r\n\r\n".encode()
        + data
        + b"\r\n"
        for number, data in enumerate(files)
    ]
    return Body(f"multipart/form-data; boundary={edge}", b"".join(parts) + f"--{edge}--\r\n".encode())


def _array(images: Any, params: Mapping[str, str]) -> Plan[list[Prediction | Problem]]:
    shape = tuple(images.shape)
    if len(shape) == 4 and shape[3] == 1:
        images = images.reshape(shape[:3])
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise UnusableInput(
            f"the array has the shape {list(shape)}: pass pictures as [N, H, W] or [N, H, W, 3], "
            "rows as a list of mappings"
        )
    if 0 in shape:
        return []
    at_once = max(1, min(MOST_IMAGES, MOST_BYTES // (images[:1].size)))
    answers: list[Prediction | Problem] = []
    for at in range(0, shape[0], at_once):
        data = yield from work(partial(_npy, images[at : at + at_once]))
        answers += yield from _answers(Body("application/x-npy", data), params)
    return answers


def _npy(images: Any) -> bytes:
    return pictures.npy(pictures.pixels(images))


# -- rows --------------------------------------------------------------------------------------------


def _rows(parts: Iterator[tables.Rows], params: Mapping[str, str]) -> Plan[list[Prediction | Problem]]:
    answers: list[Prediction | Problem] = []
    while (part := (yield from work(partial(next, parts, None)))) is not None:
        found = yield from _answers(part.body, params)
        answers += [_renumbered(answer, part.before) for answer in found]
    return answers


def _renumbered(answer: Prediction | Problem, before: int) -> Prediction | Problem:
    """The service counts the rows of each request."""
    if before and isinstance(answer, Problem):
        detail = _ROW_NUMBER.sub(lambda number: f"row {int(number[1]) + before}", answer.detail)
        return replace(answer, detail=detail)
    return answer


def _answers(body: Body, params: Mapping[str, str]) -> Plan[list[Prediction | Problem]]:
    return (yield from ask(Call("POST", "/predict/batch", _read_many, params, body)))


def _read_many(found: Any) -> list[Prediction | Problem]:
    return [prediction_of(one) for one in found]
