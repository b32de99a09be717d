"""Tables made here, as directories that an import leaves behind."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.imported import ROWS, TABLE
from models.tables import Column, TableInput

COLOURS = ("red", "green", "blue")
CLASSES = ("a", "b", "c")


def spec_of_mixed() -> TableInput:
    return TableInput(
        target="kind",
        columns=(
            Column(name="size", role="numeric", example=1.5),
            Column(name="colour", role="categorical", categories=COLOURS, example="red"),
            Column(name="new", role="boolean", categories=("no", "yes"), example="no"),
            Column(name="amount", role="numeric", example=0),
        ),
    )


def mixed(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows of `spec_of_mixed` whose class depends on all columns; some cells are missing."""
    random = np.random.default_rng(seed)
    size, amount = random.normal(size=count), random.exponential(50, count) * (random.random(count) < 0.4)
    colour, new = random.integers(3, size=count), random.integers(2, size=count)
    score = size * np.where(new, 1.5, -1.5) + (colour == 1) + amount / 60 + random.normal(scale=0.3, size=count)
    labels = np.digitize(score, (-0.5, 1.5)).astype(np.int64)
    rows = np.stack([size, colour, new, amount], 1).astype(np.float32)
    rows[random.random(rows.shape) < 0.03] = np.nan
    return rows, labels


def otto_like(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """93 sparse counts and 9 classes of very different sizes, some much alike: about as hard as Otto's, where
    the log loss is 0.63 by logistic regression and 0.48 by boosting."""
    random = np.random.default_rng(seed)
    world = np.random.default_rng(93)  # the same for all seeds
    shares = np.array([0.03, 0.26, 0.13, 0.04, 0.05, 0.23, 0.05, 0.13, 0.08])
    kinds = 3  # within a class
    usual, own = world.normal(-1.6, 1.0, 93), world.normal(-2.2, 1.3, (9, kinds, 93)) * 0.55
    for label, like, share in ((2, 1, 0.6), (3, 1, 0.6), (6, 2, 0.3)):
        own[label] = share * own[like] + (1 - share) * own[label]
    rates = np.exp(own + usual)
    labels = random.choice(9, count, p=shares).astype(np.int64)
    strength = random.gamma(1.2, 1.0, (count, 1))
    rows = random.poisson(rates[labels, random.integers(kinds, size=count)] * (0.5 + strength) * 3)
    return rows.astype(np.float32), labels


def spec_of_otto() -> TableInput:
    columns = tuple(Column(name=f"feat_{i}", role="numeric", example=0) for i in range(1, 94))
    return TableInput(target="target", columns=columns)


def write_table(
    directory: Path,
    spec: TableInput,
    rows: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    splits: NDArray[np.int8] | None = None,
    **profile: object,
) -> None:
    """The files of a table; every fifth row is test, every seventh of the others validation."""
    directory.mkdir(parents=True)
    numbers = np.arange(len(rows))
    if splits is None:
        splits = np.where(numbers % 5 == 0, 2, np.where(numbers % 7 == 0, 1, 0)).astype(np.int8)
    np.save(directory / TABLE, rows)
    np.savez(directory / ROWS, labels=labels, splits=splits, groups=numbers)
    facts: dict[str, object] = {"kind": "table", "digest": "0" * 64, "source_digest": "1" * 64}
    facts |= dict.fromkeys(("files", "columns", "bad_rows", "warnings", "given_splits", "similar_labels"), ())
    facts |= dict.fromkeys(("bad_count", "without_target", "duplicates", "conflicts"), 0)
    facts |= {"options": {}, "counts": {}, "rows": len(rows)}
    facts |= {"input": spec.model_dump(), "classes": classes, **profile}
    (directory / "profile.json").write_text(json.dumps(facts))
