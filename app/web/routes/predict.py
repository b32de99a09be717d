"""Images in, or rows of tables, and probabilities out."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from app import errors
from app.serving.decoding.forms import FORM, IMAGES
from app.serving.decoding.tables import ARROW, ARROW_FILE, CSV, PARQUET
from app.web import batch_prediction, numbers, prediction, problems, rows
from app.web.dependencies import AUTH_ERRORS, READING, Services, ServicesDep, headers_of
from app.web.near_misses import known_parameters
from app.web.payloads import ARRAYS, JSON, Options
from app.web.schemas import EXAMPLE, NumberBody, PredictionBody
from models.numbers import Reading
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
ReadParam = Annotated[
    Reading,
    Query(
        description="digit: the picture shows one. number: all digits in it are read, line by line, by models "
        "of digits; the answer is a NumberBody."
    ),
]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"type": "string", "format": "binary", "description": "a PNG, JPEG, BMP, GIF or WebP image"}
_READING = (*AUTH_ERRORS, errors.EmptyBody, errors.MalformedForm, errors.WrongFields, errors.WrongContentType)
_ROW_ERRORS = (errors.WrongTable, errors.WrongRow)
_LOAD = (errors.Overloaded, errors.DeadlineExceeded)


_OPTIONS: dict[str, Any] = {
    "model": {"type": "string"},
    "preprocess": {"type": "string", "enum": ["auto", "none"]},
    "read": {"type": "string", "enum": ["digit", "number"]},
}
_EXPLAIN = {"explain": {"type": "boolean"}}
_BASE64 = {"type": "string", "description": "the file in base64, or as a data URL"}


_ROW = {
    "type": "object",
    "title": "A row",
    "description": "for a model of a table, named in the query: its columns, see `GET /models/{name}/schema`",
    "additionalProperties": {"type": ["number", "string", "boolean", "null"]},
}
_ROWS = {
    "anyOf": [
        {"type": "array", "items": _ROW},
        {
            "type": "object",
            "required": ["columns", "data"],
            "properties": {
                "columns": {"type": "array", "items": {"type": "string"}},
                "data": {"type": "array", "items": {"type": "array"}},
            },
        },
    ]
}
_CSV_ANSWER = "label,probability,no,yes,problem\r\nno,0.93,0.93,0.07,\r\n"


def _body(field: str, schema: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The schema of a form or a JSON object. A form may have the options as well, but is not shown with them:
    the documentation page would fill them in beside the query parameters."""
    properties = {field: schema, **options}
    return {"schema": {"type": "object", "required": [field], "properties": properties}}


@router.post(
    "/predict",
    summary="Classify one image, or one row of a table",
    response_model=PredictionBody | NumberBody,
    responses=problems.responses(
        *errors.MODEL_ERRORS, errors.BodyTooLarge, *_READING, *_ROW_ERRORS, *problems.IMAGE_ERRORS, *_LOAD
    ),
    openapi_extra={
        "security": READING,
        "requestBody": {
            "required": True,
            "content": {
                FORM: _body("file", _FILE),
                JSON: {"schema": {"anyOf": [_body("image", _BASE64, **_OPTIONS, **_EXPLAIN)["schema"], _ROW]}},
                **dict.fromkeys(IMAGES, _BINARY),
                CSV: {"schema": {"type": "string"}},
            },
        },
    },
)
async def predict(
    request: Request,
    services: ServicesDep,
    model: ModelName = None,
    preprocess: PreprocessParam = "auto",
    read: ReadParam = "digit",
    explain: Annotated[
        bool,
        Query(
            description="Add `seen`, `saliency`, `overlay`: what the model saw, how much each pixel counted, "
            "and in colour whether for or against; of a row `contributions`: how much each column counted."
        ),
    ] = False,
) -> Response:
    """Probabilities of every class for one picture: a photograph, a scan, a drawing, an image of 28x28 pixels.

    Send a form with one field `file`, the image itself as the body, or JSON with the image in base64. `model`,
    `preprocess` and `explain` may also be fields of the form or the JSON object. `input` says
    what was done to the picture; one with nothing on it is a problem (422). `preprocess=none` takes images of
    28x28 pixels only, as they are; transparent pixels take the colour of the ground that the model was
    trained on. Where predictions can be corrected (`MINIST_FEEDBACK`), `id` names this one for
    `POST /feedback`.

    Where the picture seems to have several digits, `warning` says how many; `read=number` answers all of them:
    the `number`, line by line, and each of its `digits` with its box.

    A model of a table takes a row instead, as a JSON object `{"age": 39, ..}`, as a form with a field for each
    column, or as CSV with a header and one line. It is named in the query (`?model=adult`): a column may be
    called `model` too. A column that is missing or unknown, or a value that cannot be read, is named (422).
    """
    options = await _options(request, services, model, preprocess, read, explain)
    headers, request_id = headers_of(request), request.scope["request_id"]
    served = await prediction.find_served(services, model)
    predict = rows.predict_row if served.takes_rows else prediction.predict_one
    answer = await predict(services, options, headers, request.receive, request_id)
    return Response(answer, media_type="application/json")


