"""Data sets that people bring: import, look at, change, export, delete."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import StreamingResponse

from app import errors
from app.clock import utc
from app.jobs import imports as importing
from app.jobs.executor import Profile, TableDraft, check_options
from app.jobs.imports import DatasetInUse, DatasetNotReady, folder_of, is_built_in, profile_of
from app.jobs.queue import QueueFull, Submitter
from app.origins import MAX_URL
from app.serving.corrections import options_of_rows, write_corrections, write_rows
from app.serving.decoding.forms import FORM
from app.serving.samples import (
    RowSample,
    Sample,
    built_in_samples,
    export,
    export_rows,
    row_samples,
    samples,
)
from app.store.datasets import IMAGES, TABLE, DatasetsFull, DatasetVersion, NoSuchDataset, Source
from app.store.feedback import Correction
from app.store.keys import Identity
from app.web import problems
from app.web.dependencies import AUTH_ERRORS, MAY_READ, MayTrain, Services, ServicesDep, headers_of
from app.web.incoming import is_zip, source_of
from app.web.near_misses import known_parameters, unknown
from app.web.paths import url_of
from app.web.routes.feedback import Inputs
from app.web.routes.train import NOTIFY, notified
from app.web.routes.train import follow as follow_job
from models.datasets import DATASETS
from models.preprocessing.png import data_url
from models.tables import TableInput

uploads = APIRouter(prefix="/datasets", tags=["datasets"], dependencies=[Depends(known_parameters)])
router = APIRouter(prefix="/datasets", tags=["datasets"])

NAME = r"^[a-z0-9][a-z0-9-]{0,63}$"
REFERENCE = r"^[a-z0-9][a-z0-9-]{0,63}(@[1-9][0-9]{0,8})?$"
SIDE = 28  # pixels, of the built-in data sets
Reference = Annotated[str, Path(description="`NAME`: its newest version; `NAME@2`: version 2")]
SPLIT = Literal["train", "validation", "test"]
# options that may also be said on their own
OPTIONS = (
    "size",
    "resize",
    "test_share",
    "validation_share",
    "seed",
    "group_pattern",
    "target",
    "group",
    "time",
)
BESIDE = ("name", "notify")  # fields of the form that are no options
Status = Literal["importing", "needs_target", "ready", "failed"]


class SummaryBody(BaseModel):
    """What is in a data set of pictures, in short."""

    images: int
    classes: int
    shape: tuple[int, int, int] = Field(description="channels, height and width of each picture")
    bad_files: int = Field(description="files that could not be read")
    warnings: int


class TableSummaryBody(BaseModel):
    """What is in a table, in short."""

    rows: int
    columns: int
    target: str | None = Field(description="null: it waits for one")
    classes: int | None
    bad_rows: int = Field(description="lines that are no rows of it")
    warnings: int


class ProgressBody(BaseModel):
    """How far an import is."""

    done: int = Field(description="files, or of a table bytes")
    of: int | None
    images_per_second: float | None
    eta_seconds: float | None


class DatasetLine(BaseModel):
    """A version of a data set in one line."""

    name: str
    version: int | None = Field(description="null: a built-in data set, which has no versions")
    reference: str = Field(description="how `POST /train` names it")
    status: Status = Field(
        description="`needs_target`: a table that waits to be told which column is the class"
    )
    error: str | None
    built_in: bool
    kind: str = Field(description="`images` or `table`; of a zip, once it was read")
    created_at: datetime | None
    bytes: int = Field(description="of what was imported and the file that came")
    summary: SummaryBody | TableSummaryBody | None = Field(description="null until it was read")


class DatasetBody(DatasetLine):
    """A version of a data set."""

    ready_at: datetime | None
    options: dict[str, Any]
    digest: str | None = Field(
        description="sha256 over pictures or rows, labels and splits; stands on the card"
    )
    source_digest: str | None = Field(description="sha256 of the file that came")
    from_version: int | None = Field(description="version whose file was read again")
    corrections_of: str | None = Field(description="model whose corrections it holds")
    job: str | None = Field(
        description="id of the import: `DELETE /train/{id}` cancels it, `/train/{id}/events`"
    )
    progress: ProgressBody | None
    versions: list[DatasetLine] = Field(description="all of that name, newest first")
    profile: Profile | None = Field(
        description="what was found, by its `kind`: `images`, `table`, or `table-draft` of a table that waits "
        "for its target; null until it was read"
    )


class SampleBody(BaseModel):
    """A picture of a data set."""

    row: int
    label: str
    split: SPLIT
    image: str = Field(description="as the model sees it: a PNG as data URL")
    original: str | None = Field(
        description="as it came, at most 192 pixels: a JPEG as data URL; null where it is not kept (arrays)"
    )


class RowSampleBody(BaseModel):
    """A row of a table."""

    row: int
    label: str
    split: SPLIT
    values: dict[str, str] = Field(description="as they came, by column; at most 200 characters of each")


class VersionRequest(BaseModel):
    """Another version of the same file."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"from": 1, "options": {"drop": ["other"], "size": 48}}]},
    )

    from_: int = Field(alias="from", ge=1, lt=2**31, description="the version whose file is read again")
    options: dict[str, Any] = Field(default={}, description="as `options` of `POST /datasets`")
    notify: str | None = Field(
        default=None, max_length=MAX_URL, description="as of `POST /train`: a URL that is told of the end"
    )


