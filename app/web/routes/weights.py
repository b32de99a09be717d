"""Weights that people bring: a file becomes a version of a model."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from app import errors
from app.jobs.executor import check_card
from app.jobs.imports import DatasetNotReady
from app.jobs.job import TERMINAL, Job, QueueFull, Submitter
from app.jobs.promotion import Rule
from app.jobs.weights import WeightsRequest
from app.serving.decoding.forms import FORM
from app.store.datasets import Source
from app.store.keys import Identity
from app.web import problems
from app.web.dependencies import AUTH_ERRORS, MayTrain, Services, ServicesDep, headers_of
from app.web.near_misses import known_parameters, unknown
from app.web.paths import url_of
from app.web.routes.job_bodies import JobBody, job_body
from app.web.routes.job_requests import NOTIFY, notified, pinned, require_promotion

router = APIRouter(prefix="/models", tags=["models"], dependencies=[Depends(known_parameters)])

NAME = r"^[a-z0-9][a-z0-9-]{0,63}$"
POLL_SECONDS = 0.2
WAIT_SECONDS = 20.0
FIELDS = ("card", "dataset", "calibrate", "promote", "notify")
HINT = (
    'save it by torch.save(model.state_dict(), "weights.pth"), or say on the card what weights do not tell; '
    "docs/weights.md"
)
DOCUMENTED = "docs/weights.md says what is taken"  # where the reason has said the line already
_FILE = {"schema": {"type": "string", "format": "binary"}}


class UploadBody(BaseModel):
    """What became of a weights file."""

    model: str
    version: int | None = Field(description="that it became; null until the job has succeeded")
    promoted: bool | None = Field(description="whether `production` moved to it")
    reason: str | None = Field(description="why, or why not")
    accuracy: float | None = Field(description="on the test set, 0..1; null where no data set was named")
    notes: list[str] = Field(description="what was told from the weights, what was inferred, what was tried")
    job: JobBody


@router.post(
    "/{name}/versions",
    status_code=202,
    summary="Upload weights",
    response_model=UploadBody,
    responses={
        201: {"description": "it is a version of the model", "model": UploadBody},
        202: {
            "description": "a job reads it; `Location` says how far it is",
            "headers": {"Location": {"description": "URL of the job", "schema": {"type": "string"}}},
        },
        **problems.responses(
            *AUTH_ERRORS,
            errors.InvalidRequest,
            errors.UnusableWeights,
            errors.BodyTooLarge,
            errors.EmptyBody,
            errors.MalformedForm,
            errors.WrongFields,
            errors.WrongContentType,
            errors.Overloaded,
            DatasetNotReady,
            QueueFull,
            errors.StorageTrouble,
        ),
    },
    openapi_extra={
        "requestBody": {
            "content": {
                FORM: {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "weights": {"type": "string", "format": "binary"},
                            **{field: {"type": "string"} for field in FIELDS},
                        },
                        "required": ["weights"],
                    }
                },
                "application/octet-stream": _FILE,
            }
        }
    },
)
async def upload(
    name: Annotated[str, Path(pattern=NAME, description="a new name makes a new model")],
    request: Request,
    response: Response,
    services: ServicesDep,
    identity: MayTrain,
    card: Annotated[
        str | None,
        Query(
            max_length=4_096,
            description="what weights do not tell, as JSON: classes, input_shape, mean, std, polarity, "
            "preprocessing, activation; or a whole card. More in the form",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        Query(
            max_length=100,
            description="data set that it is measured on: `mnist`, `fashion-mnist`, `NAME` or `NAME@n`",
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        Query(pattern="^(true|false)$", description="whether a temperature is fitted on its validation split"),
    ] = None,
    promote: Annotated[
        Literal["if_better", "always", "never"] | None,
        Query(description="as of `POST /train`; default `if_better`"),
    ] = None,
    notify: Annotated[str | None, NOTIFY] = None,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=60,
            description="seconds to wait for the job: 201 when it has succeeded, 422 when it cannot",
        ),
    ] = WAIT_SECONDS,
) -> UploadBody:
    """A `.pth`, `.pt` or safetensors file with a state_dict, or an ONNX model, as the field `weights` of a form
    or as the body.

    The layers are told from the names and shapes of its entries: every architecture of this service, and linear
    and convolutional layers in a row under any names. What weights do not tell is taken from the card, tried on
    the data set, or assumed, and said in `notes`. A process with limits reads it; nothing in it is executed. An
    ONNX model of pictures with one input and one output is served as it is, by a process with limits.
    """
    given = {"card": card, "dataset": dataset, "calibrate": calibrate, "promote": promote, "notify": notify}
    said = {key: value for key, value in given.items() if value is not None}
    notified(notify, services.settings)
    if promote is not None:
        await run_in_threadpool(require_promotion, services, name, promote, identity)
    headers = headers_of(request)
    async with services.incoming_weights.receive(headers, request.receive) as (source, texts):
        said |= _from_form(said, texts)
        wanted = await run_in_threadpool(_wanted, services, name, source, said, identity)
        submitter = Submitter(identity.who, identity.may("admin"))
        job = await run_in_threadpool(services.weights.submit, wanted, submitter)
    warning = await run_in_threadpool(services.training_workers.warning)
    if warning is None:
        job = await _awaited(services, job, wait)
    body = await run_in_threadpool(_body, services, job, warning)
    if job.status == "failed":
        why = job.error or "the file cannot be used"
        raise errors.UnusableWeights(why, DOCUMENTED if "In Python: " in why else HINT)
    if job.status == "succeeded":
        response.status_code = 201
        await run_in_threadpool(services.registry.refresh)
    path = f"/models/{name}@{job.version}" if job.status == "succeeded" else f"/train/{job.id}"
    response.headers["location"] = url_of(request.scope, path)
    return body


def _from_form(said: Mapping[str, str], texts: Mapping[str, str]) -> dict[str, str]:
    for key, value in texts.items():
        if key not in FIELDS:
            raise errors.WrongFields(*unknown("field", key, ("weights", *FIELDS)))
        if said.get(key, value) != value:
            raise errors.InvalidRequest(f"{key} differs between query and form", "say it once")
    return {key: value for key, value in texts.items() if value != ""}


def _wanted(
    services: Services, name: str, source: Source, said: Mapping[str, str], identity: Identity
) -> WeightsRequest:
    """Raises InvalidRequest, DatasetNotReady, Forbidden, RequestValidationError."""
    promote = said.get("promote", "if_better")
    if promote not in get_args(Rule):
        raise errors.InvalidRequest(f"promote is {promote[:40]!r}", f"choose {', '.join(get_args(Rule))}")
    calibrate = said.get("calibrate", "false").lower()
    if calibrate not in ("true", "false", "1", "0", "on", "off"):
        raise errors.InvalidRequest(f"calibrate is {calibrate[:40]!r}", "send true or false")
    fits = calibrate in ("true", "1", "on")
    require_promotion(services, name, promote, identity)
    dataset = said.get("dataset")
    if fits and dataset is None:
        raise errors.InvalidRequest(
            "a temperature is fitted on the validation split of a data set", "name the data set, too"
        )
    reference = pinned(services.imports, dataset[:100]) if dataset else None
    card, notify = _card(said.get("card")), notified(said.get("notify"), services.settings)
    return WeightsRequest(name, source, card, reference, fits, promote, notify)  # type: ignore[arg-type]


def _card(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidRequest(
            f"the card is no JSON ({str(error)[:200]})", 'send one like {"mean": 0.1307, "std": 0.3081}'
        ) from error
    if not isinstance(given, dict):
        raise errors.InvalidRequest("the card is no JSON object", 'send one like {"classes": ["cat", "dog"]}')
    try:
        return check_card(given)
    except ValidationError as error:
        raise RequestValidationError(
            [{**one, "loc": ("card", *one["loc"])} for one in error.errors()]
        ) from error


async def _awaited(services: Services, job: Job, seconds: float) -> Job:
    """The job when it has ended, or as it is after so many seconds; unfinished jobs are few."""
    until = time.monotonic() + seconds
    while job.status not in TERMINAL and time.monotonic() < until and not services.draining:
        await asyncio.sleep(POLL_SECONDS)
        found: Job | None = await run_in_threadpool(services.queue.get, job.id)
        job = found or job
    return job


def _body(services: Services, job: Job, warning: str | None) -> UploadBody:
    decision = job.decision or {}
    notes = [str(event.data["text"]) for event in services.queue.events(job.id) if event.kind == "note"]
    return UploadBody(
        model=job.model,
        version=job.version,
        promoted=decision.get("promoted"),
        reason=decision.get("reason"),
        accuracy=decision.get("accuracy"),
        notes=notes,
        job=job_body(job, services.queue, warning),
    )
