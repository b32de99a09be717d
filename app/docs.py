"""The OpenAPI page, from files that we ship: nothing is fetched from elsewhere."""

from typing import Any

from fastapi import FastAPI
from starlette.responses import Response

from app import problems
from app.pages import DOCS_POLICY, STATIC, html


def install(app: FastAPI) -> None:
    """Serve `/docs`, and call errors by their media type in `/openapi.json`."""
    generate = app.openapi

    @app.get("/docs", include_in_schema=False)
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
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    response["content"] = {problems.MEDIA_TYPE: shape}
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
