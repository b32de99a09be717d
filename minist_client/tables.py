"""Rows of tables as callers have them -> the bodies of requests, none larger than the service takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from minist_client.errors import UnusableInput
from minist_client.steps import JSON, Body

MOST_ROWS, MOST_BYTES = 10_000, 8 * 1024 * 1024  # of a request
CSV = "text/csv"
WHOLE = {
    ".parquet": "application/vnd.apache.parquet",
    ".arrow": "application/vnd.apache.arrow.file",
    ".feather": "application/vnd.apache.arrow.file",
}
_TEXTS = (".csv", ".tsv", ".txt")


@dataclass(frozen=True, slots=True)
class Rows:
    """A part of a table: its first row comes after `before` others."""

    body: Body
    before: int


def is_table_file(path: Path) -> bool:
    """By its ending."""
    return path.suffix.lower() in (*WHOLE, *_TEXTS)


def row_body(row: Mapping[str, Any]) -> Body:
    """One row."""
    return Body(JSON, _row(row))


def records(table: Any) -> Iterable[Mapping[str, Any]] | None:
    """The rows of a pandas or polars DataFrame or a pyarrow Table; None where it is none."""
    for name in ("to_pylist", "to_dicts"):
        if callable(found := getattr(table, name, None)):
            return cast(Iterable[Mapping[str, Any]], found())
    if callable(found := getattr(table, "to_dict", None)) and hasattr(table, "columns"):
        return cast(Iterable[Mapping[str, Any]], found(orient="records"))
    return None


def of_mappings(rows: Iterable[Mapping[str, Any]]) -> Iterator[Rows]:
    """JSON lists."""
    lines: list[bytes] = []
    size = before = 0
    for row in rows:
        line = _row(row)
        if lines and (len(lines) == MOST_ROWS or size + len(line) > MOST_BYTES):
            yield Rows(Body(JSON, b"[%s]" % b",".join(lines)), before)
            before, lines, size = before + len(lines), [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        yield Rows(Body(JSON, b"[%s]" % b",".join(lines)), before)


def of_file(path: Path) -> Iterator[Rows]:
    """CSV in pieces, each with the line of names; parquet and Arrow as they are."""
    kind = WHOLE.get(path.suffix.lower())
    if kind is not None:
        yield Rows(Body(kind, b"", path), 0)
        return
    with path.open("rb") as stream:
        yield from of_csv(stream)


def of_csv(stream: BinaryIO) -> Iterator[Rows]:
    """Cut between rows, also where cells have newlines in quotation marks."""
    lines = _csv_rows(stream)
    head = next(lines, b"")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnusableInput("the file is UTF-16: save it as UTF-8")
    head = head if head.endswith((b"\n", b"\r")) else head + b"\n"
    found: list[bytes] = []
    size = before = 0
    for line in lines:
        if found and (len(found) == MOST_ROWS or size + len(line) > MOST_BYTES):
            yield Rows(Body(CSV, b"".join((head, *found))), before)
            before, found, size = before + len(found), [], 0
        found.append(line)
        size += len(line)
    if found or not before:
        yield Rows(Body(CSV, b"".join((head, *found))), before)


def _csv_rows(stream: BinaryIO) -> Iterator[bytes]:
    """Lines, joined while a quotation mark is open; empty ones left out."""
    waiting: list[bytes] = []
    marks = 0
    for line in stream:
        if not waiting and not line.strip():
            continue
        waiting.append(line)
        marks += line.count(b'"')
        if marks % 2 == 0:
            yield b"".join(waiting)
            waiting, marks = [], 0
    if waiting:
        yield b"".join(waiting)


def _row(row: Mapping[str, Any]) -> bytes:
    cells = {str(name): None if _is_missing(value) else value for name, value in row.items()}
    return json.dumps(cells, separators=(",", ":"), default=_cell).encode()


def _cell(value: Any) -> Any:
    """Of numpy and pandas, of dates and decimals."""
    if callable(getattr(value, "item", None)):
        found = value.item()
        return None if _is_missing(found) else found
    return value.isoformat() if callable(getattr(value, "isoformat", None)) else str(value)


def _is_missing(value: Any) -> bool:
    """NaN and NaT differ from themselves; pandas.NA refuses to say."""
    try:
        return bool(value != value)
    except TypeError:
        return True
    except ValueError:  # of an array
        return False