_IMPORT_ERRORS = (*AUTH_ERRORS, errors.InvalidRequest, QueueFull, DatasetsFull, errors.StorageTrouble)
_LOCATION: dict[int | str, dict[str, Any]] = {
    200: {"description": "the same bytes and options were imported before", "model": DatasetBody},
    202: {"headers": {"Location": {"description": "URL of the data set", "schema": {"type": "string"}}}},
}
_ANY = {"schema": {"type": "string", "format": "binary"}}


@uploads.post(
    "",
    status_code=202,
    summary="Import a data set",
    response_model=DatasetBody,
    responses={
        **_LOCATION,
        **problems.responses(
            *_IMPORT_ERRORS,
            errors.UnknownModel,
            errors.BodyTooLarge,
            errors.EmptyBody,
            errors.MalformedForm,
            errors.WrongFields,
            errors.WrongContentType,
            errors.NotADataset,
            errors.Overloaded,
            errors.Conflict,
        ),
    },
    openapi_extra={
        "requestBody": {
            "content": {
                FORM: {
                    "schema": {
                        "type": "object",
                        "properties": {"file": {"type": "string", "format": "binary"}},
                    }
                },
                "application/zip": _ANY,
                "text/csv": {"schema": {"type": "string"}},
                "application/gzip": _ANY,
                "application/vnd.apache.parquet": _ANY,
                "application/octet-stream": _ANY,
            }
        }
    },
)
async def create(
    request: Request,
    response: Response,
    services: ServicesDep,
    identity: MayTrain,
    name: Annotated[
        str | None, Query(pattern=NAME, description="of the data set; a field of the form, too")
    ] = None,
    options: Annotated[
        str | None,
        Query(max_length=4_096, description="how to read it, as JSON; see the documentation; more in the form"),
    ] = None,
    size: Annotated[
        str | None, Query(description="side of the pictures in pixels; default: by the data")
    ] = None,
    resize: Annotated[str | None, Query(description="`stretch`, or `pad`, which keeps the aspect")] = None,
    test_share: Annotated[str | None, Query(description="of a file without a test split, 0..1")] = None,
    validation_share: Annotated[str | None, Query(description="of what is not test, 0..1")] = None,
    seed: Annotated[str | None, Query(description="of the splits")] = None,
    group_pattern: Annotated[
        str | None, Query(max_length=200, description="pictures with the same first group stay on one side")
    ] = None,
    target: Annotated[
        str | None,
        Query(max_length=200, description="of a table: the column with the class; default: one is proposed"),
    ] = None,
    group: Annotated[
        str | None,
        Query(max_length=200, description="of a table: a column whose equal values stay in one split"),
    ] = None,
    time: Annotated[
        str | None,
        Query(max_length=200, description="of a table: a column; the newest rows are the test split"),
    ] = None,
    from_corrections: Annotated[
        str | None,
        Query(description="a model: its corrections become the data set; no body, a key of scope admin"),
    ] = None,
    notify: Annotated[str | None, NOTIFY] = None,
) -> DatasetBody:
    """A zip file of class folders (with or without train, validation and test folders), a zip of idx files,
    npz as MedMNIST's; or a table: CSV, also gzipped, parquet, a zip of train.csv and test.csv. As the field
    `file` of a form, or as the body. Answers as soon as the file is there; the import runs as a job. A table
    without `target` waits with the status `needs_target`; the same file with one, or `POST
    /datasets/{name}/versions`, completes it.
    """
    given = {"options": options, "size": size, "resize": resize, "test_share": test_share}
    given |= {"validation_share": validation_share, "seed": seed, "group_pattern": group_pattern}
    given |= {"target": target, "group": group, "time": time}
    said = {key: value for key, value in given.items() if value is not None}
    if name is not None:
        _check_name(name)
    receiver = notified(notify, services.settings)
    await run_in_threadpool(services.imports.require_room)
    if from_corrections is not None:
        _require_admin(identity)
        async with _corrections(services, from_corrections) as (source, known):
            wanted = _options(said, known)
            order = partial(importing.Request, corrections_of=from_corrections, notify=receiver)
            return await _submit(request, response, services, identity, name, source, wanted, order)
    async with services.incoming.receive(headers_of(request), request.receive) as (source, texts):
        for key, value in texts.items():
            if key not in (*BESIDE, *given):
                raise errors.WrongFields(*unknown("field", key, ("file", *BESIDE, *given)))
            before = {**said, "name": name, "notify": notify}.get(key)
            if before not in (None, value):
                raise errors.InvalidRequest(f"{key} differs between query and form", "say it once")
        name = name or texts.get("name")
        receiver = receiver or notified(texts.get("notify") or None, services.settings)
        said |= {key: value for key, value in texts.items() if key not in BESIDE}
        wanted = _options(said, table=not await run_in_threadpool(is_zip, source.path))
        order = partial(importing.Request, notify=receiver)
        return await _submit(request, response, services, identity, name, source, wanted, order)


