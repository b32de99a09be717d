"""What a person may decide about the import of a table, and what an import finds. Without numpy or pyarrow."""

from typing import Literal

from pydantic import Field

from models.tables import TableInput
from training.importing.facts import SHOWN, Facts, Warned

Role = Literal["numeric", "categorical", "boolean", "date", "text", "id", "constant", "duplicate", "target"]
Chosen = Literal["numeric", "categorical", "boolean", "date", "leave-out"]
Separator = Literal[",", ";", "\t", "|"]
Encoding = Literal["utf-8", "cp1252", "utf-16"]


class TableOptions(Facts):
    """What a person may decide about the import of a table."""

    kind: Literal["table"] = "table"
    target: str | None = Field(
        default=None, max_length=200, description="column with the class; none: one is proposed"
    )
    roles: dict[str, Chosen] = Field(
        default={}, max_length=2000, description="columns by what they are; `leave-out`: not used"
    )
    group: str | None = Field(
        default=None, max_length=200, description="column: its equal values stay in one split"
    )
    time: str | None = Field(
        default=None, max_length=200, description="column: the newest rows are the test split"
    )
    numeric_target: Literal["ask", "classes"] = Field(
        default="ask", description="what a target of many different numbers is; regression is not offered"
    )
    merge_similar: bool = Field(
        default=False, description="labels that differ only in blanks, case or a final dot are one class"
    )
    separator: Separator | None = Field(default=None, description="between values; none: by the file")
    header: bool | None = Field(default=None, description="whether the first line names the columns")
    quoting: bool = Field(default=True, description="false: quotation marks are ordinary characters")
    encoding: Encoding | None = Field(default=None, description="of the text; none: by the file")
    test_share: float = Field(default=0.2, gt=0, lt=0.9, description="of a table without test rows")
    validation_share: float = Field(default=0.15, gt=0, lt=0.9, description="of what is not test")
    seed: int = Field(default=0, ge=0, lt=2**32, description="of the splits")
    drop: tuple[str, ...] = Field(default=(), description="classes to leave out")
    rename: dict[str, str] = Field(default={}, description="classes by their new names; equal names merge")


class TableFormat(Facts):
    """How a file was read."""

    name: str
    split: Literal["train", "validation", "test"] | None
    format: Literal["csv", "parquet"]
    encoding: Encoding | None
    separator: Separator | None
    header: bool
    rows: int = Field(description="that could be read")


class BadRow(Facts):
    """A line that is no row of the table."""

    file: str
    line: int = Field(description="in the file, from 1")
    reason: str


class Histogram(Facts):
    """How many rows of each class have a value: numbers in bins of equal width, categories one by one."""

    bins: tuple[str, ...]
    counts: dict[str, tuple[int, ...]] = Field(
        description="by class; small classes together as null in `others`"
    )
    others: tuple[int, ...] | None = None


class ColumnFacts(Facts):
    """A column of the file."""

    name: str
    role: Role
    used: bool
    why: str | None = Field(description="it is not used, or is what it is said to be")
    missing: int
    distinct: int
    examples: tuple[str, ...]
    minimum: float | None = None
    maximum: float | None = None
    date_format: str | None = None
    association: float | None = Field(
        default=None,
        description="share of the target's entropy that the column tells, 0..1; null: not measured",
    )
    histogram: Histogram | None = None


class Proposal(Facts):
    """A column that may be the target."""

    column: str
    why: str


class _Table(Facts):
    digest: str
    source_digest: str = Field(description="sha256 of the file that was imported")
    options: TableOptions
    files: tuple[TableFormat, ...]
    rows: int
    columns: tuple[ColumnFacts, ...]
    bad_rows: tuple[BadRow, ...] = Field(description=f"the first {SHOWN}")
    bad_count: int
    warnings: tuple[Warned, ...]


class TableDraft(_Table):
    """A table whose target is not known yet: what it would be is shown, and nothing can be trained."""

    kind: Literal["table-draft"] = "table-draft"
    proposals: tuple[Proposal, ...] = Field(description="columns that may be the target, the likeliest first")
    preview: tuple[tuple[str, ...], ...] = Field(description="the first rows")


class TableProfile(_Table):
    """What an import of a table found."""

    kind: Literal["table"] = "table"
    input: TableInput
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]] = Field(description="by class, then split")
    given_splits: tuple[str, ...] = Field(description="splits that the source has; the others were cut here")
    without_target: int = Field(description="rows that were left out since they have none")
    duplicates: int = Field(description="rows whose used values equal those of an earlier one")
    conflicts: int = Field(description="rows that equal an earlier one of another class")
    similar_labels: tuple[tuple[str, ...], ...] = Field(
        description="that differ only in blanks, case or a final dot"
    )
