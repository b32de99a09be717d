"""What is served: models, their versions, and the aliases that choose among them."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from app import errors
from app.clock import utc
from app.serving.registry import ServedModel
from app.store.versions import PRODUCTION, NoSuchVersion, NothingBefore, VersionInUse
from app.web import problems
from app.web.dependencies import MAY_READ, MayAdminister, RegistryDep, VersionsDep
from app.web.schemas import ModelSummary
from models.card import Card

router = APIRouter(prefix="/models", tags=["models"])

AUTH_ERRORS = (errors.Unauthorized, errors.Forbidden)
UNKNOWN = errors.UnknownModel
AliasName = Annotated[str, Path(pattern=r"^[a-z][a-z0-9-]{0,63}$", description="such as `production`")]
MAX_VERSION = 2**31 - 1  # more than there will be; a database cannot compare larger ones
VersionNumber = Annotated[int, Path(ge=1, le=MAX_VERSION)]


class VersionBody(BaseModel):
    """One version of a model."""

    version: int
    aliases: list[str] = Field(description="what points at it")
    created_at: datetime
    job: str | None = Field(description="job that made it; none: shipped with the service")
    sha256: str
    accuracy: float | None = Field(description="on the test set, 0..1")


class AliasBody(BaseModel):
    """Where an alias points."""

    model: str
    alias: str
    version: int


class AliasUpdate(BaseModel):
    """Where an alias shall point, and why."""

    version: int = Field(ge=1, le=MAX_VERSION)
    why: str = Field(default="", max_length=1000)


class Reason(BaseModel):
    """Why something is done; for the audit list."""

    why: str = Field(default="", max_length=1000)


class AuditBody(BaseModel):
    """A change: who, what, when, why."""

    at: datetime
    who: str
    action: str = Field(description="publish, promote, keep, move, rollback or delete")
    alias: str | None
    from_version: int | None
    to_version: int | None
    why: str


@router.get("", summary="List the models", dependencies=[MAY_READ])
def list_models(registry: RegistryDep) -> list[ModelSummary]:
    """Every model that can be asked by its bare name, with its accuracy on its test set."""
    registry.refresh()
    return [_summary(served, served.name == registry.default) for served in registry.models]


@router.get(
    "/{name}", summary="Show a model's card", responses=problems.responses(UNKNOWN), dependencies=[MAY_READ]
)
def show_model(name: str, registry: RegistryDep) -> Card:
    """All that is known of a model: layers, input, classes, training, data set, metrics, digest.

    `name` may choose a version: `minist`, `minist@3`, `minist@production`.
    """
    return registry.find(name).classifier.card


@router.get(
    "/{name}/versions",
    summary="List a model's versions",
    responses=problems.responses(UNKNOWN),
    dependencies=[MAY_READ],
)
def list_versions(name: str, versions: VersionsDep) -> list[VersionBody]:
    """Newest first."""
    snapshot = versions.snapshot()
    mine = sorted((number for model, number in snapshot.versions if model == name), reverse=True)
    if not mine:
        raise _unknown(name, None)
    bodies = []
    for number in mine:
        version = snapshot.versions[name, number]
        pointing = [a for (model, a), n in snapshot.aliases.items() if model == name and n == number]
        bodies.append(
            VersionBody(
                version=number,
                aliases=sorted(pointing),
                created_at=utc(version.created_at),
                job=version.job_id,
                sha256=version.sha256,
                accuracy=_accuracy(version.card()),
            )
        )
    return bodies


@router.get(
    "/{name}/audit",
    summary="Who moved what, when, why",
    responses=problems.responses(UNKNOWN),
    dependencies=[MAY_READ],
)
def show_audit(name: str, versions: VersionsDep) -> list[AuditBody]:
    """Every publication, promotion, move, rollback and deletion of a model, newest first."""
    entries = versions.audit(name)
    if not entries:
        raise _unknown(name, None)
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
    """`production` decides what the bare name serves; any other name can be asked for as `NAME@ALIAS`."""
    try:
        versions.move(name, alias, move.version, identity.who, move.why)
    except NoSuchVersion as error:
        raise _unknown(name, move.version) from error
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
    """Point `production` at what it pointed at before it was moved to its present version."""
    try:
        version = versions.rollback(name, identity.who, reason.why if reason else "")
    except NoSuchVersion as error:
        raise _unknown(name, None) from error
    except NothingBefore as error:
        raise errors.Conflict(
            f"production of {name!r} pointed at no other version that is still there",
            "choose a version by PUT /models/{name}/aliases/production",
        ) from error
    registry.refresh()
    return AliasBody(model=name, alias=PRODUCTION, version=version)


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
    try:
        versions.delete(name, version, identity.who, "")
    except NoSuchVersion as error:
        raise _unknown(name, version) from error
    except VersionInUse as error:
        raise errors.Conflict(
            f"version {version} of {name!r} is in use: {error} points at it", "move that alias first"
        ) from error
    registry.refresh()


def _unknown(name: str, version: int | None) -> errors.UnknownModel:
    what = f"model {name!r}" if version is None else f"version {version} of a model {name!r}"
    return errors.UnknownModel(
        f"there is no {what}", "GET /models and /models/{name}/versions list what there is"
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
    )


def _accuracy(card: Card) -> float | None:
    test = card.metrics.get("test")
    return test.accuracy if test else None
