"""Data sets that people brought: list, look at, follow, export, delete."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from app import errors
from app.jobs.executor import TableDraft
from app.jobs.imports import DatasetInUse, DatasetNotReady, folder_of, is_built_in, profile_of
from app.serving.samples import built_in_samples, export, export_rows, row_samples, samples
from app.store.datasets import TABLE, DatasetVersion, NoSuchDataset
from app.web import problems
from app.web.dependencies import AUTH_ERRORS, MAY_READ, MayTrain, Services, ServicesDep
from app.web.routes.dataset_bodies import (
    SPLIT,
    DatasetBody,
    DatasetLine,
    RowSampleBody,
    SampleBody,
    built_in_body,
    built_in_line,
    dataset_body,
    line_body,
    row_sample_body,
    sample_body,
)
from app.web.routes.job_output import follow as follow_job
from models.datasets import DATASETS

router = APIRouter(prefix="/datasets", tags=["datasets"])

Reference = Annotated[str, Path(description="`NAME`: its newest version; `NAME@2`: version 2")]


@router.get("", summary="List the data sets", dependencies=[MAY_READ])
def list_datasets(services: ServicesDep) -> list[DatasetLine]:
    """The newest version of each, and the two that come with the service."""
    mine = [line_body(version) for version in services.imports.datasets.newest()]
    return [*mine, *(built_in_line(name) for name in DATASETS)]


@router.get(
    "/{reference}",
    summary="Show a data set",
    responses=problems.responses(NoSuchDataset),
    dependencies=[MAY_READ],
)
def show(reference: Reference, services: ServicesDep) -> DatasetBody:
    """How far the import is; then its profile: classes and splits, sizes, what was ignored and why, duplicates,
    warnings with what to do."""
    if is_built_in(reference):
        return built_in_body(reference)
    return dataset_body(services, _find(services, reference))


@router.get(
    "/{reference}/samples",
    summary="Show pictures or rows of a data set",
    responses=problems.responses(
        *AUTH_ERRORS, NoSuchDataset, DatasetNotReady, errors.InvalidRequest, errors.NoTestSet
    ),
)
def show_samples(
    reference: Reference,
    services: ServicesDep,
    identity: MayTrain,
    class_: Annotated[str | None, Query(alias="class", description="only pictures of this class")] = None,
    split: Annotated[SPLIT | None, Query(description="only pictures of this split")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 24,
) -> list[SampleBody] | list[RowSampleBody]:
    """Some of each class and split. Needs a key: they may be people's."""
    if is_built_in(reference):
        classes = DATASETS[reference].classes
        if split not in (None, "test"):
            raise errors.InvalidRequest("of a built-in data set the test split is shown", "ask for split=test")
        label = _class(classes, class_)
        found = built_in_samples(reference, services.settings.data_dir, label, limit)
    else:
        version = _ready(services, reference)
        classes = _classes(version)
        label = _class(classes, class_)
        if version.kind == TABLE:
            rows = row_samples(folder_of(version), label, split, limit)
            return [row_sample_body(row, classes) for row in rows]
        found = samples(folder_of(version), label, split, limit)
    return [sample_body(sample, classes) for sample in found]


@router.get(
    "/{reference}/export",
    summary="Export a data set",
    response_class=StreamingResponse,
    responses={
        200: {"description": "a file", "content": {"application/zip": {}, "text/csv": {}}},
        **problems.responses(*AUTH_ERRORS, NoSuchDataset, DatasetNotReady),
    },
)
def export_dataset(reference: Reference, services: ServicesDep, identity: MayTrain) -> StreamingResponse:
    """A zip file of the pictures as the model sees them, `train/CLASS/000001.png`; of a table the rows as they
    came, as CSV with the column `split`. Both can be imported again."""
    if is_built_in(reference):
        raise NoSuchDataset(f"{reference} comes with the service: its files are in MINIST_DATA_DIR")
    version = _ready(services, reference)
    classes = _classes(version)
    table = version.kind == TABLE
    name = f"{version.name}-{version.version}.{'csv' if table else 'zip'}"
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    folder = folder_of(version)
    pieces = export_rows(folder) if table else export(folder, classes)
    media_type = "text/csv" if table else "application/zip"
    return StreamingResponse(pieces, media_type=media_type, headers=headers)


@router.get(
    "/{reference}/events",
    summary="Follow an import live",
    response_class=StreamingResponse,
    responses={
        200: {"description": "server-sent events", "content": {"text/event-stream": {}}},
        204: {"description": "the import has ended and every event was seen"},
        **problems.responses(NoSuchDataset, errors.UnknownJob, errors.Overloaded),
    },
    dependencies=[MAY_READ],
)
async def follow(
    reference: Reference,
    services: ServicesDep,
    last_event_id: Annotated[int, Header(ge=0, le=2**62, description="replay what came after this event")] = 0,
) -> Response:
    """Server-sent events `status` and `step`, as of a training job, until it is ready or has failed."""
    version = await run_in_threadpool(_find, services, reference)
    return await follow_job(version.job_id or "", services, last_event_id)


@router.delete(
    "/{reference}",
    status_code=204,
    summary="Delete a data set",
    responses=problems.responses(*AUTH_ERRORS, NoSuchDataset, DatasetInUse, errors.StorageTrouble),
)
def delete(
    reference: Reference,
    services: ServicesDep,
    identity: MayTrain,
    force: Annotated[bool, Query(description="also where a job or a version of a model needs it")] = False,
) -> None:
    """`NAME`: all its versions. An import that is under way is cancelled. A key of scope train deletes what
    it has brought itself."""
    if is_built_in(reference):
        raise errors.Forbidden(f"{reference} comes with the service", "leave it")
    store = services.imports.datasets
    wanted = [store.find(reference)] if "@" in reference else store.versions(reference)
    if not identity.may("admin") and any(version.submitted_by != identity.who for version in wanted):
        raise errors.Forbidden("it was brought with another key", "use that key, or one of scope admin")
    services.imports.delete(wanted, force)


def _find(services: Services, reference: str) -> DatasetVersion:
    return services.imports.datasets.find(reference)


def _ready(services: Services, reference: str) -> DatasetVersion:
    return services.imports.pin(reference)


def _classes(version: DatasetVersion) -> tuple[str, ...]:
    """Raises DatasetNotReady."""
    profile = profile_of(version)
    return () if isinstance(profile, TableDraft) else profile.classes


def _class(classes: tuple[str, ...], label: str | None) -> int | None:
    if label is None:
        return None
    if label not in classes:
        raise errors.InvalidRequest(
            f"there is no class {label[:64]!r}", f"choose one of {', '.join(classes[:50])}"
        )
    return classes.index(label)
