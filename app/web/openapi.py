"""The OpenAPI page, from files that we ship: nothing is fetched from elsewhere.

The document shows the rows that the models of tables take which are served now.
"""

import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from app import errors
from app.serving.decoding.tables import JSON
from app.serving.registry import ServedModel
from app.web import problems
from app.web.dependencies import READING, services_of
from app.web.glossary import complete
from app.web.pages import DOCS_POLICY, STATIC, html
from app.web.rate_limit import FREE
from app.web.row_schema import DIALECT, example_row, row_schema
from app.web.snippets import with_snippets
from app.web.v2.errors import is_theirs, sentence

SCHEMES = ("HTTPBearer", "APIKeyHeader")  # two ways to send a key
MOST_MODELS = 20  # of tables, whose rows are shown
MOST_COLUMNS = 300  # of a row that is shown here


def install(app: FastAPI) -> None:
    """Serve `/docs`, and call errors by their media type in `/openapi.json`."""
    generate = app.openapi

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs() -> Response:
        return html(STATIC / "docs" / "index.html", DOCS_POLICY)

    @app.api_route("/openapi.json", methods=["GET", "HEAD"], include_in_schema=False)
    async def document(request: Request) -> Response:
        services = services_of(request.scope)
        tables = [
            served
            for served in services.registry.models
            if served.takes_rows and len(served.rows.columns) <= MOST_COLUMNS
        ]
        open_to_all = services.settings.open_predict
        found = with_locks(with_rows(app.openapi(), tables[:MOST_MODELS]), open_to_all)
        prefix = request.scope.get("root_path", "").rstrip("/")
        base = f"{request.url.scheme}://{request.url.netloc}{prefix}"
        found = with_snippets(found, base, key=not open_to_all)
        return JSONResponse({**found, "servers": [{"url": prefix}]} if prefix else found)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = deepcopy(generate())  # parts of it are shared by routes
            app.openapi_schema = document
            _name_problems(document)
            complete(document)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def with_locks(document: dict[str, Any], open_to_all: bool) -> dict[str, Any]:
    """The document with a lock on what needs a key: on predictions and reads only where they are not open."""
    locks: list[dict[str, list[str]]] = [] if open_to_all else [{name: []} for name in SCHEMES]
    paths = {
        path: {
            method: {**one, "security": locks} if READING[0] in one.get("security", ()) else one
            for method, one in operations.items()
        }
        for path, operations in document["paths"].items()
    }
    parts = document["components"]
    kept = {name: parts["securitySchemes"][name] for name in SCHEMES}
    return {**document, "paths": paths, "components": {**parts, "securitySchemes": kept}}


def with_rows(document: dict[str, Any], tables: Sequence[ServedModel]) -> dict[str, Any]:
    """The document with the row of each of these models as a schema and an example of `POST /predict`."""
    if not tables:
        return document
    document = deepcopy(document)
    one = document["paths"]["/predict"]["post"]["requestBody"]["content"][JSON]
    many = document["paths"]["/predict/batch"]["post"]["requestBody"]["content"][JSON]
    examples = one.setdefault("examples", {}), many.setdefault("examples", {})
    for served in tables:
        name = "Row." + re.sub(r"[^\w.-]", "_", served.name)
        schema = {
            key: part for key, part in row_schema(served.name, served.rows, 20).items() if key != "$schema"
        }
        document["components"]["schemas"][name] = schema
        one["schema"]["anyOf"].append({"$ref": f"#/components/schemas/{name}"})
        row, said = example_row(served.rows), f"for ?model={served.name}"
        examples[0][served.name] = {"summary": f"a row {said}", "value": row}
        examples[1][served.name] = {"summary": f"rows {said}", "value": [row]}
    return {"jsonSchemaDialect": DIALECT, **document}


def _name_problems(document: dict[str, Any]) -> None:
    """Every error is a Problem in application/problem+json, FastAPI's own 422 too."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            for kind in _everywhere(path, operation):
                status, title = problems.status_and_title(kind)
                entry = responses.setdefault(str(status), {"description": ""})
                if title not in entry["description"]:
                    entry["description"] = ", ".join(filter(None, [entry["description"], title]))
                _examples(entry).update(problems.example(kind))
            for status, response in responses.items():
                if status >= "400":
                    shown = _examples(response) or problems.example(errors.InvalidRequest)
                    response["content"] = _as_protocol(shown) if is_theirs(path) else _as_problem(shown)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _examples(response: dict[str, Any]) -> dict[str, Any]:
    """Those of an error's problem document; what is added to them stays."""
    content = response.setdefault("content", {}).setdefault(problems.MEDIA_TYPE, {})
    found: dict[str, Any] = content.setdefault("examples", {})
    return found


def _as_problem(examples: dict[str, Any]) -> dict[str, Any]:
    shape = {"$ref": "#/components/schemas/Problem"}
    return {problems.MEDIA_TYPE: {"schema": shape, "examples": examples}}


def _as_protocol(examples: dict[str, Any]) -> dict[str, Any]:
    """As /v1 and /v2 say it."""
    shape = {"$ref": "#/components/schemas/ProtocolError"}
    said = {name: {**one, "value": {"error": sentence(one["value"])}} for name, one in examples.items()}
    return {"application/json": {"schema": shape, "examples": said}}


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
