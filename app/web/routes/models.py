"""The models that are served: listed, shown, exported."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from app import errors
from app.serving.export import MEDIA_TYPES, Format
from app.serving.registry import ServedModel
from app.store.shipped import shipped_version
from app.store.versions import NoSuchVersion, Version
from app.web import problems
from app.web.dependencies import MAY_READ, RegistryDep, Services, ServicesDep
from app.web.row_schema import schema_of
from app.web.schemas import ModelSummary
from models.card import Card
from models.errors import CheckpointError

router = APIRouter(prefix="/models", tags=["models"])


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


def _exported(services: Services, name: str) -> Version:
    """The version that answers to a name. Raises UnknownModel, UnloadedModel or DamagedModel."""
    served = services.registry.find(name)
    version = services.versions.get(served.name, served.version) or shipped_version(served.name)
    if version is None:
        raise NoSuchVersion(f"there is no model {name!r} any more")
    return version


def _summary(served: ServedModel, default: bool) -> ModelSummary:
    card = served.classifier.card
    return ModelSummary(
        name=served.name,
        version=served.version,
        default=default,
        architecture=card.architecture,
        dataset=card.dataset.name if card.dataset else None,
        accuracy=test_accuracy(card),
        parameters=card.parameters,
        classes=list(card.classes),
        input="table" if served.takes_rows else "picture",
    )


def test_accuracy(card: Card) -> float | None:
    """0..1; None where there was no test set."""
    test = card.metrics.get("test")
    return test.accuracy if test else None