@router.post(
    "/{name}/versions",
    status_code=202,
    summary="Read a data set again with other options",
    response_model=DatasetBody,
    responses={**_LOCATION, **problems.responses(*_IMPORT_ERRORS, NoSuchDataset, DatasetNotReady)},
)
async def create_version(
    name: Annotated[str, Path(pattern=NAME)],
    wanted: VersionRequest,
    request: Request,
    response: Response,
    services: ServicesDep,
    identity: MayTrain,
) -> DatasetBody:
    """Classes dropped, merged or renamed, other splits, another size, other roles of columns: a new version of
    the same file. A table that waits for its target becomes complete by `{"options": {"target": ".."}}`."""
    before = await run_in_threadpool(services.imports.datasets.find, f"{name}@{wanted.from_}")
    source = await run_in_threadpool(services.imports.source_of, before)
    options = _checked(wanted.options, table=before.kind == TABLE)
    order = partial(
        importing.Request,
        from_version=wanted.from_,
        corrections_of=before.corrections_of,
        notify=notified(wanted.notify, services.settings),
    )
    return await _submit(request, response, services, identity, name, source, options, order)


@router.get("", summary="List the data sets", dependencies=[MAY_READ])
def list_datasets(services: ServicesDep) -> list[DatasetLine]:
    """The newest version of each, and the two that come with the service."""
    mine = [_line(version) for version in services.imports.datasets.newest()]
    return [*mine, *(_built_in_line(name) for name in DATASETS)]


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
        return _built_in(reference)
    return _body(services, _find(services, reference))


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
            return [_row_sample(row, classes) for row in rows]
        found = samples(folder_of(version), label, split, limit)
    return [_sample(sample, classes) for sample in found]


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


# -- what is asked -----------------------------------------------------------------------------------


def _check_name(name: str) -> None:
    if is_built_in(name):
        raise errors.Conflict(f"{name} is a data set that comes with the service", "choose another name")


def _require_admin(identity: Identity) -> None:
    if not identity.may("admin"):
        raise errors.Forbidden("corrections are people's pictures", "use a key with the scope admin")


