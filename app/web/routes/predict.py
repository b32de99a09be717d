"""Images in, probabilities out."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from app import errors
from app.serving.registry import ServedModel
from app.web import prediction, problems
from app.web.auth import presented_key
from app.web.dependencies import Services, ServicesDep
from app.web.prediction import predict_one, read_image
from app.web.schemas import EXAMPLE, PredictionBody, explanation_fields, prediction_fields, to_json
from app.web.uploads import ARRAYS, FORM, IMAGES, one_image, read_body
from models.preprocessing.decode import open_image
from models.preprocessing.preprocess import PreprocessMode
from models.tensors import stack

router = APIRouter(tags=["predict"])

ModelName = Annotated[
    str | None,
    Query(description="Name of a model (see `GET /models`); default: the service's.", examples=["cnn"]),
]
PreprocessParam = Annotated[
    PreprocessMode,
    Query(
        description="auto: a picture of any size; the digit in it is found, scaled and centred (other models: "
        "only size and polarity are changed), and one that is as the model was trained is left as it is. "
        "none: only the model's own size is taken, as it is."
    ),
]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"type": "string", "format": "binary", "description": "a PNG, JPEG, BMP, GIF or WebP image"}
AUTH_ERRORS = (errors.Unauthorized, errors.Forbidden)
_OPTIONAL_KEY: list[dict[str, list[str]]] = [{}, {"HTTPBearer": []}, {"APIKeyHeader": []}]
_READING = (*AUTH_ERRORS, errors.EmptyBody, errors.MalformedForm, errors.WrongFields, errors.WrongContentType)
_LOAD = (errors.Overloaded, errors.DeadlineExceeded)


def _form(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"type": "object", "required": [field], "properties": {field: schema}}}


@router.post(
    "/predict",
    summary="Classify one image",
    response_model=PredictionBody,
    responses=problems.responses(
        errors.UnknownModel, errors.BodyTooLarge, *_READING, *problems.IMAGE_ERRORS, *_LOAD
    ),
    openapi_extra={
        "security": _OPTIONAL_KEY,
        "requestBody": {
            "required": True,
            "content": {FORM: _form("file", _FILE), **dict.fromkeys(IMAGES, _BINARY)},
        },
    },
)
async def predict(
    request: Request,
    services: ServicesDep,
    model: ModelName = None,
    preprocess: PreprocessParam = "auto",
    explain: Annotated[
        bool, Query(description="Add `seen` and `saliency`: what the model saw, and what counted.")
    ] = False,
) -> Response:
    """Probabilities of every class for one picture: a photograph, a scan, a drawing, an image of 28x28 pixels.

    Send a form with one field `file`, or the image itself as the body with its content type. `input` tells
    what was done to the picture; one with nothing on it is a problem (422). `preprocess=none` takes images of
    28x28 pixels only, as they are; transparent pixels take the colour of the ground that the model was
    trained on. Where predictions can be corrected (`MINIST_FEEDBACK`), `id` names this one for
    `POST /feedback`.
    """
    served = await _served(request, services, model)
    headers, request_id = dict(request.headers.raw), request.scope["request_id"]
    if not explain:
        answer = await predict_one(services, served, preprocess, headers, request.receive, request_id)
        return Response(answer, media_type="application/json")
    announced = request.headers.get("content-length", "").encode("latin-1")
    body = await read_body(announced, request.receive, services.settings.max_upload_bytes)
    classifier = served.classifier
    image = open_image(one_image(request.headers.get("content-type", ""), body))
    pixels, done = await read_image(classifier, image, preprocess)
    (prediction,) = classifier.predict(stack([pixels]))
    fields = prediction_fields(served, replace(prediction, input=done))
    if (memory := services.recent_predictions) is not None:
        name = memory.remember(served, prediction.index, pixels.tobytes(), headers, request_id)
        fields = {"id": name, **fields}
    fields |= explanation_fields(classifier.explain(pixels))
    return Response(to_json(fields), media_type="application/json")


@router.post(
    "/predict/batch",
    summary="Classify many images in one request",
    response_model=list[PredictionBody | problems.Problem],
    response_description="One answer per image, in order: a prediction, or the problem with that image",
    responses={
        200: {
            "content": {
                "application/json": {
                    "example": [
                        EXAMPLE,
                        problems.problem("Broken image", 422, "the image is truncated", "send the whole file"),
                    ]
                }
            }
        },
        **problems.responses(errors.UnknownModel, errors.BodyTooLarge, *_READING, errors.WrongArray, *_LOAD),
    },
    openapi_extra={
        "security": _OPTIONAL_KEY,
        "requestBody": {
            "required": True,
            "content": {
                FORM: _form("files", {"type": "array", "items": _FILE}),
                **dict.fromkeys(ARRAYS, _BINARY),
            },
        },
    },
)
async def predict_batch(
    request: Request,
    services: ServicesDep,
    model: ModelName = None,
    preprocess: PreprocessParam = "auto",
) -> Response:
    """A list with one answer per image, in the order sent; a bad image is a problem in its place.

    Send a form with many `files`, or one array of grey images, uint8 [N, 28, 28], as
    `application/x-npy` (numpy.save) or `application/x-idx` (the format of MNIST's own files).
    """
    served = await _served(request, services, model)
    answers = await prediction.predict_batch(
        services, served, preprocess, dict(request.headers.raw), request.receive
    )
    return Response(answers, media_type="application/json")


async def _served(request: Request, services: Services, model: str | None) -> ServedModel:
    """The model that was asked for, by someone who may."""
    if not services.settings.open_predict:
        services.authenticator.authorize(presented_key(request.headers), "predict")
    registry = services.registry
    served = registry.get(model)
    return served if served is not None else await run_in_threadpool(registry.find, model)
