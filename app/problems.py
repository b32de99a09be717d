"""Errors on the wire: RFC 9457 `application/problem+json`, and the one table of HTTP statuses."""

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from models import errors

log = logging.getLogger("minist")

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What every error looks like (RFC 9457)."""

    type: str = Field(
        description="which problem this is, for programs", examples=["urn:minist:wrong-image-size"]
    )
    title: str = Field(description="which problem this is, for people", examples=["Wrong image size"])
    status: int = Field(description="the HTTP status again", examples=[422])
    detail: str = Field(
        description="what happened this time", examples=["the image has 64x64 pixels, the model takes 28x28"]
    )
    hint: str = Field(description="what to do about it", examples=["crop and scale it to that size first"])


class RequestError(Exception):
    """A request that cannot be answered; subclasses are the rows of the table below."""

    status = 400
    title = "Bad request"

    def __init__(self, detail: str, hint: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.headers = headers


class MalformedForm(RequestError):
    status, title = 400, "Malformed form"


class EmptyBody(RequestError):
    status, title = 422, "Empty body"


class WrongFields(RequestError):
    status, title = 422, "Wrong form fields"


class WrongArray(RequestError):
    status, title = 422, "Wrong array"


class BodyTooLarge(RequestError):
    status, title = 413, "Body too large"


class WrongContentType(RequestError):
    status, title = 415, "Wrong content type"


class UnknownModel(RequestError):
    status, title = 404, "Unknown model"


class NotReady(RequestError):
    status, title = 503, "Not ready"


class Overloaded(RequestError):
    status, title = 503, "Overloaded"


class TooLate(RequestError):
    status, title = 504, "Too late"


class TooManyRequests(RequestError):
    status, title = 429, "Too many requests"


class Unauthorized(RequestError):
    status, title = 401, "Unauthorized"


class Forbidden(RequestError):
    status, title = 403, "Forbidden"


class UnknownJob(RequestError):
    status, title = 404, "Unknown job"


class UnknownArtifact(RequestError):
    status, title = 404, "Unknown artifact"


class Conflict(RequestError):
    status, title = 409, "Conflict"


class InvalidRequest(RequestError):
    status, title = 422, "Invalid request"


class QueueIsFull(RequestError):
    status, title = 429, "Queue is full"


class FeedbackIsOff(RequestError):
    status, title = 409, "Feedback is off"


class FeedbackIsFull(RequestError):
    status, title = 507, "Feedback is full"


class UnknownPrediction(RequestError):
    status, title = 404, "Unknown prediction"


class UnknownCorrection(RequestError):
    status, title = 404, "Unknown correction"


class NoTestSet(RequestError):
    status, title = 409, "The test set is not here"


class StorageTrouble(RequestError):
    status, title = 503, "Storage trouble"


_IMAGE_ERRORS: Mapping[type[errors.ImageError], tuple[int, str]] = {
    errors.EmptyImage: (422, "Empty image"),
    errors.NotAnImage: (422, "Not an image"),
    errors.BrokenImage: (422, "Broken image"),
    errors.ImageTooLarge: (422, "Image too large"),
    errors.WrongImageSize: (422, "Wrong image size"),
    errors.NothingFound: (422, "Nothing found"),
}


def problem(title: str, status: int, detail: str, hint: str, **more: Any) -> dict[str, Any]:
    """The members of one problem document."""
    kind = "urn:minist:" + title.lower().replace(" ", "-")
    return {"type": kind, "title": title, "status": status, "detail": detail, "hint": hint, **more}


def problem_of(error: RequestError | errors.ImageError) -> dict[str, Any]:
    """The problem document that tells of `error`."""
    if isinstance(error, RequestError):
        return problem(error.title, error.status, error.detail, error.hint)
    status, title = _IMAGE_ERRORS[type(error)]
    return problem(title, status, error.detail, error.hint)


def respond(body: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """A problem document as a response."""
    return Response(json.dumps(body), body["status"], headers, MEDIA_TYPE)


def response_of(error: Exception) -> Response:
    """The response that tells of `error`; what nobody foresaw is a 500, its traceback in the log."""
    if isinstance(error, RequestError):
        return respond(problem_of(error), error.headers)
    if isinstance(error, errors.ImageError):
        return respond(problem_of(error))
    if isinstance(error, OperationalError):
        log.error("the database does not answer: %s", error.orig)
        return response_of(
            StorageTrouble(
                f"what has to be kept cannot be written or read now ({error.orig})",
                "try again; the operator should look at the disk of MINIST_HOME",
                {"retry-after": "5"},
            )
        )
    detail = "the server met an error that it did not foresee; its log has the traceback"
    return respond(problem("Internal server error", 500, detail, "try again; report it if it stays"))


def install(app: FastAPI) -> None:
    """Let `app` answer every error as a problem document, and say so in its OpenAPI document."""

    async def tell(request: Request, error: Exception) -> Response:
        return response_of(error)

    for kind in (RequestError, errors.ImageError, OperationalError, Exception):
        app.add_exception_handler(kind, tell)

    @app.exception_handler(RequestValidationError)
    async def _validation_error(request: Request, error: RequestValidationError) -> Response:
        return respond(invalid(error.errors()))

    @app.exception_handler(HTTPException)
    async def _http_exception(request: Request, error: HTTPException) -> Response:
        title = HTTPStatus(error.status_code).phrase.capitalize()
        detail = f"{request.method} {request.url.path}: {error.detail}"
        return respond(
            problem(title, error.status_code, detail, "see /docs for what can be asked"), error.headers
        )


def invalid(errors: Sequence[Any]) -> dict[str, Any]:
    """The problem document of pydantic's errors: each field, its value, what is allowed."""
    found = [
        {
            "field": ".".join(str(part) for part in e["loc"]),
            "value": _plain(e.get("input")),
            "problem": e["msg"],
        }
        for e in errors
    ]
    detail = "; ".join(f"{e['field']}: {e['problem']} (got {e['value']!r})" for e in found)
    hint = "correct the fields that are named; /docs shows what each may be"
    return problem(InvalidRequest.title, InvalidRequest.status, detail, hint, errors=found)


def _plain(value: Any) -> Any:
    """What of a value can be shown in JSON."""
    return value if isinstance(value, str | int | bool | None) else str(value)[:200]


def responses(*kinds: type[RequestError | errors.ImageError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail in these ways, by status."""
    table: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status, title = (kind.status, kind.title) if issubclass(kind, RequestError) else _IMAGE_ERRORS[kind]
        entry = table.setdefault(status, {"model": Problem, "description": ""})
        entry["description"] = ", ".join(filter(None, [entry["description"], title]))
    return table


IMAGE_ERRORS = tuple(_IMAGE_ERRORS)
