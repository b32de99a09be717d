"""What browsers show: the page at `/`, static files, and the headers that both go out with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent.parent / "static"

_ALONE = "base-uri 'none'; form-action 'none'"
_ISOLATED = f"{_ALONE}; frame-ancestors 'none'"
_OURS = "default-src 'none'; script-src 'self'; connect-src 'self'"
PAGE_POLICY = f"{_OURS}; style-src 'self'; img-src 'self' data: blob:; frame-src 'self'; {_ISOLATED}"
# Swagger UI writes style attributes, and styles into the pictures that it shows
DOCS_POLICY = f"{_OURS}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; {_ISOLATED}"
# what a run leaves is looked at, never run; the page frames its report
ARTIFACT_POLICY = (
    f"sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; {_ALONE}; frame-ancestors 'self'"
)


def security_headers(policy: str) -> Mapping[str, str]:
    """For a page or file that a browser may show."""
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    }


def html(path: Path, policy: str) -> Response:
    """A page of ours; browsers ask whether it is still the same."""
    return FileResponse(path, headers={**security_headers(policy), "cache-control": "no-cache"})


class _Static(StaticFiles):
    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update({**security_headers(PAGE_POLICY), "cache-control": "no-cache"})
        return response


def install(app: FastAPI) -> None:
    """Serve the page at `/`, and `/static`."""
    app.mount("/static", _Static(directory=STATIC), name="static")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        path = STATIC / "page" / "index.html"
        if not path.is_file():
            raise HTTPException(404, "this installation has no page")
        return html(path, PAGE_POLICY)
