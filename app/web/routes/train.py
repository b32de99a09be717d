"""Training jobs: start, list, name, cancel, resume."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app import errors
from app.jobs.executor import check_config
from app.jobs.imports import DatasetNotReady
from app.jobs.job import Job, Kind, QueueFull, Submitter
from app.store.keys import Identity
from app.web import problems
from app.web.dependencies import AUTH_ERRORS, MAY_READ, MayTrain, QueueDep, ServicesDep, SettingsDep
from app.web.paths import url_of
from app.web.routes.job_bodies import JobBody, JobPage, Status, job_body
from app.web.routes.job_requests import (
    LabelRequest,
    TrainRequest,
    find_job,
    notified,
    pinned,
    require_promotion,
)

router = APIRouter(prefix="/train", tags=["train"])


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
    job = find_job(services.queue, id)
    waits = job.status == "queued"
    return job_body(job, services.queue, services.training_workers.warning(job.config) if waits else None)


@router.patch(
    "/{id}",
    summary="Name a job",
    responses=problems.responses(*AUTH_ERRORS, errors.UnknownJob, errors.StorageTrouble),
)
def label(id: str, request: LabelRequest, queue: QueueDep, identity: MayTrain) -> JobBody:
    """Write a name, notes or tags on a job, for people alone; at any time, also after its end."""
    _require_own(find_job(queue, id), identity)
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
    _require_own(find_job(queue, id), identity)
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
    _require_own(find_job(queue, id), identity)
    job = queue.resume(id, services.settings.queue_limit)
    return job_body(job, queue, services.training_workers.warning(job.config))


def _require_own(job: Job, identity: Identity) -> None:
    """A key of scope train looks after the jobs that it has started. Raises Forbidden."""
    if not identity.may("admin") and job.submitted_by != identity.who:
        raise errors.Forbidden("the job was started with another key", "use that key, or one of scope admin")
