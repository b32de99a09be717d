"""A table becomes a data set directory; memory is that of a column, however many there are.

CSV, parquet -> columns of text, mapped -> what each column is -> target, splits
-> table.npy, rows.npz, rows.csv, samples.json -> profile, digest
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.files import write_atomically
from models.imported import ROWS, TABLE, TEST, TRAIN, VALIDATION
from models.tables import Column, TableInput
from training.errors import DatasetError
from training.importing.facts import SHOWN
from training.importing.tables import association, output, target, warnings
from training.importing.tables.cells import Cells, read_cells
from training.importing.tables.columns import MAX_CATEGORIES, Judged, Values, describe, encode, judge
from training.importing.tables.facts import ColumnFacts, TableDraft, TableOptions, TableProfile
from training.importing.tables.files import table_files
from training.importing.tables.labels import Labelled, read_labels
from training.importing.tables.splitting import group_rows, row_keys, split_rows

PROFILE = "profile.json"
PREVIEW = 20  # rows of a draft
Progress = Callable[[int, int], None]


def import_table(
    source: Path, directory: Path, options: TableOptions, progress: Progress
) -> TableProfile | TableDraft:
    """Read `source` into `directory`, which must exist and be empty. Raises DatasetError."""
    pa.set_memory_pool(pa.system_memory_pool())  # others reserve much more than they use
    scratch: list[Path] = []
    try:
        with table_files(source) as files:
            cells = read_cells(files, directory, options, scratch, progress)
        wanted = None if options.target is None else target.find(options.target, cells.names)
        if wanted is None:
            return _draft(source, directory, cells, options)
        return _finish(source, directory, cells, wanted, options, progress)
    except pa.ArrowException as error:
        if isinstance(error, MemoryError):
            raise
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DatasetError(f"the table cannot be worked on ({why})") from error
    finally:
        for path in scratch:
            path.unlink(missing_ok=True)


# -- a table without a target ------------------------------------------------------------------------


def _draft(source: Path, directory: Path, cells: Cells, options: TableOptions) -> TableDraft:
    judged, facts, distinct = {}, [], {}
    for name in cells.names:
        values = cells.values(name)
        judged[name] = judge(values, options.roles.get(name))
        distinct[name] = values.distinct
        facts.append(_facts(values, judged[name]))
    proposals = target.propose(judged, distinct, cells.only_in_train)
    preview = [
        tuple(str(cells.columns[name][row].as_py())[:80] for name in cells.names)
        for row in range(min(PREVIEW, cells.rows))
    ]
    source_digest = output.digest_of_file(source)
    draft = TableDraft(
        digest=hashlib.sha256(f"{source_digest} {options.model_dump_json()}".encode()).hexdigest(),
        columns=tuple(facts),
        proposals=tuple(proposals),
        preview=tuple(preview),
        **_common(source_digest, cells, options),
    )
    write_atomically(directory / PROFILE, draft.model_dump_json(indent=2).encode() + b"\n")
    return draft


def _common(source_digest: str, cells: Cells, options: TableOptions) -> dict[str, Any]:
    bad = [row for read in cells.reads for row in read.bad]
    return {
        "source_digest": source_digest,
        "options": options,
        "files": tuple(read.format for read in cells.reads),
        "rows": cells.rows,
        "bad_rows": tuple(bad[:SHOWN]),
        "bad_count": sum(read.bad_count for read in cells.reads),
        "warnings": tuple(cells.warned),
    }


def _facts(values: Values, judged: Judged, column: Column | None = None, **more: Any) -> ColumnFacts:
    described = column or (describe(values, judged) if judged.used else None)
    return ColumnFacts(
        name=values.name,
        role=judged.role,
        used=judged.used,
        why=judged.why,
        missing=values.missing,
        distinct=values.distinct,
        examples=values.examples(),
        minimum=described.minimum if described else None,
        maximum=described.maximum if described else None,
        date_format=judged.date_format,
        **more,
    )


# -- a table with a target -----------------------------------------------------------------------------


def _finish(
    source: Path, directory: Path, cells: Cells, wanted: str, options: TableOptions, progress: Progress
) -> TableProfile:
    found = read_labels(cells, wanted, options)
    special = {
        said: target.find(name, cells.names)
        for said, name in (("group", options.group), ("time", options.time))
        if name is not None
    }
    if wanted in special.values():
        raise DatasetError(f"the target {wanted!r} cannot group or order the rows: choose another column")
    columns = _columns(cells, wanted, special, found, options)
    spec = TableInput(
        target=wanted,
        columns=tuple(described for _, described, _ in columns if described is not None),
        left_out=tuple(
            judged.name for judged, described, _ in columns if described is None and judged.name != wanted
        ),
    )
    table = np.lib.format.open_memmap(
        directory / TABLE, "w+", np.float32, (len(found.rows), max(spec.width, 1))
    )
    facts = _encode(cells, wanted, columns, spec, found, table, progress)
    duplicates = row_keys(table)
    copies, conflicts = _copies(duplicates, found.labels)
    often = 2 * copies > len(table)  # a few columns of few values: equal rows are different cases
    groups = group_rows(cells, special, found, np.arange(len(table)) if often else duplicates)
    splits = split_rows(cells, special, found, groups, options)
    spec = _with_bounds(spec, table, splits)
    table.flush()
    np.savez(directory / ROWS, labels=found.labels, splits=splits.astype(np.int8), groups=groups)
    output.write_rows(directory / output.ROWS_CSV, cells, found, splits)
    output.write_samples(directory / output.SAMPLES, cells, found, splits)
    counts = {
        label: {name: int(((found.labels == i) & (splits == s)).sum()) for s, name in output.NAMES.items()}
        for i, label in enumerate(found.classes)
    }
    _warn(cells, found, counts, copies, conflicts, duplicates, splits, facts)
    given = {int(split) for split in cells.given[found.rows] if split >= 0}
    bounds = {column.name: column for column in spec.columns}
    profile = TableProfile(
        digest=output.digest_of(table, found, splits, spec),
        columns=tuple(
            fact.model_copy(update={"minimum": bounds[fact.name].minimum, "maximum": bounds[fact.name].maximum})
            if fact.name in bounds
            else fact
            for fact in facts
        ),
        input=spec,
        classes=found.classes,
        counts=counts,
        given_splits=tuple(name for number, name in output.NAMES.items() if number in given),
        without_target=found.without,
        duplicates=copies,
        conflicts=conflicts,
        similar_labels=found.similar,
        **{**_common(output.digest_of_file(source), cells, options), "rows": len(found.rows)},
    )
    write_atomically(directory / PROFILE, profile.model_dump_json(indent=2).encode() + b"\n")
    return profile


Described = tuple[Judged, Column | None, bytes]


def _columns(
    cells: Cells, wanted: str, special: Mapping[str, str], found: Labelled, options: TableOptions
) -> list[Described]:
    """Each column by what it is, with its description where it is used. Raises DatasetError where none is."""
    for name in options.roles:
        target.find(name, cells.names)
    roles = {target.find(name, cells.names): role for name, role in options.roles.items()}
    made: list[Described] = []
    seen: dict[bytes, str] = {cells.values(wanted, found.rows).digest: wanted}
    for name in cells.names:
        if name == wanted:
            made.append((Judged(name, "target", False), None, b""))
            continue
        values = cells.values(name, found.rows)
        judged = judge(values, roles.get(name))
        if name not in roles:
            twin = seen.get(values.digest) if judged.role != "constant" else None
            used_for = next((said for said, column in special.items() if column == name), None)
            if twin is not None:
                judged = replace(judged, role="duplicate", used=False, why=f"it equals {twin!r}")
            elif used_for is not None:
                what = (
                    "its equal values stay in one split"
                    if used_for == "group"
                    else "it orders the rows in time"
                )
                judged = replace(judged, used=False, why=what)
        seen.setdefault(values.digest, name)
        made.append((judged, describe(values, judged) if judged.used else None, values.digest))
    if not any(judged.used for judged, _, _ in made):
        made = [_returned(cells, found, each) for each in made]
    if not any(judged.used for judged, _, _ in made):
        reasons = "; ".join(f"{judged.name}: {judged.why}" for judged, _, _ in made if judged.why)
        raise DatasetError(f"no column is left to learn from ({reasons[:500]}): give one a role by `roles`")
    return made


def _returned(cells: Cells, found: Labelled, each: Described) -> Described:
    """A column of numbers that seemed to number the rows, where there is nothing else."""
    judged, _, digest = each
    if not judged.may_return:
        return each
    back = replace(judged, role="numeric", used=True, why="it may number the rows; nothing else is left")
    return back, describe(cells.values(judged.name, found.rows), back), digest


def _encode(
    cells: Cells,
    wanted: str,
    columns: Sequence[Described],
    spec: TableInput,
    found: Labelled,
    table: NDArray[np.float32],
    progress: Progress,
) -> list[ColumnFacts]:
    """Fills `table`; what there is to say of each column."""
    starts = dict(zip((column.name for column in spec.columns), spec.starts, strict=True))
    facts = []
    for done, (judged, column, _) in enumerate(columns):
        values = cells.values(judged.name, found.rows)
        if judged.name == wanted:
            facts.append(_facts(values, judged))
            continue
        encoded = None
        if column is not None:
            encoded, unread, such = encode(values, column)
            table[:, starts[column.name] : starts[column.name] + column.width] = encoded
            if unread:
                cells.warn(
                    f"{unread:,} cells of column {column.name!r} are not {column.expected}, such as {such!r}",
                    "they count as missing; or give the column another role",
                )
            if column.role == "categorical" and values.distinct > MAX_CATEGORIES:
                cells.warn(
                    f"column {column.name!r} has {values.distinct:,} categories",
                    f"the {MAX_CATEGORIES:,} most frequent are told apart, the others are `other`",
                )
        told = None
        if column is not None or judged.role not in ("id", "text", "constant"):
            told = association.association(association.fields(values, column, encoded), found.labels)
        drawn = association.histogram(values, column, encoded, found.labels, found.classes)
        facts.append(_facts(values, judged, column, association=told, histogram=drawn))
        progress(len(columns) + done, 2 * len(columns))
    return facts


def _with_bounds(spec: TableInput, table: NDArray[np.float32], splits: NDArray[np.int64]) -> TableInput:
    """With the least and largest number of the training rows, and an example."""
    train = np.flatnonzero(splits == TRAIN)
    columns = []
    for column, start in zip(spec.columns, spec.starts, strict=True):
        numbers = table[train, start + column.width - 1]
        numbers = numbers[~np.isnan(numbers)].astype(np.float64)
        changed: dict[str, object] = {}
        if column.categories:
            changed["example"] = column.categories[0]
        elif len(numbers):
            middle = float(np.sort(numbers)[len(numbers) // 2])
            changed = {"minimum": _short(numbers.min()), "maximum": _short(numbers.max())}
            changed["example"] = _example(column, middle)
        columns.append(column.model_copy(update=changed))
    return spec.model_copy(update={"columns": tuple(columns)})


def _example(column: Column, number: float) -> str | float | int:
    if column.role == "date":
        when = np.datetime64(round(number * 86400), "s").item()
        return str(when.date()) if column.date_format == "iso" else str(when.strftime(str(column.date_format)))
    return int(number) if number == int(number) else _short(number)


def _short(number: float) -> float:
    """As it stood in the file: float32 has seven digits."""
    return float(f"{number:.7g}")


def _copies(duplicates: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[int, int]:
    """Rows that equal an earlier one, and those among them of another class."""
    _, first = np.unique(duplicates, return_index=True)
    copies = len(duplicates) - len(first)
    return copies, int((labels != labels[first][duplicates]).sum())


def _warn(
    cells: Cells,
    found: Labelled,
    counts: Mapping[str, Mapping[str, int]],
    copies: int,
    conflicts: int,
    duplicates: NDArray[np.int64],
    splits: NDArray[np.int64],
    facts: Sequence[ColumnFacts],
) -> None:
    for said in (
        warnings.of_columns(facts),
        warnings.of_labels(found),
        warnings.of_classes(counts),
        warnings.of_copies(copies, conflicts, 2 * copies > len(splits)),
    ):
        cells.warned.extend(said)
    cells.warned[:0] = warnings.of_spellings(found, counts)
    leaked = _leaked(duplicates, splits)
    if leaked and (cells.given >= 0).any():
        cells.warn(f"{leaked:,} rows of the given test split are also in training", "remove them from one side")
    if not (splits == VALIDATION).any():
        cells.warn("there is no validation split", "send more rows")


def _leaked(duplicates: NDArray[np.int64], splits: NDArray[np.int64]) -> int:
    return int((np.isin(duplicates, duplicates[splits == TRAIN]) & (splits == TEST)).sum())
