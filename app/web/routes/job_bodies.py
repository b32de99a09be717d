"""What is answered about jobs, and how it is made of their rows."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from app.clock import utc
from app.jobs.deliveries import Deliveries
from app.jobs.facts import facts
from app.jobs.job import Job, Kind
from app.jobs.queue import Queue
from app.origins import split
from app.web.searches import SearchBody, search_body

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class FeedbackChange(BaseModel):
    """What corrections changed; null until the job has succeeded."""

    used: int | None = Field(default=None, description="corrections that joined the training images")
    right_before: int | None = Field(
        default=None, description="of them, by the version that served before; null where none did"
    )
    right_after: int | None = Field(default=None, description="of them, by the new version")


class NotifyBody(BaseModel):
    """Whether the URL that a job notifies was told of its last end."""

    origin: str = Field(description="of the URL; the rest of it may be a secret")
    event: str | None = Field(default=None, description="what it is told; null until the job has ended")
    attempts: int = 0
    last_status: int | None = Field(
        default=None, description="that the receiver answered; null without an answer"
    )
    next_at: datetime | None = Field(default=None, description="when it is tried again")
    delivered_at: datetime | None = None
    given_up_at: datetime | None = None


class JobBody(BaseModel):
    """A training job, the import of a data set, or weights that were uploaded."""

    id: str
    kind: Kind
    status: Status
    model: str = Field(description="of an import: the data set")
    recipe: str
    name: str | None = Field(default=None, description="that people gave it; null without one")
    notes: str | None = Field(default=None, description="that people wrote on it")
    tags: list[str] = Field(default=[], description="that people put on it, by the alphabet")
    promote: str
    config: dict[str, Any] = Field(description="every setting of the run")
    position: int | None = Field(description="in the queue; 1 is the next to start")
    priority: int = Field(description="larger ones are started first")
    epoch: int = Field(description="complete epochs")
    epochs: int | None = Field(
        description="of the whole run; null until it has begun, where they are chosen by the data"
    )
    step: int = Field(description="of the present epoch")
    steps: int | None
    images_per_second: float | None
    eta_seconds: float | None
    last: dict[str, Any] | None = Field(description="metrics of the last complete epoch")
    best: dict[str, Any] | None = Field(description="metrics of the epoch with the best accuracy")
    attempts: int = Field(description="how often it was started")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None = Field(description="why it failed, or crashed the last time")
    exit_code: int | None
    version: int | None = Field(description="version of the model that came out")
    decision: dict[str, Any] | None = Field(description="whether production moved to it, and why")
    feedback: FeedbackChange | None = Field(description="null where the job does not learn from corrections")
    notify: NotifyBody | None = Field(default=None, description="null where nobody is told how it ends")
    warning: str | None = Field(
        default=None,
        description="while it is queued: that no training worker is there to take it, or none that has what it "
        "asks for",
    )
    search: SearchBody | None = Field(default=None, description="null where no settings are searched")


class JobPage(BaseModel):
    """Some jobs, newest first."""

    jobs: list[JobBody]
    next: str | None = Field(description="cursor of the next page")


class EventBody(BaseModel):
    """Something that happened to a job."""

    id: int
    event: Literal["status", "step", "epoch", "note"]
    at: datetime
    data: dict[str, Any]


class ArtifactBody(BaseModel):
    """A file that a run left."""

    name: str
    bytes: int
    url: str


def job_body(job: Job, queue: Queue, warning: str | None = None) -> JobBody:
    known = facts(job)
    within = (
        job.progress
        if job.progress and job.status == "running" and job.progress["epoch"] > known["epoch"]
        else {}
    )
    running = job.progress if job.progress and job.status == "running" else {}
    return JobBody(
        **known,
        warning=warning,
        position=queue.position(job),
        priority=job.priority,
        step=within.get("step", 0),
        steps=job.progress["steps"] if job.progress else None,
        images_per_second=running.get("images_per_second"),
        eta_seconds=running.get("eta_seconds"),
        notify=None if job.notify is None else _notify_body(job.id, job.notify, queue),
        search=search_body(job, queue),
    )


def _notify_body(job_id: str, url: str, queue: Queue) -> NotifyBody:
    origin, latest = split(url)[0], Deliveries(queue.database).latest(job_id)
    if latest is None:
        return NotifyBody(origin=origin)
    moments = {name: getattr(latest, name) for name in ("next_at", "delivered_at", "given_up_at")}
    return NotifyBody(
        origin=origin,
        event=f"job.{latest.event}",
        attempts=latest.attempts,
        last_status=latest.last_status,
        **{name: None if moment is None else utc(moment) for name, moment in moments.items()},
    )
