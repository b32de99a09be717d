"""What a model of a table takes: its columns, and how the cells of a row become numbers. Imports no torch.

A row becomes float32 [width] as soon as it comes in, one number for each column (five for a date), NaN where it
is missing. Everything that depends on the training rows (quantiles, embeddings, ..) is inside of the model.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.errors import TableError

Role = Literal["numeric", "categorical", "boolean", "date"]
MAX_COLUMNS, MAX_CATEGORIES, MAX_TEXT = 2_000, 10_000, 1_000  # the last: characters of a name or a category
DATE_PARTS = ("year", "month", "day", "weekday", "days since 1970")  # the last with the time of the day
ISO = "iso"  # as a date's format: whatever `datetime.fromisoformat` reads
MISSING = frozenset(
    {"", "?", "-", "--", ".", "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "NAN", "null", "NULL", "None"}
)
TRUE = frozenset({"true", "t", "yes", "y", "1", "1.0", "on"})
FALSE = frozenset({"false", "f", "no", "n", "0", "0.0", "off"})
_LARGEST = float(np.finfo(np.float32).max)
_THOUSANDS = {
    ".": re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?"),
    ",": re.compile(r"[-+]?\d{1,3}(\.\d{3})+(,\d+)?"),
}
_SHOWN = 40  # characters of a value in a message
Floats = NDArray[np.float32]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Column(_Facts):
    """A column that the model uses."""

    name: str = Field(max_length=MAX_TEXT)
    role: Role
    categories: tuple[str, ...] = Field(
        default=(),
        max_length=MAX_CATEGORIES,
        description="of a categorical or boolean column, as text, the most frequent first: a cell's number "
        "is its place; one more is `other`, for what is none of them",
    )
    date_format: str | None = Field(
        default=None, max_length=100, description="of a date: as for strptime, or `iso`"
    )
    decimal: Literal[".", ","] = Field(default=".", description="of numbers that come as text")
    minimum: float | None = Field(default=None, description="of the training rows; of a date, days since 1970")
    maximum: float | None = Field(default=None, description="of the training rows; of a date, days since 1970")
    example: str | float | int | bool | None = Field(default=None, description="a cell as one may send it")

    @model_validator(mode="after")
    def _belong_together(self) -> "Column":
        if bool(self.categories) and self.role not in ("categorical", "boolean"):
            raise ValueError("categories go with the roles categorical and boolean, and with no other")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("the categories are not all different")
        if any(len(category) > MAX_TEXT for category in self.categories):
            raise ValueError(f"a category has more than {MAX_TEXT} characters")
        if (self.date_format is not None) != (self.role == "date"):
            raise ValueError("a date_format goes with the role date, and with no other")
        return self

    @property
    def width(self) -> int:
        """Numbers that a cell becomes."""
        return len(DATE_PARTS) if self.role == "date" else 1

    @property
    def expected(self) -> str:
        """What a cell may be, for a message."""
        if self.role == "numeric":
            return "a number"
        if self.role == "date":
            return f"a date of the form {'YYYY-MM-DD' if self.date_format == ISO else self.date_format}"
        if self.role == "boolean":
            return f"one of {', '.join(self.categories) or 'true, false'}"
        return "a text"


class TableInput(_Facts):
    """What a model of a table takes."""

    kind: Literal["table"] = "table"
    target: str = Field(max_length=MAX_TEXT, description="the column that the model tells")
    columns: tuple[Column, ...] = Field(min_length=1, max_length=MAX_COLUMNS)
    left_out: tuple[str, ...] = Field(
        default=(), description="other columns of the training file: they may be sent, and are not used"
    )

    @model_validator(mode="after")
    def _named_once(self) -> "TableInput":
        names = [column.name for column in self.columns]
        if len({*names, self.target}) != len(names) + 1:
            raise ValueError("the names of the columns and of the target are not all different")
        return self

    @property
    def width(self) -> int:
        """float32 values in a row."""
        return sum(column.width for column in self.columns)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each column's numbers begin in a row."""
        widths = [0, *(column.width for column in self.columns)]
        return tuple(np.cumsum(widths)[:-1].tolist())

    @cached_property
    def layout(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Where numbers and where categories are in a row, and how many categories each of the latter has."""
        numeric: list[int] = []
        categorical: list[int] = []
        sizes: list[int] = []
        for column, start in zip(self.columns, self.starts, strict=True):
            if column.role in ("categorical", "boolean"):
                categorical.append(start)
                sizes.append(len(column.categories))
            else:
                numeric += range(start, start + column.width)
        return tuple(numeric), tuple(categorical), tuple(sizes)

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(column.name for column in self.columns)

    @cached_property
    def accepted(self) -> frozenset[str]:
        """Columns that may be sent and are not used: those left out, and the target."""
        return frozenset((*self.left_out, self.target)) - self.names

    @cached_property
    def allowed(self) -> frozenset[str]:
        """Columns that may be sent."""
        return self.names | self.accepted

    @cached_property
    def readers(self) -> "tuple[Reader, ...]":
        """For each column, what turns a cell into numbers."""
        return tuple(map(_reader, self.columns))


@dataclass(frozen=True, slots=True)
class ValueProblem:
    """A cell that cannot be read; rows count from 0."""

    row: int
    column: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"column {self.column!r} holds {self.value}, where {self.expected} is expected"


def encode_columns(
    spec: TableInput, columns: Mapping[str, Sequence[object]]
) -> tuple[Floats, list[ValueProblem]]:
    """Rows as float32 [N, width], from the cells of each column: text, numbers, booleans, dates, None.

    A cell that cannot be read is NaN and a problem in the list. Raises TableError where a column is missing or
    unknown, or the columns differ in length.
    """
    check_names(spec, columns.keys())
    count = len(columns[spec.columns[0].name])
    rows = np.empty((count, spec.width), np.float32)
    problems: list[ValueProblem] = []
    for column, start in zip(spec.columns, spec.starts, strict=True):
        cells = columns[column.name]
        if len(cells) != count:
            raise TableError(
                f"column {column.name!r} has {len(cells)} cells and column {spec.columns[0].name!r} {count}",
                "send as many of each",
            )
        rows[:, start : start + column.width] = _encode(column, cells, problems)
    problems.sort(key=lambda problem: problem.row)
    return rows, problems


def encode_row(spec: TableInput, row: Mapping[str, object]) -> Floats:
    """A row as float32 [width]. Raises TableError, which names the column and what is expected."""
    if not spec.names <= row.keys() <= spec.allowed:
        check_names(spec, row.keys())
    values: list[float] = []
    for column, read in zip(spec.columns, spec.readers, strict=True):
        cell = row[column.name]
        found = _read(read, cell, (math.nan,) * column.width)
        if found is None:
            problem = ValueProblem(0, column.name, _short(cell), column.expected)
            raise TableError(str(problem), f"send {column.expected}, or null where the value is missing")
        values += found
    return np.array(values, np.float32)


def decode_row(spec: TableInput, row: Floats) -> dict[str, str | float | None]:
    """A row, float32 [width], as a person reads it: numbers, categories (a new one: `other`), ISO dates."""
    found: dict[str, str | float | None] = {}
    for column, start in zip(spec.columns, spec.starts, strict=True):
        value = float(row[start + column.width - 1])
        if math.isnan(value):
            found[column.name] = None
        elif column.role == "numeric":
            found[column.name] = (
                int(value) if value.is_integer() and abs(value) < 2**53 else float(f"{value:.7g}")
            )
        elif column.role == "date":
            found[column.name] = _day(value)
        else:
            found[column.name] = (
                column.categories[int(value)] if 0 <= value < len(column.categories) else "other"
            )
    return found


def recode_rows(source: TableInput, target: TableInput, rows: Floats) -> Floats:
    """Rows, [N, width], that `source` has encoded, as `target` encodes them. Raises ValueError where those are
    not among the former's columns."""
    starts = dict(zip((column.name for column in source.columns), source.starts, strict=True))
    columns = {column.name: column for column in source.columns}
    parts = []
    for column in target.columns:
        old = columns.get(column.name)
        if old is None or old.role != column.role:
            raise ValueError(f"there is no column {column.name!r}")
        start = starts[column.name]
        cells = rows[:, start : start + column.width]
        if column.role in ("categorical", "boolean"):
            known: dict[str | None, int] = {name: code for code, name in enumerate(column.categories)}
            codes = np.array([known.get(name, len(known)) for name in (*old.categories, None)], np.float32)
            places = np.nan_to_num(cells).astype(np.int64).clip(0, len(old.categories))
            cells = np.where(np.isnan(cells), cells, codes[places])
        parts.append(cells)
    return np.ascontiguousarray(np.concatenate(parts, axis=1), np.float32)


def _day(days: float) -> str | None:
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)).date().isoformat()
    except OverflowError:
        return None


