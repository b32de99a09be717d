"""Errors on the wire: RFC 9457 `application/problem+json`, and the one table of HTTP statuses."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

import models.errors
from app import errors
from app.jobs import imports, job
from app.store import datasets, feedback, renaming, versions
from app.store.errors import ArtifactsAway, is_of_home, public_reason, reason
from app.web.examples import EXAMPLES
from models.errors import ImageError

log = logging.getLogger("minist")

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What every error looks like (RFC 9457)."""

    type: str = Field(description="which problem this is, for programs")
    title: str = Field(description="which problem this is, for people")
    status: int = Field(description="the HTTP status again")
    detail: str = Field(description="what happened this time")
    hint: str = Field(description="what to do about it")


class _Row(NamedTuple):
    status: int
    title: str
    hint: str = ""  # for errors that bring none of their own


_TABLE: Mapping[type[Exception], _Row] = {
    errors.RequestError: _Row(400, "Bad request"),
    errors.MalformedRequest: _Row(400, "Malformed request"),
    errors.UnknownHost: _Row(400, "Unknown host"),
    errors.HeadTooLarge: _Row(431, "Request header fields too large"),
    errors.TooSlow: _Row(408, "Request timeout"),
    errors.MalformedForm: _Row(400, "Malformed form"),
    errors.EmptyBody: _Row(422, "Empty body"),
    errors.WrongFields: _Row(422, "Wrong form fields"),
    errors.WrongArray: _Row(422, "Wrong array"),
    errors.WrongTensor: _Row(422, "Wrong tensor"),
    errors.WrongTable: _Row(422, "Wrong table"),
    errors.WrongRow: _Row(422, "Wrong row"),
    errors.BodyTooLarge: _Row(413, "Body too large"),
    errors.WrongContentType: _Row(415, "Wrong content type"),
    errors.UnknownModel: _Row(404, "Unknown model"),
    errors.UnloadedModel: _Row(409, "Unloaded model"),
    errors.DamagedModel: _Row(503, "Damaged model"),
    errors.NotReady: _Row(503, "Not ready"),
    errors.Overloaded: _Row(503, "Overloaded"),
    errors.DeadlineExceeded: _Row(504, "Deadline exceeded"),
    errors.TooManyRequests: _Row(429, "Too many requests"),
    errors.Unauthorized: _Row(401, "Unauthorized"),
    errors.Forbidden: _Row(403, "Forbidden"),
    errors.UnknownJob: _Row(404, "Unknown job"),
    errors.UnknownArtifact: _Row(404, "Unknown artifact"),
    errors.Conflict: _Row(409, "Conflict"),
    errors.InvalidRequest: _Row(422, "Invalid request"),
    errors.FeedbackIsOff: _Row(409, "Feedback is off"),
    errors.UnknownCorrection: _Row(404, "Unknown correction"),
    errors.NotADataset: _Row(422, "Not a data set"),
    errors.UnusableWeights: _Row(422, "Unusable weights"),
    errors.UnknownDataset: _Row(404, "Unknown data set"),
    datasets.NoSuchDataset: _Row(404, "Unknown data set", "GET /datasets lists them"),
    datasets.DatasetsFull: _Row(
        507,
        "Data sets are full",
        "delete some (DELETE /datasets/{reference}), or raise MINIST_KEEP_DATASETS_BYTES",
    ),
    imports.DatasetInUse: _Row(
        409, "Conflict", "cancel the job or delete the version first, or add ?force=true"
    ),
    imports.DatasetNotReady: _Row(
        409, "Conflict", "GET /datasets/{reference} says how far it is, or why it has failed"
    ),
    errors.NoTestSet: _Row(409, "The test set is not here"),
    errors.StorageTrouble: _Row(503, "Storage trouble"),
    ArtifactsAway: _Row(503, "Storage trouble"),
    versions.NoSuchVersion: _Row(
        404, "Unknown model", "GET /models and /models/{name}/versions list what there is"
    ),
    versions.NoSuchAlias: _Row(404, "Unknown alias", "GET /models/{name}/versions lists what points where"),
    versions.VersionInUse: _Row(409, "Conflict", "move that alias first"),
    renaming.NameTaken: _Row(409, "Conflict", "choose another name"),
    versions.NothingBefore: _Row(409, "Conflict", "choose a version by PUT /models/{name}/aliases/production"),
    job.QueueFull: _Row(429, "Queue is full", "try again after the seconds in Retry-After, or cancel a job"),
    job.KeyReused: _Row(422, "Invalid request", "choose a new key"),
    job.WrongStatus: _Row(
        409, "Conflict", "queued and running jobs can be cancelled, cancelled and failed ones resumed"
    ),
    feedback.NoSuchPrediction: _Row(
        404, "Unknown prediction", "ask again, and correct that answer within the hour"
    ),
    feedback.FeedbackFull: _Row(
        507, "Feedback is full", "export and delete some, or raise MINIST_FEEDBACK_MAX_COUNT"
    ),
    models.errors.GraphFailed: _Row(
        503, "Model failed", "try again, or ask another model; the process of this one is started anew"
    ),
    models.errors.EmptyImage: _Row(422, "Empty image"),
    models.errors.NotAnImage: _Row(422, "Not an image"),
    models.errors.BrokenImage: _Row(422, "Broken image"),
    models.errors.ImageTooLarge: _Row(422, "Image too large"),
    models.errors.CostlyImage: _Row(422, "Costly image"),
    models.errors.WrongImageSize: _Row(422, "Wrong image size"),
    models.errors.NothingFound: _Row(422, "Nothing found"),
    models.errors.TooManyDigits: _Row(422, "Too many digits"),
}
_UNREAD = (errors.BodyTooLarge, errors.DeadlineExceeded)  # the rest of the body is not read