def _options(
    said: Mapping[str, str], known: Mapping[str, Any] | None = None, table: bool = False
) -> dict[str, Any]:
    """Full options from `options` as JSON and those that were said on their own, else `known`.

    Raises InvalidRequest.
    """
    try:
        found = json.loads(said.get("options") or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise errors.InvalidRequest(
            "options are not a JSON object", 'write them like {"size": 48, "drop": ["other"]}'
        )
    return _checked(
        {**(known or {}), **found, **{key: value for key, value in said.items() if key in OPTIONS}}, table
    )


def _checked(options: Mapping[str, Any], table: bool) -> dict[str, Any]:
    try:
        return check_options(options, table)
    except ValidationError as error:
        failures = [{**failure, "loc": ("options", *failure["loc"])} for failure in error.errors()]
        raise RequestValidationError(failures) from error


@asynccontextmanager
async def _corrections(services: Services, model: str) -> AsyncIterator[tuple[Source, dict[str, Any]]]:
    """The corrections of a model as a file, and options of a table.

    Raises UnknownModel, or Conflict where there are none.
    """
    path = services.incoming.new_path()
    try:
        yield await run_in_threadpool(_write_corrections, services, model, path)
    finally:
        path.unlink(missing_ok=True)


def _write_corrections(services: Services, model: str, path: FilePath) -> tuple[Source, dict[str, Any]]:
    card = services.registry.find(model).classifier.card
    found = services.feedback.newest(None, card.name)
    if not found:
        raise errors.Conflict(f"{model!r} has no corrections", "POST /feedback makes some")
    path.touch(mode=0o600)
    if not isinstance(card.input, TableInput):
        write_corrections(path, found, card.input_shape)
        return source_of(path), {}
    rows = _corrected_rows(services, found, card.input)
    if not rows:
        raise errors.Conflict(
            f"the corrections of {model!r} are of versions that were deleted, or of another table",
            "GET /feedback/export has what is left of them",
        )
    write_rows(path, rows, card.input)
    return source_of(path), options_of_rows(rows, card.input)


def _corrected_rows(
    services: Services, found: Sequence[Correction], spec: TableInput
) -> list[tuple[dict[str, Any], str]]:
    """Rows with these columns, in the order in which they were corrected, and their right classes."""
    inputs = Inputs(services.versions)
    rows = [(inputs.exact_row(correction), correction.label) for correction in reversed(found)]
    return [(row, label) for row, label in rows if row is not None and row.keys() == spec.names]


async def _submit(
    request: Request,
    response: Response,
    services: Services,
    identity: Identity,
    name: str | None,
    source: Source,
    options: Mapping[str, Any],
    order: Callable[[str, Source, Mapping[str, Any]], importing.Request],
) -> DatasetBody:
    if name is None:
        raise errors.InvalidRequest("the data set has no name", "add ?name=NAME, or a field 'name' to the form")
    if not importing.is_name(name):
        raise errors.InvalidRequest(
            f"{name[:64]!r} is no name for a data set", "use up to 64 small letters, digits and hyphens"
        )
    _check_name(name)
    wanted = order(name, source, options)
    submitter = Submitter(identity.who, identity.may("admin"))
    version, new = await run_in_threadpool(services.imports.submit, wanted, submitter)
    response.status_code = 200 if version.status in ("ready", "needs_target") else 202
    response.headers["location"] = url_of(
        request.scope, f"/datasets/{name}" if new else f"/datasets/{version.reference}"
    )
    return await run_in_threadpool(_body, services, version)


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


# -- what is answered -------------------------------------------------------------------------------


def _line(version: DatasetVersion) -> DatasetLine:
    return DatasetLine(
        name=version.name,
        version=version.version,
        reference=version.reference,
        status=version.status,
        error=version.error,
        built_in=False,
        kind=version.kind,
        created_at=utc(version.created_at),
        bytes=version.bytes + version.source_bytes,
        summary=_summary(version),
    )


def _summary(version: DatasetVersion) -> SummaryBody | TableSummaryBody | None:
    if version.summary is None:
        return None
    return (TableSummaryBody if version.kind == TABLE else SummaryBody)(**version.summary)


def _body(services: Services, version: DatasetVersion) -> DatasetBody:
    progress = version.progress if version.status == "importing" else None
    return DatasetBody(
        **vars(_line(version)),
        ready_at=utc(version.ready_at) if version.ready_at else None,
        options=dict(version.options),
        digest=version.digest,
        source_digest=version.source,
        from_version=version.from_version,
        corrections_of=version.corrections_of,
        job=version.job_id,
        progress=None
        if progress is None
        else ProgressBody(
            done=progress["step"],
            of=progress["steps"],
            images_per_second=progress["images_per_second"],
            eta_seconds=progress["eta_seconds"],
        ),
        versions=[_line(one) for one in services.imports.datasets.versions(version.name)],
        profile=profile_of(version) if version.status in ("ready", "needs_target") else None,
    )


def _built_in_line(name: str) -> DatasetLine:
    summary = SummaryBody(
        images=70_000, classes=len(DATASETS[name].classes), shape=(1, SIDE, SIDE), bad_files=0, warnings=0
    )
    return DatasetLine(
        name=name,
        version=None,
        reference=name,
        status="ready",
        error=None,
        built_in=True,
        kind=IMAGES,
        created_at=None,
        bytes=0,
        summary=summary,
    )


def _built_in(name: str) -> DatasetBody:
    nothing = dict.fromkeys(
        ("ready_at", "digest", "source_digest", "from_version", "corrections_of", "job", "progress", "profile")
    )
    line = _built_in_line(name)
    return DatasetBody(**vars(line), **nothing, options={}, versions=[])  # type: ignore[arg-type]


def _sample(sample: Sample, classes: tuple[str, ...]) -> SampleBody:
    return SampleBody(
        row=sample.row,
        label=classes[sample.label],
        split=("train", "validation", "test")[sample.split],
        image=data_url(sample.image),
        original=None
        if sample.original is None
        else f"data:image/jpeg;base64,{b64encode(sample.original).decode()}",
    )


def _row_sample(sample: RowSample, classes: tuple[str, ...]) -> RowSampleBody:
    split: SPLIT = ("train", "validation", "test")[sample.split]
    return RowSampleBody(row=sample.row, label=classes[sample.label], split=split, values=dict(sample.values))
