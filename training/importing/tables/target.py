"""The column that is to be told: which it may be, whether it can be one, and its classes."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from training.errors import DatasetError
from training.importing.tables.columns import Judged, Values
from training.importing.tables.dialect import NUMBER
from training.importing.tables.facts import Proposal, TableOptions

MAX_CLASSES = 1000
MANY_NUMBERS = 20  # different whole numbers of a target that are taken for classes without asking
LABEL = 100  # characters
_NONE = frozenset({"", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "NAN", "null", "NULL"})
_NAMES = re.compile(
    r"(^|[\W_])(target|label|labels|class|klasse|klass|classe|category|outcome|result|response|y|diagnosis|"
    r"species|survived|churn|income|quality|default|fraud|spam|sentiment|approved|exited|attrition)([\W_]|$)",
    re.I,
)


def find(wanted: str, names: Sequence[str]) -> str:
    """The column that is meant. Raises DatasetError with near misses."""
    if wanted in names:
        return wanted
    alike = [name for name in names if name.casefold() == wanted.strip().casefold()]
    if len(alike) == 1:
        return alike[0]
    near = get_close_matches(wanted, names, 3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"columns are {', '.join(names[:30])}"
    raise DatasetError(f"the table has no column {wanted[:LABEL]!r}: {hint}")


def propose(
    judged: Mapping[str, Judged], distinct: Mapping[str, int], only_in_train: Sequence[str]
) -> list[Proposal]:
    """Columns that may be the target, the likeliest first, and why."""
    names = list(judged)
    found: dict[str, str] = {}

    def add(name: str, why: str) -> None:
        found.setdefault(name, why)

    fit = [name for name in names if _may_be_target(judged[name], distinct[name])]
    if len(only_in_train) == 1 and only_in_train[0] in fit:
        add(only_in_train[0], "the test table does not have it")
    for name in fit:
        if _NAMES.search(name):
            add(name, f"its name says so; it has {distinct[name]} different values")
    for name, where in ((names[-1], "last"), (names[0], "first")):
        if name in fit:
            add(name, f"it is the {where} column and has {distinct[name]} different values")
    for name in sorted(fit, key=lambda name: distinct[name]):
        if judged[name].role in ("boolean", "categorical"):
            add(name, f"it has {distinct[name]} different values")
    return [Proposal(column=name, why=why) for name, why in found.items()][:5]


def _may_be_target(judged: Judged, distinct: int) -> bool:
    if judged.role not in ("numeric", "boolean", "categorical"):
        return False
    return 2 <= distinct <= (MANY_NUMBERS if judged.role == "numeric" else 100)


def check(values: Values, options: TableOptions) -> None:
    """Raises DatasetError with the reason where a column cannot be the target."""
    name, rows, distinct = values.name, values.rows, values.distinct
    if distinct < 2:
        what = "has no values" if not distinct else f"is {values.examples(1)[0]!r} in every row"
        raise DatasetError(f"the target {name!r} {what}: a classifier needs two classes at least")
    if distinct == rows and rows > 2:
        raise DatasetError(
            f"the target {name!r} is different in each of {rows:,} rows: choose one whose values come again"
        )
    texts = [values.array[int(i)].as_py() for i in values.order]
    numbers = [text for text in texts if NUMBER.fullmatch(text)]
    fractions = any(re.search(r"[.,]\d*[1-9]", text) for text in numbers)
    many = distinct > MANY_NUMBERS or (fractions and distinct > MANY_NUMBERS / 2)
    if options.numeric_target == "ask" and len(numbers) > 0.9 * distinct and many:
        raise DatasetError(
            f"the target {name!r} holds {distinct:,} different numbers: is it a quantity? Regression is not "
            "offered; if each number is a class, import with the option numeric_target=classes, else choose "
            "another column or cut it into ranges yourself"
        )
    if distinct > MAX_CLASSES:
        raise DatasetError(
            f"the target {name!r} has {distinct:,} values, at most {MAX_CLASSES:,} classes are taken"
        )


def is_missing(values: Values) -> NDArray[np.bool_]:
    """Of each value of a target: whether it means that there is none. `None` and `-` may be classes."""
    return np.array([text.strip() in _NONE for text in values.texts], bool)


def similar(labels: Sequence[str]) -> list[tuple[str, ...]]:
    """Labels that differ only in blanks, case or a final dot."""
    folded: defaultdict[str, list[str]] = defaultdict(list)
    for label in labels:
        folded[fold(label)].append(label)
    return [tuple(same) for same in folded.values() if len(same) > 1]


def fold(label: str) -> str:
    """Equal for labels that a person would take for the same."""
    return " ".join(label.casefold().split()).rstrip(". ")


def renamed(label: str, options: TableOptions, merged: Mapping[str, str]) -> str:
    """The class of a label: as a person has named it, or merged with one that is nearly the same."""
    label = label[:LABEL]
    return options.rename.get(label, merged.get(label, label))