def check_names(spec: TableInput, names: "Sequence[str] | Any") -> None:
    """Raises TableError for names that are unknown, or that are missing, with what may have been meant."""
    found = set(names)
    missing = [column.name for column in spec.columns if column.name not in found]
    unknown = sorted(found - spec.names - spec.accepted)
    if unknown:
        name = unknown[0][: 2 * _SHOWN]
        near = get_close_matches(name, missing or [column.name for column in spec.columns], 3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"columns are {_listed(spec)}"
        raise TableError(f"there is no column {name!r}", hint)
    if missing:
        raise TableError(
            f"column {missing[0]!r} is missing"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else ""),
            "send each column; null where a value is missing",
        )


def _listed(spec: TableInput) -> str:
    names = [column.name for column in spec.columns]
    return ", ".join(names[:20]) + (", .." if len(names) > 20 else "")


def _encode(column: Column, cells: Sequence[object], problems: list[ValueProblem]) -> Floats:
    """One column, float32 [N, width]."""
    if column.role == "numeric":
        found = _plain_numbers(column, cells)
        if found is not None:
            return found[:, None]
    read = _reader(column)
    known: dict[str, tuple[float, ...] | None] = {}
    missing = (math.nan,) * column.width
    values = []
    for row, cell in enumerate(cells):
        if isinstance(cell, str):  # equal text was read before
            if cell not in known:
                known[cell] = _read(read, cell, missing)
            value = known[cell]
        else:
            value = _read(read, cell, missing)
        if value is None:
            problems.append(ValueProblem(row, column.name, _short(cell), column.expected))
        values.append(missing if value is None else value)
    return np.array(values, np.float32).reshape(len(values), column.width)


