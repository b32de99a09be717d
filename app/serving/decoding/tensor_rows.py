"""Rows of a table that come as tensors: one number for each column, or one tensor for each column.

features    [N, columns], any numbers: of a category its place among `categories` (another: `other`), of a date
            days since 1970; NaN is missing
by name     [N] or [N, 1] each: numbers, or BYTES with text as a row in JSON would have it
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import WrongRow, WrongTable, WrongTensor
from app.serving.decoding.instances import instances_of
from app.serving.decoding.tables import MAX_CELLS, MAX_ROWS, names_of, of_json, of_lists, read_json
from app.serving.decoding.tensors import BYTES, OUTPUTS, Head, Input, Tensor, Wanted, attach, read_head
from models.errors import TableError
from models.tables import Column, Floats, TableInput, encode_columns

FEATURES = "features"
ROWS = ""  # the tensor that `encoded` makes of all: no request can name one so
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # of the years 1 and 9999, from 1970


def takes_features(spec: TableInput) -> bool:
    """Whether `features` means all columns; a table may have a column of that name."""
    return FEATURES not in spec.names


def encoded(spec: TableInput, text: bytes | memoryview, rest: memoryview) -> Head:
    """A whole request, its only input the model's own rows, float32 [N, width]. Raises a RequestError."""
    head = read_head(text)
    rows = read_rows(spec, attach(head, rest))
    data = rows.tobytes()
    return Head((Input(ROWS, "FP32", rows.shape, len(data), data),), head.outputs, head.id, head.preprocess)


def encoded_instances(spec: TableInput, text: bytes | memoryview) -> Head:
    """The rows of `{"instances": [..]}`, objects or lists of cells, as `encoded` has them. Raises as it."""
    request = read_json(bytes(text))
    given = instances_of(request if isinstance(request, dict) else {})
    if isinstance(given[0], list):
        found = of_lists(spec, [column.name for column in spec.columns], given)
    else:
        found = of_json(spec, given)
    for problem in found.problems.values():
        raise WrongRow(problem.detail, problem.hint)
    data = found.values.tobytes()
    return Head((Input(ROWS, "FP32", found.values.shape, len(data), data),), tuple(map(Wanted, OUTPUTS)))


def read_rows(spec: TableInput, tensors: Sequence[Tensor]) -> Floats:
    """float32 [N, width]. Raises WrongTensor, WrongTable or WrongRow."""
    count = tensors[0].shape[0]
    if count > MAX_ROWS or count * len(spec.columns) > MAX_CELLS:
        raise WrongTable(
            f"the tensors have more than {MAX_ROWS:,} rows or {MAX_CELLS:,} cells", "send fewer rows at a time"
        )
    if len(tensors) == 1 and tensors[0].name == FEATURES and takes_features(spec):
        return _of_features(spec, tensors[0])
    return _of_columns(spec, {tensor.name: _cells(tensor, count) for tensor in tensors})


def _of_features(spec: TableInput, tensor: Tensor) -> Floats:
    if tensor.shape != (tensor.shape[0], len(spec.columns)):
        raise WrongTensor(
            f"{FEATURES} has the shape {list(tensor.shape)}, the model takes [N, {len(spec.columns)}]",
            f"send a number for each column: {names_of(spec)}",
        )
    values = tensor.array().astype(np.float64)
    rows = np.empty((len(values), spec.width), np.float32)
    for column, start, cells in zip(spec.columns, spec.starts, values.T, strict=True):
        rows[:, start : start + column.width] = _numbers(column, cells)
    return rows


def _numbers(column: Column, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, width of the column]."""
    given = ~np.isnan(cells)
    if column.role == "numeric":
        _require(column, np.abs(cells) <= np.finfo(np.float32).max, given, "a number")
        return cells[:, None]
    if column.role == "date":
        _require(column, (cells >= _FIRST_DAY) & (cells <= _LAST_DAY), given, "days since 1970")
        return _date_parts(cells, given)
    places = f"the place of a category, 0 to {len(column.categories) - 1}, or one more for another"
    _require(column, (cells >= 0) & (cells == np.floor(cells)), given, places)
    return np.minimum(cells, len(column.categories))[:, None]


def _require(column: Column, right: NDArray[np.bool_], given: NDArray[np.bool_], expected: str) -> None:
    wrong = np.flatnonzero(given & ~right)
    if len(wrong):
        raise WrongRow(
            f"row {wrong[0] + 1}: column {column.name!r} holds another number, where {expected} is expected",
            f"send {expected}, or NaN where the value is missing",
        )


def _date_parts(days: NDArray[np.float64], given: NDArray[np.bool_]) -> NDArray[np.float64]:
    """As `models.tables.DATE_PARTS`."""
    whole = np.floor(np.where(given, days, 0)).astype(np.int64)
    dates = whole.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    parts = [
        dates.astype("datetime64[Y]").astype(np.int64) + 1970,
        months.astype(np.int64) % 12 + 1,
        (dates - months.astype("datetime64[D]")).astype(np.int64) + 1,
        (whole + 3) % 7,  # 1970 began on a Thursday
        days,
    ]
    found = np.stack(parts, 1).astype(np.float64)
    found[~given] = np.nan
    return found


def _cells(tensor: Tensor, count: int) -> Sequence[object]:
    if tensor.shape not in ((count,), (count, 1)):
        raise WrongTensor(
            f"the input {tensor.name[:100]!r} has the shape {list(tensor.shape)}, another one {count:,} rows",
            "send each column as [N] or [N, 1], with the same N",
        )
    if tensor.datatype == BYTES:
        return [bytes(text).decode("utf-8", "replace") for text in tensor.strings()]
    found: Any = tensor.array().reshape(count)
    return found if found.dtype.kind in "iuf" else found.tolist()


def _of_columns(spec: TableInput, columns: Mapping[str, Sequence[object]]) -> Floats:
    try:
        rows, problems = encode_columns(spec, columns)
    except TableError as error:
        raise WrongRow(error.detail, error.hint) from error
    for problem in problems:
        raise WrongRow(
            f"row {problem.row + 1}: {problem}", f"send {problem.expected}, or NaN or '' where it is missing"
        )
    return rows
