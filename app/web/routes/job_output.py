"""What comes out of a job: its events while it runs, and the files that it leaves."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from starlette.responses import FileResponse, StreamingResponse

from app import errors
from app.clock import utc
from app.jobs.artifacts import artifacts
from app.jobs.job import TERMINAL, Job
from app.store.versions import Versions
from app.web import problems
from app.web.dependencies import MAY_READ, QueueDep, Services, ServicesDep
from app.web.followers import EventStream
from app.web.pages import ARTIFACT_POLICY, security_headers
from app.web.paths import url_of
from app.web.routes.job_bodies import ArtifactBody, EventBody
from app.web.routes.job_requests import find_job
from models.errors import CheckpointError

router = APIRouter(prefix="/train", tags=["train"])


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
    job = await followers.read(find_job, queue, id)
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
    find_job(queue, id)
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


def _artifacts(services: Services, job_id: str) -> Mapping[str, Path]:
    """From the run directory, or from the version that came out: where that was cleared away, or is another
    machine's."""
    job, versions = find_job(services.queue, job_id), services.versions
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
