"""The rows in the body of a request, as a model of a table takes them: float32 [N, width].

    application/json    a list of objects, or {"columns": [..], "data": [[..], ..]}; of one row, an object
    text/csv            a header and a line for each row, separated by commas, semicolons, tabs or |
    parquet, Arrow      see `app.serving.decoding.arrow`
    a form              with such a file; of one row, a field for each column

Small bodies are read where they come, all others in a decoder. Needs no torch.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from app.errors import EmptyBody, WrongContentType, WrongRow, WrongTable
from app.serving.decoding.forms import FORM, form_parts, media_type
from models.errors import TableError
from models.tables import (
    MAX_COLUMNS,
    MAX_TEXT,
    Floats,
    TableInput,
    ValueProblem,
    check_names,
    encode_columns,
    encode_row,
)

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
ARROW, ARROW_FILE = "application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file"
URL_ENCODED = "application/x-www-form-urlencoded"
TABLES = (JSON, CSV, PARQUET, ARROW, ARROW_FILE)
_OTHER_NAMES = {
    "text/json": JSON,
    "application/csv": CSV,
    "text/tab-separated-values": CSV,
    "text/plain": CSV,
    "application/parquet": PARQUET,
    "application/x-parquet": PARQUET,
    "application/vnd.apache.arrow": ARROW,
}
_DEFAULTS = ("", "application/octet-stream", "binary/octet-stream")
_MAGIC = ((b"PAR1", PARQUET), (b"ARROW1", ARROW_FILE), (b"\xff\xff\xff\xff", ARROW))
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF")
MAX_ROWS = 100_000  # of one request
MAX_CELLS = 10_000_000
MAX_CELL = 100_000  # characters
MAX_HEADER = 500_000  # characters of the first line
MAX_TOLD = 1_000  # rows whose problems are described
MAX_NAME = 200  # characters of a name that a message repeats
ARROW_CHARACTERS = 100_000  # of CSV; shorter ones are read by Python, sooner than pyarrow is imported
_SEPARATORS = ",;\t|"

Columns = Mapping[str, Sequence[object]]


@dataclass(slots=True)
class RowProblem:
    """Why a row cannot be read."""

    detail: str
    hint: str


@dataclass(slots=True)
class TableRows:
    """float32 [N, width] of the rows that can be read; of the others, by their position, why not."""

    values: Floats
    count: int  # of all rows
    problems: dict[int, RowProblem] = field(default_factory=dict)


def is_plain(content_type: str, body: bytes) -> bool:
    """Whether pyarrow reads nothing of it, also where it calls itself something else, or is in a form."""
    kind = media_type(content_type)
    foreign = (PARQUET, ARROW, ARROW_FILE)
    return _OTHER_NAMES.get(kind, kind) not in foreign and not any(magic in body for magic, _ in _MAGIC)


def one_row(spec: TableInput, content_type: str, body: bytes) -> TableRows:
    """The only row of a body. Raises EmptyBody, WrongContentType, WrongTable or WrongRow."""
    kind = _kind(content_type, body, one=True)
    if kind == JSON:
        row = read_json(body)
        if not isinstance(row, dict):
            raise WrongTable(
                f"the body is {_called(row)}", f"send an object, {example(spec)}; lists go to /predict/batch"
            )
        return _single(spec, row)
    if kind in (FORM, URL_ENCODED):
        fields = _fields(content_type, body) if kind == FORM else _pairs(body)
        if kind == FORM and len(fields) == 1 and not fields.keys() & spec.allowed:
            return one_row(spec, "", bytes(next(form_parts(content_type, body, 1))[1]))  # a file
        return _single(spec, fields)
    found = many_rows(spec, content_type, body)
    if found.count != 1:
        raise WrongTable(f"the table has {found.count:,} rows", "send one row here; many go to /predict/batch")
    for problem in found.problems.values():
        raise WrongRow(problem.detail, problem.hint)
    return found


def many_rows(spec: TableInput, content_type: str, body: bytes) -> TableRows:
    """All rows of a body, in order. Raises as `one_row`, and MalformedForm."""
    kind = _kind(content_type, body, one=False)
    if kind == FORM:
        files = list(form_parts(content_type, body, 2))
        if len(files) != 1:
            raise WrongTable(
                f"the form has {len(files)} fields", "send one file with the rows (curl -F file=@rows.csv)"
            )
        return many_rows(spec, "", bytes(files[0][1]))
    try:
        if kind == JSON:
            return of_json(spec, read_json(body))
        if kind == CSV:
            return _of_csv(spec, body)
        from app.serving.decoding import (
            arrow,
        )  # here: the event loop never reads these, and does without pyarrow

        count, columns = arrow.read_columns(kind, body, spec)
        return _encoded(spec, columns, count)
    except TableError as error:
        raise WrongRow(error.detail, error.hint) from error


def example(spec: TableInput) -> str:
    """How a row looks in JSON, for a message."""
    some = {column.name[:MAX_NAME]: column.example for column in spec.columns[:2]}
    return json.dumps(some, ensure_ascii=False)[:-1] + (", ..}" if len(spec.columns) > 2 else "}")


def _kind(content_type: str, body: bytes, one: bool) -> str:
    """The media type; where a client has none of its own to say, by the first bytes."""
    if not body:
        raise EmptyBody(
            "the body has no bytes", "send a row as a JSON object, or rows as JSON, text/csv or parquet"
        )
    kind = media_type(content_type)
    kind = _OTHER_NAMES.get(kind, kind)
    first = body[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if kind in _DEFAULTS or kind == URL_ENCODED:  # the latter is what curl -d says of all that it sends
        if first in (b"{", b"["):
            return JSON
        for magic, found in _MAGIC:
            if body.startswith(magic):
                return found
        if kind in _DEFAULTS and not body.startswith(_PICTURES):
            return CSV
    if kind in (*TABLES, FORM) or (kind == URL_ENCODED and one):
        return kind
    said = kind if kind not in _DEFAULTS else "that of a picture"
    raise WrongContentType(
        f"the content type is {said[:MAX_NAME]}, and this model takes the rows of a table",
        f"send {'a row as ' + JSON if one else 'rows as ' + ', '.join(TABLES)}",
    )


def read_json(body: bytes) -> Any:
    """Raises WrongTable: also for names that come twice, infinite numbers, and what is nested too deeply."""
    try:
        found = json.loads(body, parse_constant=_constant)
        if body.count(b":") != _members(found):  # a name twice, or colons in texts
            found = json.loads(body, object_pairs_hook=_object, parse_constant=_constant)
        return found
    except RecursionError as error:
        raise WrongTable(
            "the JSON is nested too deeply", "send a list of rows, and numbers or texts in them"
        ) from error
    except (ValueError, UnicodeDecodeError) as error:  # numbers of thousands of digits are ValueErrors too
        raise WrongTable(
            f"the body is not JSON: {str(error)[:MAX_NAME]}", "let your client write the JSON"
        ) from error


def _members(found: Any) -> int:
    """Of an object, or of the objects in a list."""
    rows = found if isinstance(found, list) else [found]
    return sum(len(row) for row in rows if isinstance(row, dict))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise WrongTable(f"a row has {twice[:MAX_NAME]!r} twice", "send each column once")
    return found


def _constant(word: str) -> None:
    """NaN is what some clients write for a missing value."""
    if word != "NaN":
        raise WrongTable(f"a value is {word}", "send finite numbers, and null where a value is missing")


def of_json(spec: TableInput, found: Any) -> TableRows:
    if isinstance(found, dict) and {"columns", "data"} <= found.keys():
        return of_lists(spec, found["columns"], found["data"])
    if not isinstance(found, list):
        raise WrongTable(
            f"the body is {_called(found)}",
            f'send a list of rows, [{example(spec)}, ..], or {{"columns": [..], "data": [[..], ..]}}; '
            "a single row goes to /predict",
        )
    _bound(len(found), len(spec.columns))
    good, problems = list[dict[str, object]](), dict[int, RowProblem]()
    allowed = spec.names | spec.accepted
    for index, row in enumerate(found):
        if not isinstance(row, dict):
            problems[index] = _told(problems, index, _not_an_object, spec, row)
        elif row.keys() == spec.names or spec.names <= row.keys() <= allowed:
            good.append(row)
        else:
            problems[index] = _told(problems, index, _names_of, spec, row)
    names = [column.name for column in spec.columns]
    return _encoded(spec, dict(zip(names, _cells(good, names), strict=True)), len(found), problems)


def _cells(rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> Sequence[Sequence[object]]:
    """Those of each column: row by row, as they lie in memory."""
    if len(names) == 1:
        return [[row[names[0]] for row in rows]]
    return list(zip(*map(itemgetter(*names), rows), strict=True)) if rows else [()] * len(names)


def of_lists(spec: TableInput, names: Any, rows: Any) -> TableRows:
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or not isinstance(rows, list)
    ):
        raise WrongTable("columns and data are not lists", '{"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}')
    return _of_rows(spec, names, rows)


def _of_csv(spec: TableInput, body: bytes) -> TableRows:
    csv.field_size_limit(MAX_CELL)
    text = _text(body)
    names, separator = _header(spec, text)
    if len(text) > ARROW_CHARACTERS and (found := _of_plain_csv(spec, text, names, separator)) is not None:
        return found
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    del text
    try:
        next(reader)
        rows = list(islice(filter(None, reader), MAX_ROWS + 1))
    except csv.Error as error:
        raise WrongTable(
            f"line {reader.line_num}: {error}", "close each quotation mark, on the same row"
        ) from error
    return _of_rows(spec, names, rows)


def _of_plain_csv(spec: TableInput, text: str, names: Sequence[str], separator: str) -> TableRows | None:
    """The same by pyarrow, several times as fast; None where anything is wrong: the slow way says where."""
    from app.serving.decoding import arrow

    columns = arrow.read_plain_csv(text, names, separator, spec)
    if columns is None:
        return None
    check_names(spec, columns.keys())
    count = len(next(iter(columns.values())))
    return _encoded(spec, columns, count)


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return body.decode("cp1252", "replace")


def _header(spec: TableInput, text: str) -> tuple[list[str], str]:
    """The names in the first line, and what separates them: that by which most of them are known."""
    known = spec.names | spec.accepted
    first = text[:MAX_HEADER]
    if len(text) > len(first) and not {"\n", "\r"} & set(first):
        raise WrongTable(
            f"the first line has more than {MAX_HEADER:,} characters", "send the columns of the model"
        )
    found: tuple[int, list[str], str] = (-1, [], ",")
    for separator in _SEPARATORS:
        try:
            line = next(
                csv.reader(io.StringIO(first, newline=""), delimiter=separator, skipinitialspace=True), []
            )
        except csv.Error:
            continue
        names = [name.strip() for name in line]
        matches = sum(name in known for name in names)
        if matches > found[0]:
            found = (matches, names, separator)
    if found[0] <= 0:
        raise WrongTable(
            "the first line names no column of the model", f"begin with a line of names: {names_of(spec)}"
        )
    return found[1], found[2]


def names_of(spec: TableInput) -> str:
    names = [column.name[:MAX_NAME] for column in spec.columns[:20]]
    return ", ".join(names) + (", .." if len(spec.columns) > 20 else "")


def _of_rows(spec: TableInput, names: Sequence[str], rows: Sequence[Any]) -> TableRows:
    """From lists of cells, in the order of `names`."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise WrongTable(f"the column {twice[:MAX_NAME]!r} comes twice", "send each column once")
    check_names(spec, names)
    _bound(len(rows), len(names))
    good, problems = list[Sequence[object]](), dict[int, RowProblem]()
    for index, row in enumerate(rows):
        if isinstance(row, list) and len(row) == len(names):
            good.append(row)
        else:
            problems[index] = _told(problems, index, _not_a_line, names, row)
    cells = zip(*good, strict=True) if good else ((),) * len(names)
    return _encoded(spec, dict(zip(names, cells, strict=True)), len(rows), problems)


