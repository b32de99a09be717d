"""Images in, probabilities out."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from app import problems
from app.asking import answer_many, answer_one, read_image
from app.bodies import ARRAYS, FORM, IMAGES, one_image, read_body
from app.gate import presented_key
from app.registry import Served
from app.schemas import EXAMPLE, PredictionBody, explanation_fields, prediction_fields, to_json
from app.state import State, StateOf
from models.fit import Fit
from models.images import open_image, stack

router = APIRouter(tags=["predict"])

ModelName = Annotated[
    str | None,
    Query(description="Name of a model (see `GET /models`); default: the service's.", examples=["cnn"]),
]
FitName = Annotated[
    Fit,
    Query(
        description="auto: a picture of any size; the digit in it is found, scaled and centred (other models: "
        "only size and polarity are changed), and one that is as the model was trained is left as it is. "
        "none: only the model's own size is taken, as it is."
    ),
]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"type": "string", "format": "binary", "description": "a PNG, JPEG, BMP, GIF or WebP image"}
_KEY = (problems.Unauthorized, problems.Forbidden)
_OPTIONAL_KEY: list[dict[str, list[str]]] = [{}, {"HTTPBearer": []}, {"APIKeyHeader": []}]
_READING = (*_KEY, problems.EmptyBody, problems.MalformedForm, problems.WrongFields, problems.WrongContentType)
_LOAD = (problems.Overloaded, problems.TooLate)


def _form(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"schema": {"type": "object", "required": [field], "properties": {field: schema}}}


@router.post(
    "/predict",
    summary="Classify one image",
    response_model=PredictionBody,
    responses=problems.responses(
        problems.UnknownModel, problems.BodyTooLarge, *_READING, *problems.IMAGE_ERRORS, *_LOAD
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
    state: StateOf,
    model: ModelName = None,
    fit: FitName = "auto",
    explain: Annotated[
        bool, Query(description="Add `seen` and `saliency`: what the model saw, and what counted.")
    ] = False,
) -> Response:
    """Probabilities of every class for one picture: a photograph, a scan, a drawing, an image of 28x28 pixels.

    Send a form with one field `file`, or the image itself as the body with its content type. `input` tells
    what was done to the picture; one with nothing on it is a problem (422). `fit=none` takes images of
    28x28 pixels only, as they are; transparent pixels take the colour of the ground that the model was
    trained on. Where predictions can be corrected (`MINIST_FEEDBACK`), `id` names this one for
    `POST /feedback`.
    """
    served = await _served(request, state, model)
    headers, request_id = dict(request.headers.raw), request.scope["request_id"]
    if not explain:
        answer = await answer_one(state, served, fit, headers, request.receive, request_id)
        return Response(answer, media_type="application/json")
    announced = request.headers.get("content-length", "").encode("latin-1")
    body = await read_body(announced, request.receive, state["settings"].max_upload_bytes)
    classifier = served.classifier
    image = open_image(one_image(request.headers.get("content-type", ""), body))
    pixels, done = await read_image(classifier, image, fit)
    (prediction,) = classifier.predict(stack([pixels]))
    fields = prediction_fields(served, replace(prediction, input=done))
    if (memory := state["memory"]) is not None:
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
        **problems.responses(
            problems.UnknownModel, problems.BodyTooLarge, *_READING, problems.WrongArray, *_LOAD
        ),
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
    state: StateOf,
    model: ModelName = None,
    fit: FitName = "auto",
) -> Response:
    """A list with one answer per image, in the order sent; a bad image is a problem in its place.

    Send a form with many `files`, or one array of grey images, uint8 [N, 28, 28], as
    `application/x-npy` (numpy.save) or `application/x-idx` (the format of MNIST's own files).
    """
    served = await _served(request, state, model)
    answers = await answer_many(state, served, fit, dict(request.headers.raw), request.receive)
    return Response(answers, media_type="application/json")


async def _served(request: Request, state: State, model: str | None) -> Served:
    """The model that was asked for, by someone who may."""
    if not state["settings"].open_predict:
        state["gate"].admit(presented_key(request.headers), "predict")
    registry = state["registry"]
    served = registry.get(model)
    return served if served is not None else await run_in_threadpool(registry.find, model)
