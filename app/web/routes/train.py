"""Training jobs: start, watch, cancel, resume."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from starlette.responses import FileResponse, StreamingResponse

from app import errors
from app.clock import utc
from app.jobs.artifacts import artifacts
from app.jobs.deliveries import Deliveries
from app.jobs.executor import Resources, check_config, override_fields, recipe_names
from app.jobs.facts import facts
from app.jobs.imports import DatasetNotReady, Imports, is_built_in
from app.jobs.job import TERMINAL, Job, Kind, QueueFull, Submitter
from app.jobs.queue import Queue
from app.origins import MAX_URL, split
from app.settings import Settings
from app.store.datasets import NoSuchDataset
from app.store.keys import Identity
from app.store.versions import Versions
from app.web import problems
from app.web.dependencies import (
    AUTH_ERRORS,
    MAY_READ,
    MayTrain,
    QueueDep,
    Services,
    ServicesDep,
    SettingsDep,
)
from app.web.followers import EventStream
from app.web.pages import ARTIFACT_POLICY, security_headers
from app.web.paths import url_of
from app.web.searches import SearchBody, search_body
from models.errors import CheckpointError

NOTIFY = Query(
    max_length=MAX_URL,
    description="URL of an origin in MINIST_WEBHOOK_ORIGINS; gets a signed POST when the job has ended. As a "
    "field of the form it stands in no log of a proxy",
)

router = APIRouter(prefix="/train", tags=["train"])

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class _Request(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"model": "minist", "recipe": "mlp", "epochs": 3, "promote": "if_better"}]
        },
    )

    model: str = Field(
        description="model that gets a new version; a new name makes a new model",
        pattern=r"^[a-z0-9][a-z0-9-]{0,63}$",
    )
    recipe: Literal[recipe_names()] = Field(description="what to train")  # type: ignore[valid-type]
    promote: Literal["if_better", "always", "never"] = Field(
        default="if_better",
        description="whether `production` moves to the new version: if its test accuracy is not lower than the "
        "present one's on the same data, always (needs a key of scope admin where there is one), or never",
    )
    feedback: bool = Field(
        default=False,
        description="whether the corrections of the model (`POST /feedback`) join its training images",
    )
    notify: str | None = Field(
        default=None,
        max_length=MAX_URL,
        description="URL of an origin in MINIST_WEBHOOK_ORIGINS; gets a signed POST when the job has ended",
    )
    priority: int = Field(default=0, ge=-10, le=10, description="larger ones are started first")
    resources: Resources | None = Field(
        default=None, description="what the job needs: it waits for a training worker that has it"
    )
    search: dict[str, list[int | float | str]] | None = Field(
        default=None,
        description="values of settings: every combination is trained (at most 16), and the one with the least "
        "log loss on validation inputs becomes the version",
        examples=[{"lr": [0.03, 0.1], "batch_size": [32, 64]}],
    )

    @model_validator(mode="after")
    def _is_said_once(self) -> "_Request":
        for name in self.search or {}:
            if getattr(self, name, None) is not None:
                raise ValueError(f"{name[:40]} is both set and searched: leave one of them out")
        return self


TrainRequest: type[_Request] = create_model(
    "TrainRequest", __base__=_Request, __doc__="A recipe, and what differs from it.", **override_fields()
)


Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=100)]
Tag = Annotated[str, Field(pattern=r"^[^\s,#\x00-\x1f\x7f-\x9f]+$", max_length=32)]


class LabelRequest(BaseModel):
    """What to write on a job; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        str_strip_whitespace=True,
        json_schema_extra={"examples": [{"name": "higher rate", "notes": "diverges", "tags": ["keep"]}]},
    )

    name: Line | None = Field(default=None, description="of one line; null or empty takes it away")
    notes: Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=4000)] | None = Field(
        default=None, description="of any number of lines; null or empty takes them away"
    )
    tags: list[Tag] = Field(
        default=[], max_length=16, description="words without blanks and commas; they replace those before"
    )

    def changes(self) -> dict[str, Any]:
        """What was said, in the form that is kept."""
        said = self.model_dump(exclude_unset=True)
        return {name: sorted(set(value)) if name == "tags" else value or None for name, value in said.items()}


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