@router.post(
    "/predict/batch",
    summary="Classify many images, or rows of a table, in one request",
    response_model=list[PredictionBody | NumberBody | problems.Problem],
    response_description="One answer per image or row, in order: a prediction, or the problem with it",
    responses={
        200: {
            "content": {
                "application/json": {
                    "example": [
                        EXAMPLE,
                        problems.problem("Broken image", 422, "the image is truncated", "send the whole file"),
                    ]
                },
                CSV: {"schema": {"type": "string"}, "example": _CSV_ANSWER},
            }
        },
        **problems.responses(
            *errors.MODEL_ERRORS, errors.BodyTooLarge, *_READING, *_ROW_ERRORS, errors.WrongArray, *_LOAD
        ),
    },
    openapi_extra={
        "security": READING,
        "requestBody": {
            "required": True,
            "content": {
                FORM: _body("files", {"type": "array", "items": _FILE}),
                **dict.fromkeys(ARRAYS, _BINARY),
                JSON: {"schema": _ROWS},
                CSV: {"schema": {"type": "string"}},
                **dict.fromkeys((PARQUET, ARROW, ARROW_FILE), _BINARY),
            },
        },
    },
)
async def predict_batch(
    request: Request,
    services: ServicesDep,
    model: ModelName = None,
    preprocess: PreprocessParam = "auto",
    read: ReadParam = "digit",
) -> Response:
    """A list with one answer per image, in the order sent; a bad image is a problem in its place.

    Send a form with many `files`, or one array of grey images, uint8 [N, 28, 28], as
    `application/x-npy` (numpy.save) or `application/x-idx` (the format of MNIST's own files).

    Rows of a table are a JSON list of objects, `{"columns": [..], "data": [[..], ..]}`, CSV with a header,
    parquet or an Arrow stream, also as the file of a form; with `Accept: text/csv` the answers are CSV: label,
    its probability, that of each class, and what was wrong with the row.
    """
    options = await _options(request, services, model, preprocess, read)
    headers, receive = headers_of(request), request.receive
    if (await prediction.find_served(services, model)).takes_rows:
        answers, kind = await rows.predict_rows(services, options, headers, receive)
        return Response(answers, media_type=kind)
    answers = await batch_prediction.predict_batch(services, options, headers, receive)
    return Response(answers, media_type=JSON)


async def _options(
    request: Request,
    services: Services,
    model: str | None,
    preprocess: PreprocessMode,
    read: Reading,
    explain: bool = False,
) -> Options:
    """Those that stand in the query, for a request that may predict; the model that they name is there."""
    await services.authenticator.may_predict(headers_of(request))
    served = await prediction.find_served(services, model)
    if read == "number":
        numbers.refuse(served, Options(preprocess=preprocess, explain=explain))
    given = request.query_params
    return Options(
        model,
        preprocess if "preprocess" in given else None,
        explain if "explain" in given else None,
        read if "read" in given else None,
    )
