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
from starlette.routing import Match

import models.errors
from app import errors
from app.errors import RequestError
from models.errors import ImageError

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


_STATUS: Mapping[type[Exception], tuple[int, str]] = {
    errors.RequestError: (400, "Bad request"),
    errors.MalformedForm: (400, "Malformed form"),
    errors.EmptyBody: (422, "Empty body"),
    errors.WrongFields: (422, "Wrong form fields"),
    errors.WrongArray: (422, "Wrong array"),
    errors.BodyTooLarge: (413, "Body too large"),
    errors.WrongContentType: (415, "Wrong content type"),
    errors.UnknownModel: (404, "Unknown model"),
    errors.NotReady: (503, "Not ready"),
    errors.Overloaded: (503, "Overloaded"),
    errors.DeadlineExceeded: (504, "Deadline exceeded"),
    errors.TooManyRequests: (429, "Too many requests"),
    errors.Unauthorized: (401, "Unauthorized"),
    errors.Forbidden: (403, "Forbidden"),
    errors.UnknownJob: (404, "Unknown job"),
    errors.UnknownArtifact: (404, "Unknown artifact"),
    errors.Conflict: (409, "Conflict"),
    errors.InvalidRequest: (422, "Invalid request"),
    errors.QueueIsFull: (429, "Queue is full"),
    errors.FeedbackIsOff: (409, "Feedback is off"),
    errors.FeedbackIsFull: (507, "Feedback is full"),
    errors.UnknownPrediction: (404, "Unknown prediction"),
    errors.UnknownCorrection: (404, "Unknown correction"),
    errors.NoTestSet: (409, "The test set is not here"),
    errors.StorageTrouble: (503, "Storage trouble"),
    models.errors.EmptyImage: (422, "Empty image"),
    models.errors.NotAnImage: (422, "Not an image"),
    models.errors.BrokenImage: (422, "Broken image"),
    models.errors.ImageTooLarge: (422, "Image too large"),
    models.errors.CostlyImage: (422, "Costly image"),
    models.errors.WrongImageSize: (422, "Wrong image size"),
    models.errors.NothingFound: (422, "Nothing found"),
}


def problem(title: str, status: int, detail: str, hint: str, **more: Any) -> dict[str, Any]:
    """The members of one problem document."""
    kind = "urn:minist:" + title.lower().replace(" ", "-")
    return {"type": kind, "title": title, "status": status, "detail": detail, "hint": hint, **more}


def problem_of(error: RequestError | ImageError) -> dict[str, Any]:
    """The problem document that tells of `error`."""
    status, title = _STATUS[type(error)]
    return problem(title, status, error.detail, error.hint)


def status_and_title(kind: type[Exception]) -> tuple[int, str]:
    """What an error of this kind is called, and its HTTP status."""
    return _STATUS[kind]


def respond(body: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """A problem document as a response."""
    return Response(json.dumps(body), body["status"], headers, MEDIA_TYPE)


def response_of(error: Exception) -> Response:
    """The response that tells of `error`; what nobody foresaw is a 500, its traceback in the log."""
    if isinstance(error, RequestError):
        return respond(problem_of(error), error.headers)
    if isinstance(error, ImageError):
        return respond(problem_of(error))
    if isinstance(error, OperationalError):
        log.error("the database does not answer: %s", error.orig)
        return response_of(
            errors.StorageTrouble(
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

    for kind in (RequestError, ImageError, OperationalError, Exception):
        app.add_exception_handler(kind, tell)

    @app.exception_handler(RequestValidationError)
    async def _validation_error(request: Request, error: RequestValidationError) -> Response:
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
        return respond(problem(title, error.status_code, detail, "see /docs for what can be asked"), headers)


def _allowed(request: Request) -> str:
    """The methods that a path has (Starlette names those of the first route with that path)."""
    routes = request.app.routes
    found = [
        method
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE")
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
    status, title = _STATUS[errors.InvalidRequest]
    return problem(title, status, detail, hint, errors=found)


def _plain(value: Any) -> Any:
    """What of a value can be shown in JSON."""
    return value if isinstance(value, str | int | bool | None) else str(value)[:200]


def responses(*kinds: type[RequestError | ImageError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail in these ways, by status."""
    table: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status, title = _STATUS[kind]
        entry = table.setdefault(status, {"model": Problem, "description": ""})
        entry["description"] = ", ".join(filter(None, [entry["description"], title]))
    return table


IMAGE_ERRORS = tuple(kind for kind in _STATUS if issubclass(kind, ImageError))
