"""The OpenAPI page, from files that we ship: nothing is fetched from elsewhere."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from app import problems

STATIC = Path(__file__).parent / "static"


def install(app: FastAPI) -> None:
    """Serve `/docs` and its assets, and call errors by their media type in `/openapi.json`."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    generate = app.openapi

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(STATIC / "docs" / "index.html")

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _name_problems(generate())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _name_problems(document: dict[str, Any]) -> None:
    """FastAPI writes every model as application/json; errors are application/problem+json."""
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if status >= "400" and "application/json" in response.get("content", {}):
                    response["content"][problems.MEDIA_TYPE] = response["content"].pop("application/json")
