"""Predictions and the status of models, as scripts for TF Serving and Vertex AI ask for them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from app import errors
from app.web import problems
from app.web.dependencies import AUTH_ERRORS, MAY_READ, READING, RegistryDep, ServicesDep, headers_of
from app.web.v2.errors import responses
from app.web.v2.infer_path import model_name
from app.web.v2.instances import predict_instances
from app.web.v2.metadata import index

TAG = "instances"
router = APIRouter(prefix="/v1/models", tags=[TAG])
reading = APIRouter(prefix="/v1/models", tags=[TAG])  # reads bodies itself


class _Named(StringConvertor):
    """A part of a path without a colon, which a verb follows."""

    regex = "[^/:]+"


register_url_convertor("named", _Named())
Version = Annotated[str, Path(description="a number, or an alias")]
_ERRORS = responses(
    *AUTH_ERRORS, *errors.MODEL_ERRORS, errors.EmptyBody, errors.BodyTooLarge, errors.WrongContentType,
    errors.WrongTensor, errors.WrongTable, errors.WrongRow, *problems.IMAGE_ERRORS, errors.Overloaded,
    errors.DeadlineExceeded,
)  # fmt: skip
_BODY: dict[str, Any] = {
    "security": READING,
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "title": "Instances",
                    "required": ["instances"],
                    "properties": {"instances": {"type": "array", "minItems": 1, "items": {}}},
                    "example": {"instances": [{"b64": "<base64 of a PNG>"}]},
                }
            }
        },
    },
}


class PredictionsBody(BaseModel):
    """An answer for each instance, in order."""

    predictions: list[list[float]] = Field(description="probabilities, in the order of `classes`")
    labels: list[str] = Field(description="the most probable class of each")
    classes: list[str]
    model: str
    version: int


class StatusBody(BaseModel):
    """Whether that went well."""

    error_code: str
    error_message: str


class VersionStatus(BaseModel):
    """A version, and whether it answers."""

    version: str
    state: str = Field(description="AVAILABLE or END")
    status: StatusBody


class ModelStatus(BaseModel):
    """The versions of a model, newest first."""

    name: str
    ready: bool = Field(description="whether one of them answers; as KServe's V1 says it")
    model_version_status: list[VersionStatus]


@reading.post(
    "/{name:named}:predict",
    summary="Answer instances",
    response_model=PredictionsBody,
    responses=_ERRORS,
    openapi_extra=_BODY,
)
@reading.post(
    "/{name:named}/versions/{version:named}:predict",
    summary="Answer instances by a version",
    response_model=PredictionsBody,
    responses=_ERRORS,
    openapi_extra=_BODY,
)
async def predict(
    name: str, request: Request, services: ServicesDep, version: Version | None = None
) -> Response:
    """Instances are arrays of pixels (0..1, or 0..255), `{"b64": ".."}` with files, or the rows of a table."""
    headers = headers_of(request)
    await services.authenticator.may_predict(headers)
    answer = await predict_instances(services, model_name(name, version), headers, request.receive)
    return Response(answer, media_type="application/json")


@router.get(
    "/{name:named}",
    summary="Show the state of a model's versions",
    responses=responses(*errors.MODEL_ERRORS),
    dependencies=[MAY_READ],
)
def status(name: str, registry: RegistryDep) -> ModelStatus:
    """Of those that there are, newest first."""
    registry.refresh()
    found = [entry for entry in index(registry) if entry.name == name]
    if not found:
        registry.find(name)
    return ModelStatus(
        name=name,
        ready=not all(entry.reason for entry in found),
        model_version_status=[
            VersionStatus(
                version=entry.version,
                state="END" if entry.reason else "AVAILABLE",
                status=StatusBody(
                    error_code="UNAVAILABLE" if entry.reason else "OK", error_message=entry.reason
                ),
            )
            for entry in reversed(found)
        ],
    )
