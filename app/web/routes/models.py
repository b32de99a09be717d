"""What is served: models, their versions, and the aliases that choose among them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from app import errors
from app.clock import utc
from app.jobs.job import ACTIVE
from app.serving.export import MEDIA_TYPES, Format
from app.serving.registry import ServedModel
from app.store import renaming
from app.store.errors import ArtifactsAway
from app.store.shipped import shipped_version
from app.store.versions import PRODUCTION, NoSuchAlias, NoSuchVersion, Snapshot, Version
from app.web import problems
from app.web.dependencies import (
    AUTH_ERRORS,
    MAY_READ,
    MayAdminister,
    QueueDep,
    RegistryDep,
    Services,
    ServicesDep,
    VersionsDep,
)
from app.web.row_schema import schema_of
from app.web.schemas import ModelSummary
from models.card import Card
from models.errors import CheckpointError

router = APIRouter(prefix="/models", tags=["models"])

UNKNOWN = errors.UnknownModel
AliasName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,63}$", description="such as `production`")]
MOST_JOBS = 1000  # that are looked at: more are not queued
MAX_VERSION = 2**31 - 1  # more than there will be; a database cannot compare larger ones
VersionNumber = Annotated[int, Path(ge=1, le=MAX_VERSION)]


class VersionBody(BaseModel):
    """One version of a model."""

    version: int
    aliases: list[str] = Field(description="what points at it")
    created_at: datetime
    job: str | None = Field(description="job that made it; null: shipped with the service")
    sha256: str
    accuracy: float | None = Field(description="on the test set, 0..1")
    problem: str | None = Field(description="why it cannot be served: what is damaged; null where nothing is")


class AliasBody(BaseModel):
    """Where an alias points."""

    model: str
    alias: str
    version: int


class AliasUpdate(BaseModel):
    """Where an alias is to point, and why."""

    version: int = Field(ge=1, le=MAX_VERSION)
    why: str = Field(default="", max_length=1000)


class Reason(BaseModel):
    """Why something is done; for the audit list."""

    why: str = Field(default="", max_length=1000)


class NewName(BaseModel):
    """Another name, and why."""

    to: str = Field(description="name of the model", pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    why: str = Field(default="", max_length=1000)


class AuditBody(BaseModel):
    """A change: who, what, when, why."""

    at: datetime
    who: str
    action: str = Field(
        description="publish, promote, keep, move, rollback, rename, delete, adopt, unload, load or traffic"
    )
    alias: str | None
    from_version: int | None
    to_version: int | None
    why: str


@router.get("", summary="List the models", dependencies=[MAY_READ])
def list_models(registry: RegistryDep) -> list[ModelSummary]:
    """Every model that answers by its bare name, with its accuracy on its test set."""
    registry.refresh()
    return [_summary(served, served.name == registry.default) for served in registry.models]


@router.get(
    "/{name}",
    summary="Show a model's card",
    responses=problems.responses(*errors.MODEL_ERRORS),
    dependencies=[MAY_READ],
)
def show_model(name: str, registry: RegistryDep) -> Card:
    """All that is known of a model: layers, input, classes, training, data set, metrics, digest.

    `name` may choose a version: `minist`, `minist@3`, `minist@production`.
    """
    return registry.find(name).classifier.card


class LayerBody(BaseModel):
    """A layer of a model, in the order in which they compute."""

    name: str = Field(description="as in the keys of its state_dict; empty: the model itself")
    type: str
    output: list[int] | None = Field(description="shape of what it gives for one input; null: not a tensor")
    parameters: int = Field(description="learned numbers")


@router.get(
    "/{name}/layers",
    summary="Show a model's layers",
    responses=problems.responses(*errors.MODEL_ERRORS),
    dependencies=[MAY_READ],
)
def show_layers(name: str, registry: RegistryDep) -> list[LayerBody]:
    """Its layers with the shapes that they give for one input, found by asking it, and their parameters."""
    return [
        LayerBody(name=found, type=kind, output=None if shape is None else list(shape), parameters=parameters)
        for found, kind, shape, parameters in registry.find(name).classifier.layers()
    ]


@router.get(
    "/{name}/schema",
    summary="Show what a model takes",
    response_description="a JSON Schema (draft 2020-12)",
    responses=problems.responses(*errors.MODEL_ERRORS),
    dependencies=[MAY_READ],
)
def show_schema(name: str, registry: RegistryDep) -> dict[str, Any]:
    """A JSON Schema of what `POST /predict` takes as JSON: of a model of a table, a row with its columns.

    Ranges (`x-minimum`, `x-maximum`) and categories (`examples`) are those of the training rows; values beyond
    them are answered too.
    """
    return schema_of(name, registry.find(name).classifier.card)


@router.get(
    "/{name}/export",
    summary="Export a model",
    response_class=Response,
    responses={
        200: {"description": "the file", "content": {kind: {} for kind in sorted({*MEDIA_TYPES.values()})}},
        **problems.responses(*errors.MODEL_ERRORS, errors.Overloaded, errors.Conflict),
    },
    dependencies=[MAY_READ],
)
async def export(
    name: str,
    services: ServicesDep,
    format: Annotated[
        Format,
        Query(
            description="pth: a state_dict; card: its JSON; zip: both; onnx: uint8 pixels [N, C, H, W] in, "
            "probabilities out"
        ),
    ] = "zip",
) -> Response:
    """The version that the name means, as a file for other programs."""
    version = await run_in_threadpool(_exported, services, name)
    try:
        data = await services.exporter.export(version, format)
    except CheckpointError as error:
        raise errors.Conflict(str(error), "ask for format=pth, or another version") from error
    ending = "json" if format == "card" else format
    headers = {"content-disposition": f'attachment; filename="{version.model}-{version.version}.{ending}"'}
    return Response(data, media_type=MEDIA_TYPES[format], headers=headers)


@router.get(
    "/{name}/versions",
    summary="List a model's versions",
    responses=problems.responses(UNKNOWN),
    dependencies=[MAY_READ],
)
def list_versions(name: str, versions: VersionsDep) -> list[VersionBody]:
    """Newest first."""
    snapshot = versions.snapshot()
    mine = snapshot.numbers.get(name, ())
    if not mine:
        raise NoSuchVersion(f"there is no model {name!r}")
    return [_version(snapshot, name, number) for number in mine]


@router.get(
    "/{name}/audit",
    summary="Show a model's audit list",
    responses=problems.responses(UNKNOWN),
    dependencies=[MAY_READ],
)
def show_audit(name: str, versions: VersionsDep) -> list[AuditBody]:
    """Every publication, promotion, move, rollback and deletion of a model: who, when and why, newest first."""
    entries = versions.audit(name)
    if not entries:
        raise NoSuchVersion(f"there is no model {name!r}")
    return [AuditBody(**{**vars(entry), "at": utc(entry.at)}) for entry in entries]


@router.put(
    "/{name}/aliases/{alias}",
    summary="Point an alias at a version",
    responses=problems.responses(*AUTH_ERRORS, UNKNOWN, errors.StorageTrouble),
)
def move_alias(
    name: str,
    alias: AliasName,
    move: AliasUpdate,
    versions: VersionsDep,
    registry: RegistryDep,
    identity: MayAdminister,
) -> AliasBody:
    """`production` decides what the bare name serves; any other alias is served as `NAME@ALIAS`."""
    versions.move(name, alias, move.version, identity.who, move.why)
    registry.refresh()
    return AliasBody(model=name, alias=alias, version=move.version)


@router.post(
    "/{name}/rollback",
    summary="Go back to the version before",
    responses=problems.responses(*AUTH_ERRORS, UNKNOWN, errors.Conflict, errors.StorageTrouble),
)
def rollback(
    name: str,
    versions: VersionsDep,
    registry: RegistryDep,
    identity: MayAdminister,
    reason: Reason | None = None,
) -> AliasBody:
    """Point `production` at the version that it pointed at before its present one."""
    version = versions.rollback(name, identity.who, reason.why if reason else "")
    registry.refresh()
    return AliasBody(model=name, alias=PRODUCTION, version=version)


@router.post(
    "/{name}/versions/{version}/copy",
    status_code=201,
    summary="Copy a version to another model",
    responses=problems.responses(*AUTH_ERRORS, UNKNOWN, errors.Conflict, errors.StorageTrouble),
)
def copy_version(
    name: str,
    version: VersionNumber,
    copy: NewName,
    versions: VersionsDep,
    registry: RegistryDep,
    identity: MayAdminister,
) -> VersionBody:
    """A new name makes a new model, which serves it; else it becomes the newest version, and does not serve."""
    with _intact():
        made = renaming.copy(versions, name, version, copy.to, identity.who, copy.why)
    registry.refresh()
    return _version(versions.snapshot(), copy.to, made)


@router.post(
    "/{name}/rename",
    status_code=204,
    summary="Rename a model",
    responses=problems.responses(
        *AUTH_ERRORS, UNKNOWN, renaming.NameTaken, errors.Conflict, errors.StorageTrouble
    ),
)
def rename_model(
    name: str,
    new: NewName,
    versions: VersionsDep,
    registry: RegistryDep,
    queue: QueueDep,
    identity: MayAdminister,
) -> None:
    """Versions keep their numbers; aliases, history and corrections go with them. Jobs keep the old name.

    409 for the default model, while a job trains it, and for a name that a model has or has had.
    """
    _require_not_default(registry, name)
    if any(job.model == name for status in ACTIVE for job in queue.page(status, MOST_JOBS, None)):
        raise errors.Conflict(f"a job trains {name!r}", "wait for its end, or cancel it")
    with _intact():
        renaming.rename(versions, name, new.to, identity.who, new.why)
    registry.refresh()


@router.delete(
    "/{name}/versions/{version}",
    status_code=204,
    summary="Delete a version",
    responses=problems.responses(*AUTH_ERRORS, UNKNOWN, errors.Conflict, errors.StorageTrouble),
)
def delete_version(
    name: str, version: VersionNumber, versions: VersionsDep, registry: RegistryDep, identity: MayAdminister
) -> None:
    """Remove its files for good; its number is not used again. 409 while an alias points at it."""
    versions.delete(name, version, identity.who, "")
    registry.refresh()


@router.delete(
    "/{name}/aliases/{alias}",
    status_code=204,
    summary="Delete an alias",
    responses=problems.responses(*AUTH_ERRORS, NoSuchAlias, errors.Conflict, errors.StorageTrouble),
)
def delete_alias(
    name: str, alias: AliasName, versions: VersionsDep, registry: RegistryDep, identity: MayAdminister
) -> None:
    """The version that it points at stays. 409 for `production`: point it elsewhere, or delete the model."""
    versions.delete_alias(name, alias, identity.who, "")
    registry.refresh()


@router.delete(
    "/{name}",
    status_code=204,
    summary="Delete a model",
    responses=problems.responses(*AUTH_ERRORS, UNKNOWN, errors.Conflict, errors.StorageTrouble),
)
def delete_model(name: str, versions: VersionsDep, registry: RegistryDep, identity: MayAdminister) -> None:
    """Remove all its versions and aliases for good. 409 for the default model of this service."""
    _require_not_default(registry, name)
    versions.delete_model(name, identity.who, "")
    registry.refresh()


def _require_not_default(registry: RegistryDep, name: str) -> None:
    if name == registry.default:
        raise errors.Conflict(
            f"{name!r} answers requests that name no model", "set MINIST_DEFAULT_MODEL to another one first"
        )


@contextmanager
def _intact() -> Iterator[None]:
    """Files that are damaged are no fault of the request."""
    try:
        yield
    except CheckpointError as error:
        raise errors.Conflict(
            "a version is damaged", "GET /models/{name}/versions says which: delete that one first"
        ) from error
    except OSError as error:
        raise errors.StorageTrouble(
            f"files cannot be copied ({error.strerror})", "the operator should look at the disk of MINIST_HOME"
        ) from error


def _exported(services: Services, name: str) -> Version:
    """The version that answers to a name. Raises UnknownModel, UnloadedModel or DamagedModel."""
    served = services.registry.find(name)
    version = services.versions.get(served.name, served.version) or shipped_version(served.name)
    if version is None:
        raise NoSuchVersion(f"there is no model {name!r} any more")
    return version


def _version(snapshot: Snapshot, name: str, number: int) -> VersionBody:
    version = snapshot.versions[name, number]
    pointing = [a for (model, a), n in snapshot.aliases.items() if model == name and n == number]
    try:
        accuracy, problem = _accuracy(version.listed_card()), None
    except CheckpointError as error:
        accuracy, problem = None, str(error)
    except ArtifactsAway as error:
        accuracy, problem = None, error.detail
    return VersionBody(
        version=number,
        aliases=sorted(pointing),
        created_at=utc(version.created_at),
        job=version.job_id,
        sha256=version.sha256,
        accuracy=accuracy,
        problem=problem,
    )


def _summary(served: ServedModel, default: bool) -> ModelSummary:
    card = served.classifier.card
    return ModelSummary(
        name=served.name,
        version=served.version,
        default=default,
        architecture=card.architecture,
        dataset=card.dataset.name if card.dataset else None,
        accuracy=_accuracy(card),
        parameters=card.parameters,
        classes=list(card.classes),
        input="table" if served.takes_rows else "picture",
    )


def _accuracy(card: Card) -> float | None:
    test = card.metrics.get("test")
    return test.accuracy if test else None
