"""What a column is: numbers, categories, truth values, dates, or something that a model does not learn from.

It is judged by its different values, so a column of a million rows and ten values costs ten looks.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.tables import FALSE, ISO, MAX_TEXT, MISSING, TRUE, Column, TableInput, encode_columns
from training.errors import DatasetError
from training.importing.tables.dialect import NUMBER
from training.importing.tables.facts import Chosen, Role

MAX_CATEGORIES = 1_000  # of a column; what is rarer is `other`
MANY = 20  # different values that a small column may have and still be categories
WORDS, LONG = 3, 60  # on average: a text of so many words, or characters
_DOT = r"^[-+]?(\d+(\.\d*)?|\.\d+|\d{1,3}(,\d{3})+(\.\d+)?)([eE][-+]?\d+)?$"
_COMMA = r"^[-+]?(\d+(,\d*)?|,\d+|\d{1,3}(\.\d{3})+(,\d+)?)([eE][-+]?\d+)?$"
_CODE = r"^0\d+$"  # leading zeros: 007 is a name
_ID_NAME = re.compile(r"(^|[\W_])(id|uuid|guid|key|nr|no|index|idx|row|unnamed: 0)$|^id[\W_]", re.I)
_ID_SUFFIX = re.compile(r"[a-z](ID|Id)$")  # customerID
_DAYS: tuple[str, ...] = (
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%Y/%m/%d",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d.%m.%y",
)
_DAYS += ("%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y")
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_DATE_LIKE = r"\d.*[-./, ].*\d"
_LOOKS = 500  # values by which a date's form is found
_FEW_LOOKS = 50  # values by which dates of several forms are
AT_ONCE = 100_000  # different values that are read as numbers
ENOUGH = 0.95  # share of the values that must be of a kind; the others count as missing, and are said


@dataclass(frozen=True)
class Values:
    """The different values of a column and where they stand: `texts[codes[row]]`, without blanks around."""

    name: str
    array: pa.Array  # of the different values
    codes: NDArray[np.int32]  # [N]
    counts: NDArray[np.int64]  # rows of each value

    @classmethod
    def of(
        cls, name: str, column: pa.ChunkedArray, rows: NDArray[np.int64] | None, strip: bool = True
    ) -> "Values":
        """Of some rows of a column, or of all."""
        encoded = pa.chunked_array([_cleaned(chunk, strip) for chunk in column.chunks], pa.string())
        encoded = encoded.dictionary_encode()  # all chunks share one dictionary
        if not encoded.num_chunks:
            nothing = np.empty(0, np.int64)
            return cls(name, pa.array([], pa.string()), nothing.astype(np.int32), nothing)
        array = encoded.chunk(encoded.num_chunks - 1).dictionary
        codes = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in encoded.chunks])
        codes = codes if rows is None else codes[rows]
        return cls(name, array, codes, np.bincount(codes, minlength=len(array)))

    @cached_property
    def texts(self) -> list[str]:
        found: list[str] = self.array.to_pylist()
        return found

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Of each value: whether it occurs, and is not one of those that mean that there is none."""
        missing = pc.is_in(self.array, pa.array(sorted(MISSING))).to_numpy(zero_copy_only=False)
        return (self.counts > 0) & ~missing

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Values that are present, the most frequent first, then by their order in the file."""
        found = np.flatnonzero(self.present)
        return found[np.argsort(-self.counts[found], kind="stable")]

    @property
    def rows(self) -> int:
        """That have a value."""
        return int(self.counts[self.present].sum())

    @property
    def missing(self) -> int:
        return len(self.codes) - self.rows

    @property
    def distinct(self) -> int:
        return int(self.present.sum())

    def share(self, pattern: str) -> float:
        """Of the rows with a value, those whose value matches."""
        matched = pc.match_substring_regex(self.array, pattern).to_numpy(zero_copy_only=False)
        return float(self.counts[matched & self.present].sum() / max(self.rows, 1))

    def examples(self, count: int = 5) -> tuple[str, ...]:
        return tuple(self.array[int(i)].as_py()[:80] for i in self.order[:count])

    @cached_property
    def digest(self) -> bytes:
        """Equal for columns with the same values in the same rows."""
        first = np.full(len(self.array), -1, np.int64)
        used, at = np.unique(self.codes, return_index=True)
        by_place = used[np.argsort(at)]
        first[by_place] = np.arange(len(by_place))
        found = hashlib.sha256(first[self.codes].tobytes() if len(self.codes) else b"")
        for buffer in self.array.take(pa.array(by_place)).buffers()[1:]:  # lengths, and letters
            found.update(buffer or b"")
        return found.digest()


@dataclass(frozen=True)
class Judged:
    """What a column is, and whether a model learns from it."""

    name: str
    role: Role
    used: bool
    why: str | None = None
    decimal: Literal[".", ","] = "."
    date_format: str | None = None
    may_return: bool = False  # where nothing else is left


def judge(values: Values, chosen: Chosen | None) -> Judged:
    """By its values and its name, or as a person has chosen. Raises DatasetError where that cannot be."""
    found = _judged(values)
    if chosen is None:
        return found
    if chosen == "leave-out":
        return replace(found, used=False, why="left out as you chose")
    return _as_chosen(values, found, chosen)


def _judged(values: Values) -> Judged:
    name, rows, distinct = values.name, values.rows, values.distinct
    if distinct <= 1:
        why = "it has no values" if not distinct else f"all its values are {values.examples(1)[0]!r}"
        return Judged(name, "constant", False, why)
    if _is_boolean(values) and not _are_digits(values):
        return Judged(name, "boolean", True)
    decimal = _decimal(values)
    if decimal is not None:
        return _judged_number(values, decimal)
    form = date_format(values)
    if form is not None:
        return Judged(name, "date", True, date_format=form)
    if (several := _several_forms(values)) is not None:
        return Judged(name, "text", False, several)
    if distinct > MANY and (distinct > 0.9 * rows or 2 * distinct > len(values.codes)):
        words, length = _size(values)
        if words >= WORDS or length >= LONG:
            return Judged(name, "text", False, "free text is not learned from")
        return Judged(
            name, "id", False, f"{distinct:,} different values in {rows:,} rows say nothing of other rows"
        )
    if _size(values)[1] >= LONG and distinct > MANY:
        return Judged(name, "text", False, "free text is not learned from")
    return Judged(name, "categorical", True)


def _judged_number(values: Values, decimal: Literal[".", ","]) -> Judged:
    rows, distinct = values.rows, values.distinct
    if distinct == rows and distinct > MANY and values.share(r"^\d+$") == 1:
        numbers = _whole_numbers(values)
        steps = numbers is not None and bool((np.diff(numbers) > 0).all())
        if numbers is not None and steps and numbers[-1] - numbers[0] < 2 * rows:  # some rows may be missing
            return Judged(values.name, "id", False, "it numbers the rows", decimal, may_return=True)
        if _ID_NAME.search(values.name) or _ID_SUFFIX.search(values.name):
            return Judged(values.name, "id", False, "each row has its own number", decimal, may_return=True)
    return Judged(values.name, "numeric", True, None, decimal)


def _whole_numbers(values: Values) -> NDArray[np.int64] | None:
    """Of the rows that have a value, in their order; None where one is too large."""
    codes = values.codes[values.present[values.codes]]
    try:
        numbers = pc.cast(values.array.take(pa.array(codes)), pa.int64())
    except pa.ArrowInvalid:
        return None
    found: NDArray[np.int64] = numbers.to_numpy(zero_copy_only=False)
    return found


def _as_chosen(values: Values, found: Judged, chosen: Chosen) -> Judged:
    judged = Judged(values.name, chosen, True)  # type: ignore[arg-type]
    if chosen == found.role:
        return replace(found, used=True, why=None)
    if not values.distinct:
        raise DatasetError(f"column {values.name!r} has no values: leave it out")
    if chosen == "numeric":
        decimal = _decimal(values, 0.5, codes=True)
        if decimal is None:
            raise DatasetError(f"column {values.name!r} does not hold numbers ({_such_as(values)})")
        return replace(judged, decimal=decimal)
    if chosen == "date":
        form = date_format(values)
        if form is None:
            raise DatasetError(f"column {values.name!r} holds no dates of one form ({_such_as(values)})")
        return replace(judged, date_format=form)
    if chosen == "boolean" and not _is_boolean(values):
        raise DatasetError(
            f"column {values.name!r} is not of two values such as yes and no ({_such_as(values)})"
        )
    return judged


def _such_as(values: Values) -> str:
    return "such as " + ", ".join(map(repr, values.examples(3)))


def _is_boolean(values: Values) -> bool:
    if values.distinct != 2:
        return False
    words = {values.array[int(i)].as_py().lower() for i in values.order}
    return len(words & TRUE) == 1 and len(words & FALSE) == 1


def _are_digits(values: Values) -> bool:
    """0 and 1 are numbers, which may be counts: a row with a 2 is answered, too."""
    return all(NUMBER.fullmatch(values.array[int(i)].as_py()) for i in values.order)


def _decimal(values: Values, enough: float = ENOUGH, codes: bool = False) -> Literal[".", ","] | None:
    """The decimal mark of a column of numbers; None where it is none."""
    dot, comma = values.share(_DOT), values.share(_COMMA)
    if max(dot, comma) < enough or (not codes and values.share(_CODE) > 0):
        return None
    if dot == comma:  # 1,234 may be either: a mark before other than three digits tells
        return "," if values.share(r"^[-+]?\d+,\d{3}$") > 0 and values.share(r"^[-+]?0,\d+$") > 0 else "."
    return "." if dot > comma else ","


def date_format(values: Values) -> str | None:
    """The form of nearly all values, as for strptime or `iso`; None where there is none."""
    if values.share(_DATE_LIKE) < ENOUGH:
        return None
    some = [values.array[int(i)].as_py() for i in values.order[:: max(1, values.distinct // _LOOKS)]]
    if sum(_reads(text, ISO) for text in some) >= ENOUGH * len(some):
        return ISO
    fits = {}
    for day in _DAYS:
        for time in _TIMES:
            form = day + time
            if _reads(some[0], form) or _reads(some[-1], form):
                fits[form] = sum(_reads(text, form) for text in some)
    best = max(fits, key=lambda form: fits[form], default=None)
    return best if best is not None and fits[best] >= ENOUGH * len(some) else None


def _several_forms(values: Values) -> str | None:
    """Why a column of dates is none: not all are of one form."""
    if values.share(_DATE_LIKE) < ENOUGH or values.share(r"[a-zA-Z]{10}") > 0:
        return None
    some = [values.array[int(i)].as_py() for i in values.order[:: max(1, values.distinct // _FEW_LOOKS)]]
    forms = (ISO, *(day + time for day in _DAYS for time in _TIMES))
    found = {text: next((form for form in forms if _reads(text, form)), None) for text in some}
    dates = [text for text in some if found[text] is not None]
    if len(dates) < ENOUGH * len(some):
        return None
    first = dates[0]
    other = next((text for text in dates if found[text] != found[first]), dates[-1])
    return (
        f"its dates are of several forms, such as {first!r} and {other!r}: write them in one, like 2024-12-31"
    )


def _reads(text: str, form: str) -> bool:
    try:
        if form == ISO:
            datetime.fromisoformat(text)
        else:
            datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def _size(values: Values) -> tuple[float, float]:
    """Words and characters of a value, on average over the different ones."""
    chosen = values.array.take(pa.array(values.order))
    spaces = pc.count_substring(chosen, " ")
    return 1 + float(pc.mean(spaces).as_py()), float(pc.mean(pc.utf8_length(chosen)).as_py())


def describe(values: Values, judged: Judged) -> Column:
    """The column as a model will take it."""
    categories: Sequence[str] = ()
    if judged.role in ("categorical", "boolean"):
        categories = [values.array[int(i)].as_py() for i in values.order[:MAX_CATEGORIES]]
    return Column(
        name=values.name,
        role=judged.role,  # type: ignore[arg-type]
        categories=tuple(categories),
        date_format=judged.date_format,
        decimal=judged.decimal,
    )


def encode(values: Values, column: Column) -> tuple[NDArray[np.float32], int, str | None]:
    """float32 [N, width]; how many cells could not be read and count as missing, and one of them."""
    spec = TableInput(target=column.name + "\0", columns=(column,))
    rows = np.empty((len(values.array), column.width), np.float32)
    number, example = 0, None
    for start in range(0, len(rows), AT_ONCE):
        texts = values.array.slice(start, AT_ONCE).to_pylist()
        rows[start : start + AT_ONCE], problems = encode_columns(spec, {column.name: texts})
        for problem in problems:
            count = int(values.counts[start + problem.row])
            number += count
            example = example or (texts[problem.row] if count else None)
    return rows[values.codes], number, example


def _cleaned(chunk: pa.Array, strip: bool) -> pa.Array:
    return pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(chunk) if strip else chunk, 0, MAX_TEXT)
