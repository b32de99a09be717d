"""The Open Inference Protocol (V2) over REST, as clients of Triton, KServe and MLServer speak it."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

import app
from app import errors
from app.web import problems
from app.web.dependencies import (
    AUTH_ERRORS,
    MAY_READ,
    READING,
    MayAdminister,
    RegistryDep,
    Services,
    ServicesDep,
    headers_of,
)
from app.web.prediction import find_served
from app.web.readiness import check_ready
from app.web.v2 import metadata
from app.web.v2.errors import responses, sentence
from app.web.v2.infer_path import model_name
from app.web.v2.inference import infer as answer
from app.web.v2.metadata import IndexEntry, ModelBody, Statistics, TensorBody

TAG = "open inference protocol"
router = APIRouter(prefix="/v2", tags=[TAG])
tensors = APIRouter(prefix="/v2", tags=[TAG])  # reads bodies itself

Version = Annotated[str, Path(description="a number, or an alias")]
_INFER = responses(
    *AUTH_ERRORS, *errors.MODEL_ERRORS, errors.EmptyBody, errors.BodyTooLarge, errors.WrongContentType,
    errors.WrongTensor, errors.WrongRow, *problems.IMAGE_ERRORS, errors.Overloaded, errors.DeadlineExceeded,
)  # fmt: skip
_EXAMPLE = {"inputs": [{"name": "input", "shape": [1, 1, 28, 28], "datatype": "UINT8", "data": [0] * 784}]}
_PARAMETERS = {"type": "object", "additionalProperties": True}
_REQUEST_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "parameters": _PARAMETERS,
        "data": {"type": "array", "items": {}},
    },
}
_REQUEST = {
    "type": "object",
    "title": "Tensors",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _REQUEST_TENSOR},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
            },
        },
    },
    "example": _EXAMPLE,
}
_BODY: dict[str, Any] = {
    "security": READING,
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _REQUEST},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
_OPTIONAL_BODY: dict[str, Any] = {
    "requestBody": {"required": False, "content": {"application/json": {"schema": {"type": "object"}}}}
}


class ServerBody(BaseModel):
    """What runs here."""

    name: str = Field(examples=["minist"])
    version: str
    extensions: list[str]


class LiveBody(BaseModel):
    """Whether the process answers."""

    live: bool


class ReadyBody(BaseModel):
    """Whether predictions are answered."""

    ready: bool


class ModelReadyBody(ReadyBody):
    """Whether a model answers."""

    name: str


class OutputBody(TensorBody):
    """A tensor of an answer."""

    data: list[Any] | None = Field(default=None, description="flat; absent where the bytes follow the JSON")
    parameters: dict[str, Any] | None = None


class InferBody(BaseModel):
    """The tensors that a model answers with."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputBody]


@router.get("", summary="Describe the server")
async def server() -> ServerBody:
    """Its name, its version, and the extensions of the protocol that it knows."""
    return ServerBody(name="minist", version=app.__version__, extensions=list(metadata.EXTENSIONS))


@router.get("/health/live", summary="Is the server alive?")
async def live() -> LiveBody:
    """200 while the event loop turns."""
    return LiveBody(live=True)


@router.get(
    "/health/ready",
    summary="Can the server answer?",
    response_model=ReadyBody,
    responses=responses(errors.NotReady),
)
async def ready(services: ServicesDep) -> Response:
    """As `GET /readyz`."""
    try:
        check_ready(services)
    except errors.NotReady as error:
        return _not_ready({"ready": False}, error)
    return JSONResponse({"ready": True})


@router.get("/models/stats", summary="Show all statistics", dependencies=[MAY_READ])
def all_statistics(services: ServicesDep) -> Statistics:
    """How many images and requests each version has answered, and how long that took."""
    return metadata.statistics_of(services)


@router.get(
    "/models/{name}",
    summary="Describe a model",
    responses=responses(*errors.MODEL_ERRORS),
    dependencies=[MAY_READ],
)
@router.get(
    "/models/{name}/versions/{version}",
    summary="Describe a version",
    responses=responses(*errors.MODEL_ERRORS),
    dependencies=[MAY_READ],
)
def model(name: str, registry: RegistryDep, version: Version | None = None) -> ModelBody:
    """Its versions, and the tensors that it takes and gives."""
    return metadata.model_body(registry.find(model_name(name, version)), registry)


@router.get(
    "/models/{name}/ready",
    summary="Can a model answer?",
    response_model=ModelReadyBody,
    responses=responses(*errors.MODEL_ERRORS),
)
@router.get(
    "/models/{name}/versions/{version}/ready",
    summary="Can a version answer?",
    response_model=ModelReadyBody,
    responses=responses(*errors.MODEL_ERRORS),
)
async def model_ready(name: str, services: ServicesDep, version: Version | None = None) -> Response:
    """200 where it would be answered; 409 while it is unloaded, 503 while it is damaged."""
    try:
        await find_served(services, model_name(name, version))
    except (errors.UnloadedModel, errors.DamagedModel) as error:
        return _not_ready({"name": name, "ready": False}, error)
    return JSONResponse({"name": name, "ready": True})


