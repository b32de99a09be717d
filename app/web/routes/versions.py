"""Versions of models, and the aliases that choose among them: listed, moved, copied, renamed, deleted."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from app import errors
from app.clock import utc
from app.jobs.job import ACTIVE
from app.store import renaming
from app.store.errors import ArtifactsAway
from app.store.versions import PRODUCTION, NoSuchAlias, NoSuchVersion, Snapshot
from app.web import problems
from app.web.dependencies import (
    AUTH_ERRORS,
    MAY_READ,
    MayAdminister,
    QueueDep,
    RegistryDep,
    VersionsDep,
)
from app.web.routes.models import test_accuracy
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


def _version(snapshot: Snapshot, name: str, number: int) -> VersionBody:
    version = snapshot.versions[name, number]
    pointing = [a for (model, a), n in snapshot.aliases.items() if model == name and n == number]
    try:
        accuracy, problem = test_accuracy(version.listed_card()), None
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
