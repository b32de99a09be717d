"""Images in, probabilities out."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from app import problems
from app.asking import answer_many, answer_one
from app.bodies import ARRAYS, FORM, IMAGES, form_files, media_type, one_image, read_body
from app.gate import presented_key
from app.registry import Served
from app.schemas import EXAMPLE, PredictionBody, explanation_fields, prediction_fields, to_json
from app.state import State, StateOf
from models.errors import ImageError
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
        description="none: only the model's own size is taken, as it is. auto: a picture of any size; the "
        "digit in it is found, scaled and centred (other models: only size and polarity are changed), and one "
        "that is as the model was trained is left as it is."
    ),
]
LARGE = 256 * 256  # pixels; decoding more would keep other requests waiting
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
    fit: FitName = "none",
    explain: Annotated[
        bool, Query(description="Add `seen` and `saliency`: what the model saw, and what counted.")
    ] = False,
) -> Response:
    """Probabilities of every class for one image of 28x28 pixels, or with `fit=auto` for any picture:
    a photograph, a scan, a drawing.

    Send a form with one field `file`, or the image itself as the body with its content type.
    Transparent pixels take the colour of the ground that the model was trained on. With `fit=auto`,
    `input` tells what was done to the picture, and a page with nothing on it is a problem (422).
    Where predictions can be corrected (`MINIST_FEEDBACK`), `id` names this one for `POST /feedback`.
    """
    served = await _served(request, state, model)
    if fit == "none" and not explain:
        answer = await answer_one(
            state, served, dict(request.headers.raw), request.receive, request.scope["request_id"]
        )
        return Response(answer, media_type="application/json")
    body = await _body(request, state["settings"].max_upload_bytes)
    classifier = served.classifier
    image = open_image(one_image(request.headers.get("content-type", ""), body))
    if image.width * image.height > LARGE:
        pixels, done = await run_in_threadpool(classifier.read, image, fit)
    else:
        pixels, done = classifier.read(image, fit)
    (prediction,) = classifier.predict(stack([pixels]))
    fields = prediction_fields(served, replace(prediction, input=done))
    if (memory := state["memory"]) is not None:
        headers, request_id = dict(request.headers.raw), request.scope["request_id"]
        name = memory.remember(served, prediction.index, pixels.tobytes(), headers, request_id)
        fields = {"id": name, **fields}
    if explain:
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
    fit: FitName = "none",
) -> Response:
    """A list with one answer per image, in the order sent; a bad image is a problem in its place.

    Send a form with many `files`, or one array of grey images, uint8 [N, 28, 28], as
    `application/x-npy` (numpy.save) or `application/x-idx` (the format of MNIST's own files).
    """
    served = await _served(request, state, model)
    if fit == "none" or media_type(request.headers.get("content-type", "")) in ARRAYS:
        answers = await answer_many(state, served, dict(request.headers.raw), request.receive)
    else:
        body = await _body(request, state["settings"].max_batch_upload_bytes)
        answers = await run_in_threadpool(_fit_many, served, request.headers.get("content-type", ""), body)
    return Response(answers, media_type="application/json")


async def _served(request: Request, state: State, model: str | None) -> Served:
    """The model that was asked for, by someone who may."""
    if not state["settings"].open_predict:
        state["gate"].admit(presented_key(request.headers), "predict")
    registry = state["registry"]
    served = registry.get(model)
    return served if served is not None else await run_in_threadpool(registry.find, model)


async def _body(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "").encode("latin-1")
    return await read_body(announced, request.receive, limit)


def _fit_many(served: Served, content_type: str, body: bytes) -> bytes:
    if media_type(content_type) != FORM:
        raise problems.WrongContentType(
            f"the content type is {media_type(content_type) or 'not given'}",
            f"send {FORM} with many fields 'files', or an array as {' or '.join(ARRAYS)}",
        )
    answers = served.classifier.classify(form_files(content_type, body, "files"), "auto")
    return to_json(
        [
            problems.problem_of(answer) if isinstance(answer, ImageError) else prediction_fields(served, answer)
            for answer in answers
        ]
    )
