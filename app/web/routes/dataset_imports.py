"""Importing data sets: files and corrections that become one, and other options for what came before."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app import errors
from app.jobs import imports as importing
from app.jobs.executor import check_options
from app.jobs.imports import DatasetNotReady, is_built_in
from app.jobs.job import QueueFull, Submitter
from app.origins import MAX_URL
from app.serving.corrections import options_of_rows, write_corrections, write_rows
from app.serving.decoding.forms import FORM
from app.store.datasets import TABLE, DatasetsFull, NoSuchDataset, Source
from app.store.feedback import Correction
from app.store.keys import Identity
from app.web import problems
from app.web.dependencies import AUTH_ERRORS, MayTrain, Services, ServicesDep, headers_of
from app.web.incoming import is_zip, source_of
from app.web.near_misses import known_parameters, unknown
from app.web.paths import url_of
from app.web.routes.dataset_bodies import DatasetBody, dataset_body
from app.web.routes.feedback import Inputs
from app.web.routes.job_requests import NOTIFY, notified
from models.tables import TableInput

uploads = APIRouter(prefix="/datasets", tags=["datasets"], dependencies=[Depends(known_parameters)])
router = APIRouter(prefix="/datasets", tags=["datasets"])

NAME = r"^[a-z0-9][a-z0-9-]{0,63}$"
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
            *errors.MODEL_ERRORS,
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
    return await run_in_threadpool(dataset_body, services, version)
