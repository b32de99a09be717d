"""Accuracy, log loss and CPU seconds of the recipe `table` on public tables, beside what needs no network.

    python -m benchmarks.tables [NAME ..] [--folds 2] [--recipe auto] [--threads 1] [--data-dir DIR]

The tables are looked for in `own/` of the data directory: adult (its own test rows), credit_g and vehicle (10
folds, stratified), titanic (5 folds). They are imported, trained and tested as a person's file is; `otto-like`
is made here: 62,000 rows of 93 counts in 9 classes, a fifth of them test rows.
"""

import argparse
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np
import torch
from numpy.typing import NDArray

from models.card import Card
from models.imported import ROWS, TEST, TRAIN, VALIDATION, read_rows
from tests.table_samples import otto_like, spec_of_otto, write_table
from training.importing.tables.facts import TableOptions
from training.importing.tables.importer import import_table
from training.recipes import RECIPES
from training.run import Run, train
from training.tables.columns import folds as folds_of

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Table:
    """A file in `own/`, and the least that is wanted: accuracy and log loss."""

    target: str
    folds: int
    accuracy: float
    nll: float


TABLES = {
    "vehicle": Table("Class", 10, 0.83, 0.36),
    "credit_g": Table("class", 10, 0.755, 0.50),
    "titanic": Table("Survived", 5, 0.81, 0.45),
    "adult": Table("income", 1, 0.868, 0.29),
}


@dataclass(frozen=True)
class Result:
    """On the test rows of one fold."""

    accuracy: float
    nll: float
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables")
    parser.add_argument("names", nargs="*", default=["vehicle", "credit_g", "titanic"])
    parser.add_argument("--folds", type=int, default=100, help="of each table, at most")
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--data-dir", type=Path, default=os.environ.get("MINIST_DATA_DIR", ROOT.parent / "shared/data")
    )
    options = parser.parse_args(arguments)
    print("| table | folds | | accuracy | log loss | CPU s |\n|---|---|---|---|---|---|")
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder) / name / "1"
            splits = list(_splits(name, directory, options.data_dir / "own"))[: options.folds]
            found: dict[str, list[Result]] = {}
            for number, chosen in enumerate(splits):
                _write_splits(directory, chosen)
                card = _train(name, Path(folder), number, options.recipe, options.threads)
                for row, result in _results(card).items():
                    print(name, number, row, result, file=sys.stderr, flush=True)
                    found.setdefault(row, []).append(result)
        for row, results in found.items():
            accuracy, nll, seconds = (
                np.mean([getattr(result, field) for result in results])
                for field in ("accuracy", "nll", "seconds")
            )
            print(
                f"| {name} | {len(splits)} | {row} | {accuracy:.4f} | {nll:.4f} | {seconds:.1f} |", flush=True
            )


def _splits(name: str, directory: Path, own: Path) -> Iterator[NDArray[np.int8]]:
    """Import the table; the splits of each fold."""
    if name == "otto-like":
        rows, labels = otto_like(62_000)
        classes = tuple(f"Class_{i}" for i in range(1, 10))
        write_table(directory, spec_of_otto(), rows, labels, classes)
        yield read_rows(directory)[1]
        return
    table = TABLES[name]
    directory.mkdir(parents=True)
    source = own / f"{name}.csv"
    if table.folds == 1:
        source = directory.parent / f"{name}.zip"
        with zipfile.ZipFile(source, "w") as file:
            for part in ("train", "test"):
                file.write(own / f"{name}_{part}.csv", f"{part}.csv")
    import_table(source, directory, TableOptions(target=table.target), lambda done, of: None)
    labels, splits, groups = read_rows(directory)
    if table.folds == 1:
        yield splits
        return
    parts = folds_of(labels, groups, table.folds, 0)
    for fold in range(table.folds):
        rest = np.where(folds_of(labels, groups, 7, fold + 1) == 0, VALIDATION, TRAIN)
        yield np.where(parts == fold, TEST, rest).astype(np.int8)


def _write_splits(directory: Path, splits: NDArray[np.int8]) -> None:
    labels, _, groups = read_rows(directory)
    np.savez(directory / ROWS, labels=labels, splits=splits, groups=groups)


def _train(name: str, folder: Path, number: int, recipe: str, threads: int) -> Card:
    config = RECIPES[recipe].config(dataset=f"{name}@1".replace("_", "-"), name="table", threads=threads)
    plain = folder / name.replace("_", "-")
    if not plain.exists():
        (folder / name).rename(plain)
        (folder / name).symlink_to(plain)
    run = Run.create(folder / f"run-{number}", config)
    return train(run, folder, torch.device("cpu"), lambda event: None, datasets_dir=folder)


def _results(card: Card) -> dict[str, Result]:
    test = card.metrics["test"]
    scores = test.calibrated or test.uncalibrated
    assert scores is not None
    found = {"this": Result(test.accuracy, scores.nll, card.cpu_seconds or 0)}
    for name, row in card.baselines.items():
        found[name] = Result(row.accuracy, row.nll, row.seconds or 0)
    return found


if __name__ == "__main__":
    begun = process_time()
    main()
    print(f"\n{process_time() - begun:.0f} CPU seconds in all")
