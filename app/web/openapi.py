"""The OpenAPI page, from files that we ship: nothing is fetched from elsewhere."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from app import errors
from app.web import problems
from app.web.pages import DOCS_POLICY, STATIC, html
from app.web.rate_limit import FREE


def install(app: FastAPI) -> None:
    """Serve `/docs`, and call errors by their media type in `/openapi.json`."""
    generate = app.openapi

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs() -> Response:
        return html(STATIC / "docs" / "index.html", DOCS_POLICY)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _name_problems(generate())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _name_problems(document: dict[str, Any]) -> None:
    """Every error is a Problem in application/problem+json, FastAPI's own 422 too."""
    shape = {"schema": {"$ref": "#/components/schemas/Problem"}}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            for kind in _everywhere(path, operation):
                status, title = problems.status_and_title(kind)
                entry = responses.setdefault(str(status), {"description": ""})
                if title not in entry["description"]:
                    entry["description"] = ", ".join(filter(None, [entry["description"], title]))
            for status, response in responses.items():
                if status >= "400":
                    response["content"] = {problems.MEDIA_TYPE: shape}
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _everywhere(path: str, operation: dict[str, Any]) -> Iterator[type[errors.RequestError]]:
    """What any route may answer, by the little that is known of it here."""
    if path not in FREE:
        yield errors.TooManyRequests
    if path != "/livez":
        yield errors.StorageTrouble  # keys, jobs and versions are in the database
    if "security" in operation:
        yield errors.Unauthorized
    if "requestBody" in operation:
        yield errors.BodyTooLarge
        yield errors.RequestError  # bytes that are not text