@router.get(
    "/models/{name}/stats",
    summary="Show a model's statistics",
    responses=responses(*errors.MODEL_ERRORS),
    dependencies=[MAY_READ],
)
@router.get(
    "/models/{name}/versions/{version}/stats",
    summary="Show a version's statistics",
    responses=responses(*errors.MODEL_ERRORS),
    dependencies=[MAY_READ],
)
def statistics(name: str, services: ServicesDep, version: Version | None = None) -> Statistics:
    """How many images and requests it has answered, and how long that took."""
    return metadata.statistics_of(services, name, version)


@tensors.post(
    "/models/{name}/infer",
    summary="Answer tensors",
    response_model=InferBody,
    responses=_INFER,
    openapi_extra=_BODY,
)
@tensors.post(
    "/models/{name}/versions/{version}/infer",
    summary="Answer tensors by a version",
    response_model=InferBody,
    responses=_INFER,
    openapi_extra=_BODY,
)
async def infer(name: str, request: Request, services: ServicesDep, version: Version | None = None) -> Response:
    """Probabilities and labels of pictures or rows.

    Raw tensors may follow the JSON (`binary_data_size`, `Inference-Header-Content-Length`), and are asked for
    by `binary_data` or `binary_data_output`. `classification: k` of `probabilities` gives the k most probable
    as "value:index:label".
    """
    headers = headers_of(request)
    await services.authenticator.may_predict(headers)
    reply = await answer(services, model_name(name, version), headers, request.receive)
    named = {key.decode(): value.decode() for key, value in reply.headers}
    return Response(reply.body, headers=named)


@router.post(
    "/repository/index",
    summary="List all versions",
    responses=responses(errors.WrongTensor),
    openapi_extra=_OPTIONAL_BODY,
    dependencies=[MAY_READ],
)
async def index(request: Request, registry: RegistryDep) -> list[IndexEntry]:
    """Of all models, with their state; with `{"ready": true}` those that are ready."""
    only = _object(await request.body()).get("ready") is True
    await run_in_threadpool(registry.refresh)
    return [entry for entry in metadata.index(registry) if not only or entry.state == "READY"]


@router.post(
    "/repository/models/{name}/load",
    summary="Put a model into service",
    response_class=Response,
    responses=responses(*AUTH_ERRORS, errors.UnknownModel, errors.WrongTensor),
    openapi_extra=_OPTIONAL_BODY,
)
async def load(name: str, request: Request, services: ServicesDep, identity: MayAdminister) -> Response:
    """Where it was unloaded; else nothing happens. Every process follows within a second."""
    parameters = _object(await request.body()).get("parameters") or {}
    if not isinstance(parameters, dict) or any(
        key == "config" or key.startswith("file:") for key in parameters
    ):
        raise errors.WrongTensor("models are not loaded from requests", "leave the parameters out")
    await run_in_threadpool(_load, services, name, identity.who)
    return Response()


@router.post(
    "/repository/models/{name}/unload",
    summary="Take a model out of service",
    response_class=Response,
    responses=responses(*AUTH_ERRORS, errors.UnknownModel, errors.Conflict, errors.WrongTensor),
    openapi_extra=_OPTIONAL_BODY,
)
async def unload(name: str, request: Request, services: ServicesDep, identity: MayAdminister) -> Response:
    """Its names and versions are answered 409 until it is loaded again, also after a restart, in every process.

    409 for the default model of this service.
    """
    _object(await request.body())
    await run_in_threadpool(_unload, services, name, identity.who)
    return Response()


def _load(services: Services, name: str, who: str) -> None:
    services.versions.load(name, who, "")
    services.registry.refresh()


def _unload(services: Services, name: str, who: str) -> None:
    if name == services.registry.default:
        raise errors.Conflict(
            f"{name!r} answers requests that name no model", "set MINIST_DEFAULT_MODEL to another one first"
        )
    services.versions.unload(name, who, "")
    services.registry.refresh()


def _object(body: bytes) -> dict[str, Any]:
    """A JSON object, or no body. Raises WrongTensor."""
    try:
        found = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise errors.WrongTensor("the body is not JSON", "send an object, or no body") from error
    if not isinstance(found, dict):
        raise errors.WrongTensor("the body is not an object", "send an object, or no body")
    return found


def _not_ready(body: dict[str, Any], error: Exception) -> Response:
    problem = problems.problem_of(error)
    return JSONResponse({**body, "error": sentence(problem)}, problem["status"])