IMAGE_ERRORS = tuple(kind for kind in _TABLE if issubclass(kind, ImageError))


def is_expected(error: Exception) -> bool:
    """Whether the error has its place in the table; anything else is a bug."""
    return type(error) in _TABLE


def problem(title: str, status: int, detail: str, hint: str, **more: Any) -> dict[str, Any]:
    """The members of one problem document."""
    kind = "urn:minist:" + title.lower().replace(" ", "-")
    return {"type": kind, "title": title, "status": status, "detail": detail, "hint": hint, **more}


def problem_of(error: Exception) -> dict[str, Any]:
    """The problem document of an error that stands in the table."""
    row = _TABLE[type(error)]
    detail, hint = getattr(error, "detail", str(error)), getattr(error, "hint", row.hint)
    return problem(row.title, row.status, detail, hint)


def status_and_title(kind: type[Exception]) -> tuple[int, str]:
    """What an error of this kind is called, and its HTTP status."""
    return _TABLE[kind][:2]


def title_of(error: Exception) -> str | None:
    """What the error is called, for the numbers of problems; None for what has no place in the table."""
    row = _TABLE.get(errors.StorageTrouble if isinstance(error, OperationalError) else type(error))
    return row.title if row else None


def respond(body: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """A problem document as a response."""
    return Response(json.dumps(body), body["status"], headers, MEDIA_TYPE)


def response_of(error: Exception) -> Response:
    """The response for `error`; an unexpected one is a 500."""
    if isinstance(error, OperationalError):
        log.error("the database does not answer: %s", reason(error))
        error = errors.StorageTrouble(
            f"what has to be kept cannot be written or read now ({public_reason(error)})",
            _where_to_look(error),
            retry_after=5,
        )
    if is_expected(error):
        _forget_frames(error)
        return respond(problem_of(error), dict(_headers(error)))
    detail = "the server met an error that it did not foresee; its log has the traceback"
    return respond(problem("Internal server error", 500, detail, "try again; report it if it stays"))


def _where_to_look(error: OperationalError) -> str:
    if is_of_home(error):
        return "try again; the operator should look at the disk of MINIST_HOME"
    return "try again; the operator should look at the server that MINIST_DATABASE_URL names"


def _forget_frames(error: BaseException) -> None:
    """Else an error that came through a future or a thread, which its frames hold, would keep itself and the
    body of the request until the garbage is collected."""
    found: BaseException | None = error
    while found is not None and found.__traceback__ is not None:
        found.__traceback__ = None
        found = found.__cause__ or found.__context__


def _headers(error: Exception) -> Iterator[tuple[str, str]]:
    if (seconds := getattr(error, "retry_after", None)) is not None:
        yield "retry-after", str(seconds)
    if isinstance(error, errors.Unauthorized):
        yield "www-authenticate", 'Bearer error="invalid_token"' if error.presented else "Bearer"
    if isinstance(error, _UNREAD):
        yield "connection", "close"


def install(app: FastAPI) -> None:
    """Let `app` answer every error as a problem document, and say so in its OpenAPI document."""

    async def answer(request: Request, error: Exception) -> Response:
        request.scope["problem"] = title_of(error)
        return response_of(error)

    for kind in (*_TABLE, OperationalError, Exception):
        app.add_exception_handler(kind, answer)

    @app.exception_handler(RequestValidationError)
    async def _validation_error(request: Request, error: RequestValidationError) -> Response:
        if any(isinstance(one.get("input"), bytes) for one in error.errors()):  # it was not read as JSON
            return response_of(_not_json(request.headers.get("content-type")))
        request.scope["problem"] = _TABLE[errors.InvalidRequest].title
        return respond(invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def _http_exception(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return response_of(
                errors.BodyTooLarge("the body is larger than is allowed here", "send a smaller one")
            )
        title = HTTPStatus(error.status_code).phrase.capitalize()
        detail = f"{request.method} {request.url.path}: {error.detail}"
        headers = {"allow": _allowed(request)} if error.status_code == 405 else error.headers
        return respond(problem(title, error.status_code, detail, "/docs shows every path"), headers)


def _not_json(content_type: str | None) -> errors.InvalidRequest:
    said = f"its content type is {content_type[:100]!r}" if content_type else "it has no content type"
    return errors.InvalidRequest(
        f"the body is not read as JSON: {said}", "send the header 'Content-Type: application/json'"
    )


def _allowed(request: Request) -> str:
    """The methods that a path has (Starlette names those of the first route with that path)."""
    routes = request.app.routes
    found = [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] == Match.FULL for route in routes)
    ]
    return ", ".join(found or ("GET", "HEAD"))  # those of a static file


def invalid(failures: Sequence[Any]) -> dict[str, Any]:
    """The problem document of pydantic's errors: each field, its value, what is allowed."""
    found = [
        {
            "field": ".".join(str(part) for part in e["loc"]),
            "value": _plain(e.get("input")),
            "problem": e["msg"],
        }
        for e in failures
    ]
    detail = "; ".join(f"{e['field']}: {e['problem']} (got {e['value']!r})" for e in found)
    hint = "correct the fields that are named; /docs shows what each may be"
    row = _TABLE[errors.InvalidRequest]
    return problem(row.title, row.status, detail, hint, errors=found)


def _plain(value: Any) -> Any:
    """What of a value can be shown in JSON."""
    return value if isinstance(value, str | int | bool | None) else str(value)[:200]


def responses(*kinds: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail in these ways, by status."""
    table: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status, title = status_and_title(kind)
        entry = table.setdefault(status, {"model": Problem, "description": ""})
        if title not in entry["description"]:
            entry["description"] = ", ".join(filter(None, [entry["description"], title]))
        shown = entry.setdefault("content", {MEDIA_TYPE: {}})[MEDIA_TYPE].setdefault("examples", {})
        shown.update(example(kind))
    return table


def example(kind: type[Exception]) -> dict[str, Any]:
    """The `examples` of an error of this kind in an OpenAPI document, by its own name."""
    row, (detail, hint) = _TABLE[kind], EXAMPLES[kind]
    shown = problem(row.title, row.status, detail, hint or row.hint)
    return {kind.__name__: {"summary": row.title, "value": shown}}
