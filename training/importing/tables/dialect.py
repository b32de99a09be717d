"""How a CSV file is written, from its first megabyte: separator, header, names of the columns."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from models.tables import MAX_COLUMNS, MISSING
from training.errors import DatasetError
from training.importing.tables.facts import Separator, TableOptions
from training.importing.tables.text import MAX_LINE, Text

HEAD = 1024**2  # bytes that are looked at
MOST = 500  # records of it
MAX_NAME = 200  # characters of a column's name
_SEPARATORS: tuple[Separator, ...] = ("\t", ";", "|", ",")  # a decimal comma separates, too: it comes last
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")

Record = list[str]


@dataclass(frozen=True)
class Dialect:
    """What a parser needs to know."""

    separator: Separator
    quoting: bool
    names: tuple[str, ...]
    header: Record | None  # the record that holds the names, as it stands
    padded: bool  # a blank follows every separator, and means nothing
    renamed: tuple[str, ...]  # names that stood there twice, or not at all
    spaced: bool = False  # blanks stand between a separator and a quotation mark


def sniff(text: Text, options: TableOptions) -> Dialect:
    """Raises DatasetError for one column, for too many, or for no consistent separator."""
    head, whole = text.head(HEAD)
    if not head.strip():
        raise DatasetError(
            f"{text.file.name} is empty: send a table with a line of names and a row in each line"
        )
    separator, records = _separator(text.file.name, head, whole, options)
    width = _width(records)
    header = _header(records, width, options.header)
    rows = [record for record in records if len(record) == width and record is not header]
    padded = _padded(rows)
    names, renamed = _names(header, width)
    spaced = options.quoting and _is_spaced(head, separator)
    return Dialect(separator, options.quoting, names, header, padded and not spaced, renamed, spaced)


def parse(lines: io.TextIOBase, separator: str, quoting: bool, spaced: bool = False) -> "csv._reader":  # type: ignore[name-defined]
    """Python's reader of CSV, which takes what the fast one takes, and where it is `spaced` more."""
    csv.field_size_limit(2 * MAX_LINE)
    return csv.reader(
        lines,
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
        skipinitialspace=spaced,
    )


def _is_spaced(head: str, separator: str) -> bool:
    return re.search(f'{re.escape(separator)} +"', head) is not None


def _separator(name: str, head: str, whole: bool, options: TableOptions) -> tuple[Separator, list[Record]]:
    """The separator by which most records have the same number of values, and these records."""
    first = head[: head.find("\n") + 1] or head
    most = max(first.count(separator) for separator in _SEPARATORS)
    if most >= MAX_COLUMNS:
        raise DatasetError(f"{name} has {most + 1:,} columns or more, at most {MAX_COLUMNS:,} are taken")
    best: tuple[tuple[float, ...], Separator, list[Record]] | None = None
    for rank, separator in enumerate(_SEPARATORS):
        if options.separator not in (None, separator):
            continue
        records = _records(head, whole, separator, options.quoting)
        if not records:
            continue
        width = _width(records)
        share = sum(len(record) == width for record in records) / len(records)
        regular = len(records[0]) in (width, width - 1) and share >= 0.8
        score = (width > 1, regular, round(20 * share), -rank)
        if best is None or score > best[0]:
            best = (score, separator, records)
    if best is None or not best[0][0]:
        raise DatasetError(
            f"{name} has one column: a table needs the class and one more, between them a comma, semicolon, "
            "tab or |"
        )
    return best[1], best[2]


def _records(head: str, whole: bool, separator: str, quoting: bool) -> list[Record]:
    found: list[Record] = []
    try:
        spaced = quoting and _is_spaced(head, separator)
        for record in parse(io.StringIO(head, newline=""), separator, quoting, spaced):
            if record:
                found.append(record)
            if len(found) > MOST:
                return found[:MOST]
    except csv.Error:
        return found
    return found if whole or len(found) < 2 else found[:-1]


def _width(records: Sequence[Record]) -> int:
    counts = Counter(len(record) for record in records)
    return max(counts, key=lambda width: (counts[width], width))


def _header(records: Sequence[Record], width: int, wanted: bool | None) -> Record | None:
    """The first record of the table where it holds names; lines above it are none of its rows.

    One value less than the rows have: the first column has no name, as R writes it.
    """
    at = next((i for i, record in enumerate(records) if len(record) == width), 0)
    first = records[at]
    above = records[at - 1] if at else None
    if wanted is False:
        return None
    if above is not None and len(above) == width - 1 and width > 2 and _names_columns(above, records[at:], 1):
        return above
    if wanted or _names_columns(first, records[at + 1 :], 0):
        return first
    return None


def _names_columns(first: Record, rows: Sequence[Record], skipped: int) -> bool:
    """Whether a record holds names: texts above numbers, or texts that do not occur below."""
    if not rows:
        return True
    width = len(first) + skipped
    columns = [[row[i].strip() for row in rows if len(row) == width] for i in range(skipped, width)]
    evidence = 0
    for cell, column in zip(first, columns, strict=True):
        text = cell.strip()
        present = [value for value in column if value not in MISSING]
        numbers = sum(bool(NUMBER.fullmatch(value)) for value in present)
        if present and numbers >= 0.9 * len(present):
            if NUMBER.fullmatch(text) or text in MISSING - {""}:
                return False
            evidence += 1
        elif text and text in column:
            evidence -= 1
    return evidence > 0 or (evidence == 0 and len({cell.strip() for cell in first}) == len(first))


def _padded(rows: Sequence[Record]) -> bool:
    cells = [cell for row in rows for cell in row[1:] if cell]
    return bool(cells) and all(cell.startswith(" ") for cell in cells)


def _names(header: Record | None, width: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A name for each column, all different; and those that were not so in the file."""
    given = (
        [""] * (width - len(header)) + [cell.strip()[:MAX_NAME] for cell in header] if header else [""] * width
    )
    taken = {name for name in given if name}
    names: list[str] = []
    renamed = []
    for number, name in enumerate(given, 1):
        wanted = name or f"column-{number}"
        unique, copy = wanted, 2
        while unique in names or (unique != name and unique in taken):
            unique = f"{wanted} ({copy})"
            copy += 1
        if unique != name and header:
            renamed.append(unique)
        names.append(unique)
    return tuple(names), tuple(renamed)