@router.post(
    "",
    status_code=202,
    summary="Start a training job",
    response_model=JobBody,
    responses={
        202: {"headers": {"Location": {"description": "URL of the job", "schema": {"type": "string"}}}},
        **problems.responses(
            *AUTH_ERRORS,
            errors.FeedbackIsOff,
            errors.InvalidRequest,
            DatasetNotReady,
            QueueFull,
            errors.StorageTrouble,
        ),
    },
)
def start(
    request: TrainRequest,  # type: ignore[valid-type]
    http: Request,
    response: Response,
    queue: QueueDep,
    settings: SettingsDep,
    services: ServicesDep,
    identity: MayTrain,
    idempotency_key: Annotated[
        str | None, Header(description="the same key and body again answer with the same job", max_length=255)
    ] = None,
) -> JobBody:
    """Queue a run of a recipe. Answers at once; watch the job at `Location`, or live at its `/events`."""
    overrides = request.model_dump(exclude_none=True)  # type: ignore[attr-defined]
    model, recipe, promote, feedback = (overrides.pop(n) for n in ("model", "recipe", "promote", "feedback"))
    priority = overrides.pop("priority")
    notify = notified(overrides.pop("notify", None), settings)
    feedback = feedback or recipe == "fine-tune"  # which learns nothing else
    if feedback and not settings.feedback:
        raise errors.FeedbackIsOff(
            "this service keeps no corrections to learn from",
            "train without feedback, or set MINIST_FEEDBACK=true",
        )
    if "dataset" in overrides:
        overrides["dataset"] = pinned(services.imports, overrides["dataset"])
    threads = overrides.get("resources", {}).get("cpus", settings.train_threads)
    try:
        config = check_config(recipe, {**overrides, "name": model, "threads": threads})
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error
    require_promotion(services, model, promote, identity)
    submitter = Submitter(identity.who, identity.may("admin"))
    job = queue.submit(
        config, promote, settings.queue_limit, idempotency_key, feedback, submitter, notify, priority
    )
    response.headers["location"] = url_of(http.scope, f"/train/{job.id}")
    return job_body(job, queue, services.training_workers.warning(job.config))


@router.get("", summary="List the jobs", dependencies=[MAY_READ])
def list_jobs(
    queue: QueueDep,
    status: Annotated[Status | None, Query(description="only jobs of this status")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="jobs on a page")] = 20,
    cursor: Annotated[str | None, Query(pattern=r"^\d{1,18}$", description="`next` of the page before")] = None,
    kind: Annotated[
        Kind, Query(description="training jobs, imports of data sets, or uploads of weights")
    ] = "train",
) -> JobPage:
    """Newest first."""
    jobs = queue.page(status, limit + 1, int(cursor) if cursor else None, kind)
    following = str(jobs[limit - 1].number) if len(jobs) > limit else None
    return JobPage(jobs=[job_body(job, queue) for job in jobs[:limit]], next=following)


@router.get(
    "/{id}", summary="Show a job", responses=problems.responses(errors.UnknownJob), dependencies=[MAY_READ]
)
def show_job(id: str, services: ServicesDep) -> JobBody:
    """Where it stands: status, position in the queue, epoch and step, metrics, ETA, error, version."""
    job = _job(services.queue, id)
    waits = job.status == "queued"
    return job_body(job, services.queue, services.training_workers.warning(job.config) if waits else None)


@router.patch(
    "/{id}",
    summary="Name a job",
    responses=problems.responses(*AUTH_ERRORS, errors.UnknownJob, errors.StorageTrouble),
)
def label(id: str, request: LabelRequest, queue: QueueDep, identity: MayTrain) -> JobBody:
    """Write a name, notes or tags on a job, for people alone; at any time, also after its end."""
    _require_own(_job(queue, id), identity)
    return job_body(queue.label(id, request.changes()), queue)


@router.delete(
    "/{id}",
    summary="Cancel a job",
    responses=problems.responses(*AUTH_ERRORS, errors.UnknownJob, errors.Conflict, errors.StorageTrouble),
)
def cancel(id: str, queue: QueueDep, identity: MayTrain) -> JobBody:
    """End a queued or running job at once; its last complete epoch stays and can be resumed from.

    An import that is resumed begins anew.
    """
    _require_own(_job(queue, id), identity)
    return job_body(queue.cancel(id), queue)


@router.post(
    "/{id}/resume",
    status_code=202,
    summary="Resume a job",
    responses=problems.responses(
        *AUTH_ERRORS, errors.UnknownJob, errors.Conflict, QueueFull, errors.StorageTrouble
    ),
)
def resume(id: str, services: ServicesDep, identity: MayTrain) -> JobBody:
    """Queue a cancelled or failed job again; it goes on from its last complete epoch."""
    queue = services.queue
    _require_own(_job(queue, id), identity)
    job = queue.resume(id, services.settings.queue_limit)
    return job_body(job, queue, services.training_workers.warning(job.config))


@router.get(
    "/{id}/events",
    summary="Follow a job live",
    response_class=StreamingResponse,
    responses={
        200: {"description": "server-sent events", "content": {"text/event-stream": {}}},
        204: {"description": "the job has ended and every event was seen"},
        **problems.responses(errors.UnknownJob, errors.Overloaded),
    },
    dependencies=[MAY_READ],
)
async def follow(
    id: str,
    services: ServicesDep,
    last_event_id: Annotated[int, Header(ge=0, le=2**62, description="replay what came after this event")] = 0,
) -> Response:
    """Server-sent events `status`, `step` (at most twice a second), `epoch` and `note` (what the run has
    decided), from the first or from `Last-Event-ID`, until the job's terminal status."""
    queue, followers = services.queue, services.followers
    job = await followers.read(_job, queue, id)
    if job.status in TERMINAL and not await followers.read(queue.events, id, last_event_id, 1):
        return Response(status_code=204)
    return EventStream(followers, await followers.join(id, last_event_id))