def _encoded(
    spec: TableInput, columns: Columns, count: int, problems: dict[int, RowProblem] | None = None
) -> TableRows:
    """`columns` are those of the rows without a problem so far."""
    problems = problems or {}
    if not count:
        raise WrongTable("the table has no rows", "send at least one")
    if len(problems) == count:
        return TableRows(np.empty((0, spec.width), np.float32), count, problems)
    values, found = encode_columns(spec, columns)
    if found:
        places = np.setdiff1d(np.arange(count), np.fromiter(problems, np.int64), assume_unique=True)
        for problem in found:
            index = int(places[problem.row])
            if index not in problems:
                problems[index] = _told(problems, index, _wrong_cell, problem)
        kept = np.ones(len(values), bool)
        kept[[problem.row for problem in found]] = False
        values = values[kept]
    return TableRows(values, count, dict(sorted(problems.items())))


def _single(spec: TableInput, row: Mapping[str, object]) -> TableRows:
    try:
        return TableRows(encode_row(spec, row)[None], 1)
    except TableError as error:
        raise WrongRow(error.detail, error.hint) from error


def _wrong_cell(problem: ValueProblem) -> RowProblem:
    return RowProblem(
        str(problem), f"send {problem.expected}, or null (in CSV, nothing) where the value is missing"
    )


