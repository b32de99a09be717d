"""Tables as columns of text, in a file that is mapped: memory is that of one column.

CSV is parsed by pyarrow (20 MB of adult: 0.3 s of CPU, with Python's csv and lists 1.8 s), a block at a time
and in one thread. Where rows are bad, Python's reader finds the numbers of their lines.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from models.tables import MAX_COLUMNS
from training.errors import DatasetError
from training.importing.facts import SHOWN
from training.importing.tables.dialect import MAX_NAME, Dialect, parse, sniff
from training.importing.tables.facts import BadRow, TableFormat, TableOptions
from training.importing.tables.files import TableFile
from training.importing.tables.text import MAX_LINE, Text, as_file, read_text

BLOCK = 2 * MAX_LINE  # bytes that are parsed at a time: no row is longer
# For each column of text as many bytes are reserved as the block has, and some blocks are parsed ahead. Of many
# columns the different values of a block are taken, for which nothing is reserved.
_BUILT, _WIDE, _WIDE_BLOCK = 64 * 1024**2, 64, 1024**2
_PIECES = 100_000  # columns of batches that wait to be written together
_AT_ONCE = 500  # records that are written anew together
MAX_ROWS = 20_000_000
_END = "\x1eend\x1e"  # of the last row, which is ours: where it is missing, a quotation mark was not closed
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Read:
    """A table on disk, and how it was read."""

    path: Path  # Arrow IPC, all columns text
    names: tuple[str, ...]
    format: TableFormat
    bad: tuple[BadRow, ...]  # the first
    bad_count: int
    renamed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()  # columns of parquet that hold lists or bytes

    def open(self) -> pa.Table:
        """The mapped table."""
        return pa.ipc.open_file(pa.memory_map(str(self.path))).read_all()


def read_table(
    file: TableFile, path: Path, options: TableOptions, like: Sequence[str] | None, progress: Progress
) -> Read:
    """Read it to `path`. `like`: names of the columns of the table before, for one without a header.

    Raises DatasetError.
    """
    if file.is_parquet:
        return _read_parquet(file, path, progress)
    text = read_text(file, options.encoding)
    dialect = sniff(text, options)
    if like is not None and not set(dialect.names) & set(like) and len(like) == len(dialect.names):
        # no header, or one row of values that was taken for it
        dialect = Dialect(dialect.separator, dialect.quoting, tuple(like), None, dialect.padded, ())
    return _read_csv(text, dialect, path, progress)


# -- CSV -----------------------------------------------------------------------------------------


def _read_csv(text: Text, dialect: Dialect, path: Path, progress: Progress) -> Read:
    block = _WIDE_BLOCK if len(dialect.names) > _WIDE else min(BLOCK, _BUILT // len(dialect.names))
    while True:
        try:
            rows, bad_count = _parsed(text, dialect, path, progress, block)
            break
        except _LongRow as error:
            if block >= BLOCK:
                raise _open_quote(text, error.row) from error
            block *= 4
    bad = _bad_rows(text, dialect) if bad_count else ()
    form = TableFormat(
        name=text.file.name,
        split=text.file.split,
        format="csv",
        encoding=text.encoding,
        separator=dialect.separator,
        header=dialect.header is not None,
        rows=rows,
    )
    return Read(path, dialect.names, form, bad, bad_count, dialect.renamed)


class _LongRow(Exception):
    """A row does not fit into a block; `row` were read before."""

    def __init__(self, row: int) -> None:
        self.row = row


def _parsed(text: Text, dialect: Dialect, path: Path, progress: Progress, block: int) -> tuple[int, int]:
    """Rows that were written to `path`, and rows that were left out. Raises _LongRow or DatasetError."""
    bad_count = 0

    def skip(row: pcsv.InvalidRow) -> str:
        nonlocal bad_count
        bad_count += 1
        return "skip"

    names = list(dialect.names)
    end = dialect.separator.join([_END] * len(names)).encode()
    kind = pa.dictionary(pa.int32(), pa.string()) if len(names) > _WIDE else pa.string()
    with _Writer(path, names, progress, text.size) as writer:
        try:
            parsed = pcsv.open_csv(
                _respaced(text, dialect, end) if dialect.spaced else text.stream(b"\n" + end + b"\n"),
                read_options=pcsv.ReadOptions(use_threads=False, block_size=block, column_names=names),
                parse_options=pcsv.ParseOptions(
                    delimiter=dialect.separator,
                    quote_char='"' if dialect.quoting else False,
                    newlines_in_values=dialect.quoting,
                    invalid_row_handler=skip,
                ),
                convert_options=pcsv.ConvertOptions(
                    column_types=dict.fromkeys(names, kind), strings_can_be_null=False
                ),
            )
            for batch in parsed:
                writer.write(_cleaned(batch, dialect, first=not writer.rows))
        except pa.ArrowInvalid as error:
            if "straddling" in str(error):
                raise _LongRow(writer.rows) from error
            raise DatasetError(f"{text.file.name} cannot be read ({_first_line(error)})") from error
    if not writer.ended:
        raise _open_quote(text, writer.rows - 1)
    header_is_short = dialect.header is not None and len(dialect.header) != len(names)
    return writer.rows, bad_count - header_is_short


def _respaced(text: Text, dialect: Dialect, end: bytes) -> io.BufferedReader:
    """The same without blanks before quotation marks, which the fast reader would take for a part of the value.

    A quotation mark that is never closed swallows the end, as it does there.
    """
    lines = io.TextIOWrapper(text.stream(b"\n" + end + b"\n"), "utf-8", newline="")
    records = parse(lines, dialect.separator, dialect.quoting, spaced=True)

    def chunks() -> Iterator[bytes]:
        try:
            while some := list(islice(records, _AT_ONCE)):
                out = io.StringIO(newline="")
                csv.writer(out, delimiter=dialect.separator, lineterminator="\n").writerows(some)
                yield out.getvalue().encode()
        except csv.Error as error:
            raise DatasetError(f"{text.file.name} cannot be read ({error})") from error

    return as_file(chunks())


def _cleaned(batch: pa.RecordBatch, dialect: Dialect, first: bool) -> pa.RecordBatch:
    """Without the header, and without blanks that follow every separator."""
    if batch.num_columns > _WIDE:
        texts = [column.dictionary_decode() for column in batch.columns]
        batch = pa.record_batch(texts, batch.schema.names)
    if first and dialect.header is not None and len(dialect.header) == batch.num_columns:
        at = _row_of(batch, dialect.header)
        batch = batch.slice(at + 1)
    if dialect.padded:
        batch = pa.record_batch([pc.utf8_ltrim(column, " ") for column in batch.columns], batch.schema)
    return batch


def _row_of(batch: pa.RecordBatch, header: Sequence[str]) -> int:
    """The header is the first row, unless lines above it have as many values."""
    for row in range(min(batch.num_rows, 20)):
        if [column[row].as_py() for column in batch.columns] == list(header):
            return row
    return -1


class _Writer:
    """Batches to an Arrow file, up to the row that is the end."""

    def __init__(self, path: Path, names: Sequence[str], progress: Progress, size: int) -> None:
        self._schema = pa.schema([(name, pa.string()) for name in names])
        self._sink = pa.OSFile(str(path), "wb")
        self._file = pa.ipc.new_file(self._sink, self._schema)
        self._progress = progress
        self._size = size
        self._bytes = 0
        self._waiting: list[pa.RecordBatch] = []
        self._held = 0  # bytes that wait
        self.rows = 0
        self.ended = False

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush()
        self._file.close()
        self._sink.close()

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows and batch.column(0)[-1].as_py() == _END:
            self.ended = True
            batch = batch.slice(0, batch.num_rows - 1)
        self.rows += batch.num_rows
        if self.rows > MAX_ROWS:
            raise DatasetError(f"the table has more than {MAX_ROWS:,} rows: send fewer")
        self._bytes += batch.nbytes
        self._waiting.append(batch)
        self._held += batch.nbytes
        if len(self._waiting) * batch.num_columns >= _PIECES or self._held >= BLOCK:
            self._flush()
        self._progress(min(self._bytes, self._size) // 2, self._size)

    def _flush(self) -> None:
        """As one batch: a column of thousands of pieces takes more memory for them than for its values."""
        if self._waiting:
            for batch in pa.Table.from_batches(self._waiting).combine_chunks().to_batches():
                self._file.write_batch(batch)
        self._waiting, self._held = [], 0


def _open_quote(text: Text, row: int) -> DatasetError:
    return DatasetError(
        f"{text.file.name} opens a quotation mark in or after row {max(row, 0) + 1:,} that is not closed, or a "
        f"row is longer than {BLOCK:,} bytes: close it, or import with the option quoting=false"
    )


def _bad_rows(text: Text, dialect: Dialect) -> tuple[BadRow, ...]:
    """The first rows with too many or too few values, with their lines."""
    found: list[BadRow] = []
    width = len(dialect.names)
    lines = io.TextIOWrapper(text.stream(), "utf-8", newline="")
    reader = parse(lines, dialect.separator, dialect.quoting, dialect.spaced)
    before = 0
    with suppress(csv.Error):  # where it is stricter than the fast one, fewer lines are named
        for record in reader:
            line, before = before + 1, reader.line_num
            if record and len(record) != width and record != dialect.header:
                reason = f"it has {len(record)} value{'s' * (len(record) != 1)}, not {width}"
                found.append(BadRow(file=text.file.name, line=line, reason=reason))
                if len(found) == SHOWN:
                    break
    return tuple(found)


# -- parquet -------------------------------------------------------------------------------------


def _read_parquet(file: TableFile, path: Path, progress: Progress) -> Read:
    """Numbers, dates, texts as texts, which they come back from unchanged; lists and bytes are left out."""
    copy = path.with_suffix(".parquet")
    try:
        with copy.open("wb") as out:
            for chunk in file.chunks():
                out.write(chunk)
        return _read_copy(file, copy, path, progress)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DatasetError(f"{file.name} cannot be read as parquet ({_first_line(error)})") from error
    finally:
        copy.unlink(missing_ok=True)


def _read_copy(file: TableFile, copy: Path, path: Path, progress: Progress) -> Read:
    with pq.ParquetFile(copy, memory_map=True) as source:
        schema, total = source.schema_arrow, source.metadata.num_rows
        if len(schema) > MAX_COLUMNS:
            raise DatasetError(f"{file.name} has {len(schema):,} columns, at most {MAX_COLUMNS:,} are taken")
        if total > MAX_ROWS:
            raise DatasetError(f"{file.name} has {total:,} rows, at most {MAX_ROWS:,} are taken")
        kept = [field.name for field in schema if _is_plain(field.type)]
        if len(set(kept)) != len(kept) or not all(kept):
            raise DatasetError(f"{file.name} has columns without a name, or of the same name")
        names = [name.strip()[:MAX_NAME] for name in kept]
        if len(set(names)) != len(names):
            raise DatasetError(f"{file.name} has columns whose names differ in blanks alone")
        with _Writer(path, names, progress, max(total, 1)) as writer:
            for batch in source.iter_batches(
                batch_size=_rows_at_once(len(kept)), columns=kept, use_threads=False
            ):
                writer.write(pa.record_batch([_as_text(column) for column in batch.columns], names))
    left_out = tuple(field.name for field in schema if field.name not in kept)
    form = TableFormat(
        name=file.name,
        split=file.split,
        format="parquet",
        encoding=None,
        separator=None,
        header=True,
        rows=writer.rows,
    )
    return Read(path, tuple(names), form, (), 0, (), left_out)


def _rows_at_once(columns: int) -> int:
    return max(256, min(65_536, 2_000_000 // max(columns, 1)))


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    nested = pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return not (nested or pa.types.is_fixed_size_binary(kind) or pa.types.is_duration(kind))


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)  # 3.0 is cast to 3
    return pc.fill_null(pc.cast(column, pa.string()), "")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