def _plain_numbers(column: Column, cells: Sequence[object]) -> Floats | None:
    """Where each cell is a number, or None, or the text of a number: float32 [N]; else None."""
    try:
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "iuf":
            found = cells.astype(np.float64)
        elif column.decimal == "." or not any(isinstance(cell, str) for cell in cells):
            found = np.fromiter(map(float, cells), np.float64, len(cells))  # type: ignore[arg-type]
            if np.isnan(found).any() and any(isinstance(cell, str) for cell in cells):
                return None  # which words are missing is said elsewhere
        else:
            return None
    except (TypeError, ValueError, OverflowError):
        return None
    return None if (np.abs(found) > _LARGEST).any() else found.astype(np.float32)


Reader = Callable[[object], tuple[float, ...] | None]


def _read(read: Reader, cell: object, missing: tuple[float, ...]) -> tuple[float, ...] | None:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return missing
    try:
        return read(cell)
    except (ValueError, TypeError, OverflowError):
        return None


def _reader(column: Column) -> Reader:
    if column.role == "numeric":
        return lambda cell: _number(column.decimal, cell)
    if column.role == "date":
        return lambda cell: _date(column.date_format or ISO, cell)
    codes = {category: float(code) for code, category in enumerate(column.categories)}
    other = float(len(codes))
    if column.role == "boolean":
        truths = {truth(category): code for category, code in codes.items()}
        return lambda cell: _boolean(codes, truths, other, cell)
    return lambda cell: _category(codes, other, cell)


def _number(decimal: Literal[".", ","], cell: object) -> tuple[float, ...] | None:
    if isinstance(cell, str):
        text = cell.strip()
        if text in MISSING:
            return (math.nan,)
        if _THOUSANDS[decimal].fullmatch(text):
            text = text.replace("," if decimal == "." else ".", "")
        cell = text.replace(",", ".") if decimal == "," else text
    number = float(cell)  # type: ignore[arg-type]
    return (number,) if abs(number) <= _LARGEST else None  # neither infinite nor NaN


def _category(codes: Mapping[str, float], other: float, cell: object) -> tuple[float, ...] | None:
    text = cell_text(cell)
    if text is None:
        return None
    if text in codes:
        return (codes[text],)
    return (math.nan if text in MISSING else other,)


def _boolean(
    codes: Mapping[str, float], truths: Mapping[bool | None, float], other: float, cell: object
) -> tuple[float, ...] | None:
    text = cell_text(cell)
    if text is None or text in codes:
        return None if text is None else (codes[text],)
    if text in MISSING:
        return (math.nan,)
    meant = truth(text)
    return None if meant is None else (truths.get(meant, other),)


def truth(text: str) -> bool | None:
    """What a word of a boolean column says; None for other words."""
    word = text.strip().lower()
    return True if word in TRUE else False if word in FALSE else None


def cell_text(cell: object) -> str | None:
    """A cell as the text of a category, without blanks around it: 3 and 3.0 are `3`. None for a list."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, float | np.floating):
        return str(int(cell)) if float(cell).is_integer() else str(float(cell))
    return str(cell) if isinstance(cell, int | np.integer | date) else None


def _date(form: str, cell: object) -> tuple[float, ...] | None:
    if isinstance(cell, np.datetime64):
        cell = cell.astype("datetime64[us]").item()
        if cell is None:
            return (math.nan,) * len(DATE_PARTS)
    if isinstance(cell, str):
        text = cell.strip()
        if text in MISSING:
            return (math.nan,) * len(DATE_PARTS)
        cell = datetime.fromisoformat(text) if form == ISO else datetime.strptime(text, form)
    if not isinstance(cell, date):
        return None
    when = cell if isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day, tzinfo=UTC)
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    days = (when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() / 86400
    return (float(when.year), float(when.month), float(when.day), float(when.weekday()), days)


def _short(cell: object) -> str:
    if not isinstance(cell, str | int | float | bool):
        return f"a {type(cell).__name__}"
    text = repr(cell) if not isinstance(cell, int) or abs(cell) < 10**_SHOWN else "a very large number"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + ".."
