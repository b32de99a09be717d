"""A job as its row says it: what it is, what happened to it, and why it cannot be changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import RowMapping

from app.jobs.promotion import Rule

ACTIVE = ("queued", "running")
TERMINAL = ("succeeded", "failed", "cancelled")
MAX_CRASHES = 3
Kind = Literal["train", "import", "weights"]


@dataclass(frozen=True)
class Job:
    """One row of the table, times in seconds since the epoch."""

    id: str
    number: int
    kind: Kind
    status: str
    model: str  # of an import: the data set
    config: Mapping[str, Any]
    promote: Rule
    token: int
    beat: int
    seconds: float
    attempts: int
    crashes: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    progress: Mapping[str, Any] | None
    last: Mapping[str, Any] | None
    best: Mapping[str, Any] | None
    error: str | None
    exit_code: int | None
    version: int | None
    decision: Mapping[str, Any] | None
    request_digest: str
    feedback: Mapping[str, Any] | None
    submitted_by: str | None
    by_admin: bool
    notify: str | None  # URL that is told how it ended
    priority: int  # larger ones are started first
    name: str | None  # what people write on it: for them alone
    notes: str | None
    tags: Sequence[str] | None

    @classmethod
    def from_row(cls, row: RowMapping) -> "Job":
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; ids grow."""

    id: int
    kind: str
    data: Mapping[str, Any]
    at: float


@dataclass(frozen=True)
class Submitter:
    """The key that a job was asked for with: its name for the audit list, and whether it is an admin's."""

    who: str
    admin: bool


class QueueFull(Exception):
    """There are as many unfinished jobs as are allowed; `retry_after` is in seconds."""

    def __init__(self, limit: int, retry_after: int) -> None:
        super().__init__(f"{limit} jobs are waiting or running already")
        self.limit = limit
        self.retry_after = retry_after


class KeyReused(Exception):
    """An idempotency key came again with another request."""


class WrongStatus(Exception):
    """The job's status does not allow the change."""


class ClaimLost(Exception):
    """The claim is gone: the job was cancelled, or another supervisor has it."""
