"""The rows of all tables of a file, one after the other, as mapped columns of text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.imported import TEST, TRAIN, VALIDATION
from training.errors import DatasetError
from training.importing.facts import Warned
from training.importing.layout import SPLITS, Split
from training.importing.tables import target
from training.importing.tables.columns import Values
from training.importing.tables.facts import TableOptions
from training.importing.tables.files import TableFile
from training.importing.tables.reading import Read, read_table

NUMBERS: Mapping[Split, int] = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
Progress = Callable[[int, int], None]


@dataclass
class Cells:
    """The rows of all files, one after the other, as mapped columns of text."""

    names: tuple[str, ...]
    columns: Mapping[str, pa.ChunkedArray]
    given: NDArray[np.int8]  # split of each row that the source says, -1: none
    reads: Sequence[Read]
    warned: list[Warned] = field(default_factory=list)
    only_in_train: tuple[str, ...] = ()  # columns that a test table, which was left out, has not

    @property
    def rows(self) -> int:
        return len(self.given)

    def values(self, name: str, rows: NDArray[np.int64] | None = None, strip: bool = True) -> Values:
        return Values.of(name, self.columns[name], rows, strip)

    def warn(self, what: str, hint: str) -> None:
        self.warned.append(Warned(what=what, hint=hint))


def read_cells(
    files: Sequence[TableFile], directory: Path, options: TableOptions, scratch: list[Path], progress: Progress
) -> Cells:
    reads: list[Read] = []
    for number, file in enumerate(files):
        scratch.append(directory / f".cells-{number}.arrow")
        reads.append(read_table(file, scratch[-1], options, reads[0].names if reads else None, progress))
    first, *others = reads
    warned: list[Warned] = []
    kept, only = _matching(first, others, options, warned)
    tables = [read.open() for read in kept]
    columns = {
        name: pa.chunked_array([chunk for table in tables for chunk in table.column(name).chunks], pa.string())
        for name in first.names
    }
    given = [
        np.full(table.num_rows, -1 if read.format.split is None else NUMBERS[read.format.split], np.int8)
        for table, read in zip(tables, kept, strict=True)
    ]
    cells = Cells(first.names, columns, np.concatenate(given), reads, warned, only)
    if not cells.rows:
        raise DatasetError("the table has no rows")
    _say_how_it_was_read(cells)
    return _split_column(cells, options)


def _matching(
    first: Read, others: Sequence[Read], options: TableOptions, warned: list[Warned]
) -> tuple[list[Read], tuple[str, ...]]:
    """The tables that have the columns of the first; and the columns that it alone has.

    A test table without the target, as competitions give it, is left out.
    """
    kept, only = [first], set[str]()
    for read in others:
        lacks = [name for name in first.names if name not in read.names]
        wanted = options.target and target.find(options.target, first.names)
        if len(lacks) == 1 and wanted in (None, lacks[0]):
            only.add(lacks[0])
            what = f"{read.format.name} has no column {lacks[0]!r} and was left out"
            warned.append(
                Warned(what=what, hint="test rows are drawn from training; predict that file afterwards")
            )
        elif lacks:
            raise DatasetError(
                f"{read.format.name} lacks the column{'s' * (len(lacks) > 1)} {', '.join(lacks[:10])} of "
                f"{first.format.name}: give both the same columns"
            )
        else:
            kept.append(read)
            more = [name for name in read.names if name not in first.names]
            if more:
                what = f"{read.format.name} has columns that {first.format.name} lacks: {', '.join(more[:10])}"
                warned.append(Warned(what=what, hint="they are left out"))
    if len(kept) == 1:  # nothing is given then
        kept = [replace(first, format=first.format.model_copy(update={"split": None}))]
    return kept, tuple(sorted(only))


def _say_how_it_was_read(cells: Cells) -> None:
    for read in cells.reads:
        form = read.format
        if form.encoding == "cp1252":
            cells.warn(f"{form.name} was read as cp1252", "look whether letters with accents are right")
        if not form.header:
            cells.warn(
                f"{form.name} has no line of names", "columns are called column-1 and so on; or set header"
            )
        if read.renamed:
            some = ", ".join(read.renamed[:10])
            cells.warn(f"columns had no name, or one that another has: {some}", "name them in the file")
        if read.left_out:
            cells.warn(f"columns hold lists or bytes: {', '.join(read.left_out[:10])}", "they are left out")
        if read.bad_count:
            share = read.bad_count / (read.bad_count + form.rows)
            cells.warn(
                f"{read.bad_count:,} lines of {form.name} have too many or too few values and were left out",
                "see `bad_rows`" + ("; is the separator right?" if share > 0.05 else ""),
            )


def _split_column(cells: Cells, options: TableOptions) -> Cells:
    """A column `split` of train, validation and test says where rows belong, as in our own exports."""
    name = next((name for name in cells.names if name.lower() == "split"), None)
    if name is None or (cells.given >= 0).any() or name in (options.target, *options.roles):
        return cells
    values = cells.values(name)
    words = [text.lower() for text in values.texts]
    if not set(words) <= set(SPLITS) or not {"train", "test"} <= {SPLITS[word] for word in words}:
        return cells
    numbers = np.array([NUMBERS[SPLITS[word]] for word in words], np.int8)
    names = tuple(other for other in cells.names if other != name)
    cells.warn(
        f"the column {name!r} says which rows are for training and test",
        "give it a role to take it as a column",
    )
    columns = {other: cells.columns[other] for other in names}
    return replace(cells, names=names, columns=columns, given=numbers[values.codes])
