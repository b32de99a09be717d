"""The files of a table's data set that people see: its rows as they came, and some of them as samples."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
from numpy.typing import NDArray

from models.files import write_atomically
from models.imported import TEST, TRAIN, VALIDATION
from models.tables import TableInput
from training.importing.tables.cells import Cells
from training.importing.tables.labels import Labelled

ROWS_CSV, SAMPLES = "rows.csv", "samples.json"
EACH, ALL = 8, 1000  # samples of a class in a split, and of the table
NAMES: Mapping[int, str] = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}


def write_rows(path: Path, cells: Cells, found: Labelled, splits: NDArray[np.int64]) -> None:
    """The rows as they came, in UTF-8, with the split of each: it imports again with the same splits."""
    name = "split" if "split" not in {other.lower() for other in cells.names} else "split of the row"
    schema = pa.schema([(other, pa.string()) for other in (*cells.names, name)])
    words = pa.array([NAMES[number] for number in sorted(NAMES)])
    with pcsv.CSVWriter(str(path), schema) as writer:
        for start in range(0, len(found.rows), 16_384):
            rows = pa.array(found.rows[start : start + 16_384])
            columns = [cells.columns[other].take(rows).combine_chunks() for other in cells.names]
            columns.append(words.take(pa.array(splits[start : start + 16_384])))
            writer.write_table(pa.table(columns, schema=schema))


def write_samples(path: Path, cells: Cells, found: Labelled, splits: NDArray[np.int64]) -> None:
    """The first rows of each class and split, as they came."""
    each = max(1, min(EACH, ALL // (3 * len(found.classes))))
    group = found.labels * 3 + splits
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    chosen = np.sort(order[rank < each])[:ALL]
    rows = pa.array(found.rows[chosen])
    columns = {
        name: [text[:200] for text in cells.columns[name].take(rows).to_pylist()] for name in cells.names
    }
    samples = [
        {"row": int(row), "values": {name: columns[name][i] for name in cells.names}}
        for i, row in enumerate(chosen)
    ]
    write_atomically(path, json.dumps(samples, ensure_ascii=False).encode())


def digest_of(table: NDArray[np.float32], found: Labelled, splits: NDArray[np.int64], spec: TableInput) -> str:
    digest = hashlib.sha256(json.dumps([spec.model_dump(mode="json"), found.classes]).encode())
    for part in (found.labels, splits):
        digest.update(part.tobytes())
    for start in range(0, len(table), 16_384):
        digest.update(table[start : start + 16_384].tobytes())
    return digest.hexdigest()


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
