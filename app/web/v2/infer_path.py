"""The short way of `POST /v2/models/{name}/infer`: before FastAPI, as `app.web.fast_path` answers /predict."""

import re
from types import SimpleNamespace

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.web import problems
from app.web.auth import Headers
from app.web.dependencies import services_of
from app.web.fast_path import name_span
from app.web.paths import path_of
from app.web.v2.inference import infer

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_ROUTES = {
    versioned: SimpleNamespace(path_format=path)
    for versioned, path in (
        (False, "/v2/models/{name}/infer"),
        (True, "/v2/models/{name}/versions/{version}/infer"),
    )
}


def model_name(name: str, version: str | None) -> str:
    """As the registry calls it; `version` may be an alias."""
    return f"{name}@{version}" if version else name


class InferPath:
    """ASGI in front of ASGI, behind `app.web.access_log`, which has given the request its id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _usual(scope)
        if found is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = route = _ROUTES[found[2] is not None]
        if "fastapi.telemetry" in scope:
            name_span(route.path_format)
        services = services_of(scope)
        try:
            await services.authenticator.may_predict(found[0])
            reply = await infer(services, model_name(found[1], found[2]), found[0], receive)
        except ClientDisconnect:
            raise
        except Exception as error:
            if not problems.is_expected(error):
                raise  # the access log has an answer to that
            scope["problem"] = problems.title_of(error)
            await problems.response_of(error)(scope, receive, send)
            return
        headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


def _usual(scope: Scope) -> tuple[Headers, str, str | None] | None:
    """Headers, which come once, name and version; None for all other requests."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    match = _PATH.fullmatch(path_of(scope))
    if match is None:
        return None
    headers: Headers = dict(scope["headers"])
    return (headers, match[1], match[2]) if len(headers) == len(scope["headers"]) else None