def _fields(content_type: str, body: bytes) -> dict[str, object]:
    parts = form_parts(content_type, body, MAX_COLUMNS)
    return _once(
        (name.decode("utf-8", "replace"), bytes(cell).decode("utf-8", "replace")) for name, cell in parts
    )


def _pairs(body: bytes) -> dict[str, object]:
    try:
        return _once(parse_qsl(body.decode("utf-8", "replace"), True, max_num_fields=MAX_COLUMNS))
    except ValueError as error:
        raise WrongTable(
            f"the form has more than {MAX_COLUMNS:,} fields", "send the columns of the model"
        ) from error


def _once(pairs: "Iterator[tuple[str, str]] | list[tuple[str, str]]") -> dict[str, object]:
    return _object([(name, cell[:MAX_CELL]) for name, cell in pairs])


def _bound(rows: int, columns: int) -> None:
    if rows > MAX_ROWS or rows * columns > MAX_CELLS:
        raise WrongTable(
            f"the table has more than {MAX_ROWS:,} rows or {MAX_CELLS:,} cells", "send fewer rows at a time"
        )


def _told(
    problems: Mapping[int, RowProblem], index: int, describe: Callable[..., RowProblem], *arguments: object
) -> RowProblem:
    """A problem that names its row; after the first thousand it is not looked for."""
    if len(problems) >= MAX_TOLD:
        return _MANY
    found = describe(*arguments)
    return RowProblem(f"row {index + 1}: {found.detail}", found.hint)


_MANY = RowProblem("the row cannot be read", f"see the {MAX_TOLD:,} problems before this one")


def _not_an_object(spec: TableInput, row: object) -> RowProblem:
    return RowProblem(f"it is {_called(row)}", f"each row is an object, {example(spec)}")


def _not_a_line(names: Sequence[str], row: object) -> RowProblem:
    cells = f"it has {len(row)} cells" if isinstance(row, list) else f"it is {_called(row)}"
    return RowProblem(f"{cells}, there are {len(names)} columns", "send a cell for each column, in their order")


def _names_of(spec: TableInput, row: Mapping[str, object]) -> RowProblem:
    try:
        check_names(spec, row.keys())
    except TableError as error:
        return RowProblem(error.detail[:MAX_TEXT], error.hint[:MAX_TEXT])
    raise AssertionError(f"a row that can be read: {list(row)[:5]}")


def _called(value: object) -> str:
    if value is None:
        return "null"
    return {dict: "an object", list: "a list", str: "a text", bool: "true or false"}.get(
        type(value), "a number"
    )
