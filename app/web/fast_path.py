"""The short way of `POST /predict`: what is usual is answered before FastAPI sees it.

    usual     one model by its plain name or none, that is served now; headers that come once
    answered  by the same `app.web.prediction.predict_one` as the documented route, and errors by the same table
    not usual anything else goes the way of every other request

FastAPI costs as much as everything else together (`benchmarks/SERVING.md`).
"""

import logging
import re
import time

from opentelemetry import trace
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.serving.encoding import MEDIA_TYPE
from app.web import problems
from app.web.access_log import CLIENT_GONE, RequestObserver, RequestObserverMiddleware
from app.web.auth import Headers
from app.web.dependencies import services_of
from app.web.paths import path_of
from app.web.payloads import NO_OPTIONS, Options
from app.web.prediction import predict_one
from app.web.protocol import WHOLE_ANSWER
from app.web.rows import predict_row

log = logging.getLogger("minist")

ROUTE = "/predict"
_PLAIN_MODEL = re.compile(rb"model=([\w.@-]+)", re.ASCII)


class FastPath:
    """ASGI in front of ASGI; with tracing inside of FastAPI's telemetry, which makes a span of each request."""

    def __init__(self, app: ASGIApp, observer: RequestObserver) -> None:
        self.app = RequestObserverMiddleware(app, observer)
        self.observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"]) if scope["type"] == "http" else {}
        options = _usual(scope, headers)
        if options is None:
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        if "fastapi.telemetry" in scope:
            name_span(ROUTE)
        request_id = self.observer.request_id(headers)
        status = CLIENT_GONE
        try:
            status, more, body = await _answer(scope, options, headers, receive, request_id)
            found = [*more, (b"content-length", b"%d" % len(body)), (b"x-request-id", request_id)]
            whole = scope.get("extensions", {}).get(WHOLE_ANSWER)
            if whole is None or not whole["write"](send, status, found, body):
                await send({"type": "http.response.start", "status": status, "headers": found})
                await send({"type": "http.response.body", "body": body})
        except ClientDisconnect:
            pass
        finally:
            seconds = time.perf_counter() - begun
            self.observer.note(scope, headers, request_id, ROUTE, status, seconds)


def _usual(scope: Scope, headers: Headers) -> Options | None:
    """The options of a usual request; None for all others."""
    if (
        scope["type"] != "http"
        or scope["method"] != "POST"
        or path_of(scope) != ROUTE
        or len(headers) != len(scope["headers"])
    ):
        return None
    query = scope["query_string"]
    if not query:
        return NO_OPTIONS
    found = _PLAIN_MODEL.fullmatch(query)
    name = found[1].decode() if found else ""
    return Options(model=name) if services_of(scope).registry.get(name) is not None else None


def name_span(route: str) -> None:
    """As FastAPI's router does for the routes that it finds."""
    span = trace.get_current_span()
    span.update_name(f"POST {route}")
    span.set_attribute("http.route", route)


_JSON = [(b"content-type", MEDIA_TYPE)]


async def _answer(
    scope: Scope, options: Options, headers: Headers, receive: Receive, request_id: bytes
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers without the length, and body. Raises ClientDisconnect."""
    services = services_of(scope)
    try:
        await services.authenticator.may_predict(headers)
        served = services.registry.get(options.model)
        predict = predict_row if served is not None and served.takes_rows else predict_one
        return 200, _JSON, await predict(services, options, headers, receive, request_id)
    except ClientDisconnect:
        raise
    except Exception as error:
        if not problems.is_expected(error):
            log.exception("a prediction failed")
        scope["problem"] = problems.title_of(error)
        return _problem(problems.response_of(error))


def _problem(response: Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    headers = [(name, value) for name, value in response.raw_headers if name != b"content-length"]
    return response.status_code, headers, bytes(response.body)