@router.get(
    "/{id}/metrics",
    summary="A job's events as JSON",
    responses=problems.responses(errors.UnknownJob),
    dependencies=[MAY_READ],
)
def metrics(id: str, queue: QueueDep) -> list[EventBody]:
    """The same as `/events`, all that is kept, at once."""
    _job(queue, id)
    return [
        EventBody(id=event.id, event=event.kind, at=utc(event.at), data=dict(event.data))  # type: ignore[arg-type]
        for event in queue.events(id)
    ]


@router.get(
    "/{id}/artifacts",
    summary="List a job's files",
    responses=problems.responses(errors.UnknownJob),
    dependencies=[MAY_READ],
)
def list_artifacts(id: str, request: Request, services: ServicesDep) -> list[ArtifactBody]:
    """Curves, confusion matrix, sample grid, log, metrics, and the weights with their card."""
    return [
        ArtifactBody(
            name=name, bytes=path.stat().st_size, url=url_of(request.scope, f"/train/{id}/artifacts/{name}")
        )
        for name, path in _artifacts(services, id).items()
    ]


@router.get(
    "/{id}/artifacts/{name}",
    summary="Get a file of a job",
    response_class=FileResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}},
        **problems.responses(errors.UnknownJob, errors.UnknownArtifact),
    },
    dependencies=[MAY_READ],
)
def show_artifact(id: str, name: str, services: ServicesDep) -> FileResponse:
    """One file by its name in the list."""
    found = _artifacts(services, id)
    if name not in found:  # a name is looked up, never opened as a path
        raise errors.UnknownArtifact(
            f"the job has no file {name!r}", f"ask for one of {', '.join(found) or 'none'}"
        )
    return FileResponse(found[name], headers=security_headers(ARTIFACT_POLICY))


def _job(queue: Queue, job_id: str) -> Job:
    job = queue.get(job_id)
    if job is None:
        raise errors.UnknownJob(f"there is no job {job_id!r}", "GET /train lists the jobs")
    return job


def _require_own(job: Job, identity: Identity) -> None:
    """A key of scope train looks after the jobs that it has started. Raises Forbidden."""
    if not identity.may("admin") and job.submitted_by != identity.who:
        raise errors.Forbidden("the job was started with another key", "use that key, or one of scope admin")


def pinned(imports: Imports, reference: str) -> str:
    """A built-in data set, or the version that `NAME` means now. Raises InvalidRequest or DatasetNotReady."""
    if is_built_in(reference):
        return reference
    try:
        return imports.pin(reference).reference
    except NoSuchDataset as error:
        raise errors.InvalidRequest(str(error), imports.suggestion(reference)) from error


def require_promotion(services: Services, model: str, promote: str, identity: Identity) -> None:
    """Raises Forbidden for `always` without the scope admin, where there is a version to be replaced."""
    if promote == "always" and not identity.may("admin") and _has_production(services.versions, model):
        raise errors.Forbidden(
            f"'promote: always' would replace {model!r} whatever comes out",
            "use a key with the scope admin, or promote if_better",
        )


def notified(url: str | None, settings: Settings) -> str | None:
    """A URL in its one form. Raises InvalidRequest unless its origin is one that may be notified."""
    if url is None:
        return None
    listed = settings.notified_origins
    if not listed:
        raise errors.InvalidRequest(
            "notify: this service notifies nobody", "leave it out, or set MINIST_WEBHOOK_ORIGINS"
        )
    try:
        origin, rest = split(url)
    except ValueError as error:
        raise errors.InvalidRequest(f"notify: {error}", "correct the URL") from error
    if origin not in listed:
        raise errors.InvalidRequest(
            f"notify: {origin} is not an origin that this service notifies",
            "use another URL, or add the origin to MINIST_WEBHOOK_ORIGINS",
        )
    return origin + rest


def _has_production(versions: Versions, model: str) -> bool:
    with versions.database.read() as connection:
        return versions.in_production(connection, model) is not None


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


def _artifacts(services: Services, job_id: str) -> Mapping[str, Path]:
    """From the run directory, or from the version that came out: where that was cleared away, or is another
    machine's."""
    job, versions = _job(services.queue, job_id), services.versions
    run = artifacts(versions.paths.run(job.id))
    if versions.folders.objects is not None:  # the run may have ended elsewhere
        return _of_version(versions, job) or run
    return run or _of_version(versions, job)


def _of_version(versions: Versions, job: Job) -> Mapping[str, Path]:
    version = versions.get(job.model, job.version or 0)
    if version is None:
        return {}
    with suppress(CheckpointError):  # then there is what is left on this disk
        version.bring()
    return artifacts(version.directory)
