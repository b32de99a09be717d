"""Images in, probabilities out."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from app import errors
from app.serving.decoding.forms import FORM, IMAGES
from app.web import prediction, problems
from app.web.dependencies import AUTH_ERRORS, Services, ServicesDep, headers_of
from app.web.near_misses import known_parameters
from app.web.payloads import ARRAYS, JSON, Options
from app.web.schemas import EXAMPLE, PredictionBody
from models.preprocessing.preprocess import PreprocessMode

router = APIRouter(tags=["predict"], dependencies=[Depends(known_parameters)])

ModelName = Annotated[
    str | None,
    Query(description="Name of a model (see `GET /models`); default: the service's.", examples=["cnn"]),
]
PreprocessParam = Annotated[
    PreprocessMode,
    Query(
        description="auto: a picture of any size; the digit in it is found, scaled and centred "
        "(other models: only size and polarity are changed); a picture like the training images is left "
        "unchanged. none: only pictures of the model's own size, unchanged."
    ),
]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"type": "string", "format": "binary", "description": "a PNG, JPEG, BMP, GIF or WebP image"}
_OPTIONAL_KEY: list[dict[str, list[str]]] = [{}, {"HTTPBearer": []}, {"APIKeyHeader": []}]
_READING = (*AUTH_ERRORS, errors.EmptyBody, errors.MalformedForm, errors.WrongFields, errors.WrongContentType)
_LOAD = (errors.Overloaded, errors.DeadlineExceeded)


_OPTIONS: dict[str, Any] = {
    "model": {"type": "string"},
    "preprocess": {"type": "string", "enum": ["auto", "none"]},
}
_EXPLAIN = {"explain": {"type": "boolean"}}
_BASE64 = {"type": "string", "description": "the file in base64, or as a data URL"}


def _body(field: str, schema: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The schema of a form or a JSON object. A form may have the options as well, but is not shown with them:
    the documentation page would fill them in beside the query parameters."""
    properties = {field: schema, **options}
    return {"schema": {"type": "object", "required": [field], "properties": properties}}


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
            "content": {
                FORM: _body("file", _FILE),
                JSON: _body("image", _BASE64, **_OPTIONS, **_EXPLAIN),
                **dict.fromkeys(IMAGES, _BINARY),
            },
        },
    },
)
async def predict(
    request: Request,
    services: ServicesDep,
    model: ModelName = None,
    preprocess: PreprocessParam = "auto",
    explain: Annotated[
        bool,
        Query(description="Add `seen` and `saliency`: what the model saw, and which pixels counted."),
    ] = False,
) -> Response:
    """Probabilities of every class for one picture: a photograph, a scan, a drawing, an image of 28x28 pixels.

    Send a form with one field `file`, the image itself as the body, or JSON with the image in base64. `model`,
    `preprocess` and `explain` may also be fields of the form or the JSON object. `input` says
    what was done to the picture; one with nothing on it is a problem (422). `preprocess=none` takes images of
    28x28 pixels only, as they are; transparent pixels take the colour of the ground that the model was
    trained on. Where predictions can be corrected (`MINIST_FEEDBACK`), `id` names this one for
    `POST /feedback`.
    """
    options = await _options(request, services, model, preprocess, explain)
    headers, request_id = headers_of(request), request.scope["request_id"]
    answer = await prediction.predict_one(services, options, headers, request.receive, request_id)
    return Response(answer, media_type="application/json")


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
                FORM: _body("files", {"type": "array", "items": _FILE}),
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
    options = await _options(request, services, model, preprocess)
    answers = await prediction.predict_batch(services, options, headers_of(request), request.receive)
    return Response(answers, media_type="application/json")


async def _options(
    request: Request, services: Services, model: str | None, preprocess: PreprocessMode, explain: bool = False
) -> Options:
    """Those that stand in the query, for a request that may predict; the model that they name is there."""
    await services.authenticator.may_predict(headers_of(request))
    await prediction.find_served(services, model)
    given = request.query_params
    return Options(
        model, preprocess if "preprocess" in given else None, explain if "explain" in given else None
    )
