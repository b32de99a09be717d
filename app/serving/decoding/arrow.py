"""Rows in Arrow's formats and parquet. In a decoder alone: pyarrow reads foreign bytes in C++.

The decoder's process has limits of memory and CPU time; rows and columns are counted before they are objects.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from app.errors import WrongTable
from app.serving.decoding.tables import ARROW, MAX_CELLS, MAX_NAME, MAX_ROWS, PARQUET
from models.tables import MAX_COLUMNS, MISSING, Column, TableInput, check_names

pa.set_cpu_count(1)
pa.set_memory_pool(pa.system_memory_pool())  # others reserve address space, of which there is little here


def read_columns(kind: str, body: bytes, spec: TableInput) -> tuple[int, dict[str, list[object]]]:
    """How many rows there are, and the cells of each column that the model takes.

    Raises WrongTable, and TableError for columns that are missing or unknown.
    """
    try:
        names, batches = _parquet(body, spec) if kind == PARQUET else _arrow(kind, body)
        _check(spec, names)
        count, columns = 0, {column.name: list[object]() for column in spec.columns}
        for batch in batches:
            count += batch.num_rows
            _bound(count, len(names))
            for column in spec.columns:
                columns[column.name] += _cells(column, batch.column(names.index(column.name)))
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, OverflowError) as error:
        said = str(error).splitlines()[:1] or [type(error).__name__]
        raise WrongTable(
            f"the table cannot be read: {said[0][:MAX_NAME]}", "write it again, with pyarrow or pandas"
        ) from error
    return count, columns


def read_plain_csv(
    text: str, names: Sequence[str], separator: str, spec: TableInput
) -> dict[str, Sequence[object]] | None:
    """The cells of each column of the model, numbers as arrays; None where any is out of the ordinary."""
    known = {column.name: column for column in spec.columns}
    plain = {name for name, column in known.items() if column.role == "numeric" and column.decimal == "."}
    if len(set(names)) < len(names) or not known.keys() <= set(names):
        return None
    convert = csv.ConvertOptions(
        include_columns=list(known),
        column_types={name: pa.float64() if name in plain else pa.string() for name in known},
        null_values=sorted(MISSING),
        strings_can_be_null=False,
        check_utf8=True,
    )
    try:
        table = csv.read_csv(
            pa.BufferReader(text.encode("utf-8")),
            csv.ReadOptions(use_threads=False, column_names=list(names), skip_rows_after_names=1),
            csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert,
        )
    except (pa.ArrowException, ValueError):
        return None
    _bound(table.num_rows, len(names))
    columns: dict[str, Sequence[object]] = {}
    for name in known:
        cells = table.column(name)
        columns[name] = cells.to_numpy() if name in plain else cells.to_pylist()
        if name in plain and not np.isfinite(cells.drop_null().to_numpy()).all():
            return None
    return columns


def _parquet(body: bytes, spec: TableInput) -> tuple[list[str], Iterator[Any]]:
    file = pq.ParquetFile(pa.BufferReader(body))
    names = file.schema_arrow.names
    _check(spec, names)
    _bound(file.metadata.num_rows, len(names))
    wanted = [name for name in names if name in spec.names]
    names[:] = wanted
    return names, file.iter_batches(batch_size=4096, columns=wanted, use_threads=False)


def _arrow(kind: str, body: bytes) -> tuple[list[str], Iterator[Any]]:
    source = pa.BufferReader(body)
    if kind == ARROW:
        stream = pa.ipc.open_stream(source)
        return stream.schema.names, iter(stream)
    file = pa.ipc.open_file(source)
    return file.schema.names, (file.get_batch(index) for index in range(file.num_record_batches))


def _check(spec: TableInput, names: Sequence[str]) -> None:
    if len(names) > MAX_COLUMNS + len(spec.accepted):
        raise WrongTable(f"the table has {len(names):,} columns", "send those of the model")
    if len(set(names)) < len(names):
        raise WrongTable("a column comes twice", "send each column once")
    check_names(spec, names)


def _bound(rows: int, columns: int) -> None:
    if rows > MAX_ROWS or rows * columns > MAX_CELLS:
        raise WrongTable(
            f"the table has more than {MAX_ROWS:,} rows or {MAX_CELLS:,} cells", "send fewer rows at a time"
        )


def _cells(column: Column, cells: Any) -> list[object]:
    """As Python's objects."""
    if pa.types.is_nested(cells.type) and not pa.types.is_dictionary(cells.type):
        raise WrongTable(f"column {column.name[:MAX_NAME]!r} holds {cells.type}", "send plain values")
    if pa.types.is_timestamp(cells.type):
        cells = cells.cast(
            pa.timestamp("us", cells.type.tz), safe=False
        )  # pyarrow needs pandas for nanoseconds
    if pa.types.is_decimal(cells.type):
        cells = cells.cast(pa.float64(), safe=False)
    return cells.to_pylist()
