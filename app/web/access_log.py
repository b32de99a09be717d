"""Every request gets an id, is counted, and leaves a line in the log."""

import logging
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry.counters import Counters
from app.telemetry.logs import RequestLog
from app.web.problems import response_of

log = logging.getLogger("minist")

CLIENT_GONE = 499  # as nginx calls it
TIMED = frozenset(("/predict", "/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"))
PROBES = ("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")
PAGES = ("/", "/docs", "/openapi.json", "/static", "unknown", "/live", "/live/events")
QUIET = frozenset((*PROBES, *PAGES))  # not among the last requests unless they fail
_PLAIN_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)


class RequestObserver:
    """Ids, counts and log lines of one process."""

    def __init__(self, counters: Counters, log: RequestLog | None) -> None:
        self.counters = counters
        self.log = log
        self._ids = _unguessable_ids()

    def request_id(self, headers: Mapping[bytes, bytes]) -> bytes:
        """The client's own X-Request-ID where it is harmless, else a new one.

        New ones cannot be guessed: that of a prediction also names its picture (`POST /feedback`).
        """
        given = headers.get(b"x-request-id")
        if given is not None and _PLAIN_ID.fullmatch(given):
            return given
        return next(self._ids)

    def note(
        self,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        request_id: bytes,
        route: str,
        status: int,
        seconds: float,
    ) -> None:
        """A request was answered (or its client has gone), `seconds` after it came."""
        counters = self.counters
        counters.requests[route, status] += 1
        counters.seconds["total"].observe(seconds)
        if route in TIMED:
            counters.latencies.observe(seconds)
        if status >= 400:
            counters.problems[status, scope.get("problem") or _reason(status)] += 1
        if status >= 400 or route not in QUIET:
            counters.latest_requests.append((time.time(), scope["method"], route, status, seconds, request_id))
        if self.log is not None:
            trace = headers.get(b"traceparent")
            text = None if trace is None else trace.decode("latin-1")
            self.log.add(scope, status, seconds, request_id.decode(), text)


def _unguessable_ids() -> Iterator[bytes]:
    """96 random bits each, in hexadecimal; the system is asked for a thousand at a time."""
    while True:
        some = secrets.token_hex(12_000).encode()
        yield from (some[at : at + 24] for at in range(0, len(some), 24))


class RequestObserverMiddleware:
    """An ASGI application whose requests are observed; a bug in it is a 500, its traceback in the log."""

    def __init__(self, app: ASGIApp, observer: RequestObserver) -> None:
        self.app = app
        self.observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = scope["request_id"] = self.observer.request_id(headers)
        status, whole = 0, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id)]}
            else:
                whole = not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:
            log.exception("a request failed")
            if status and not whole:  # too late for another answer: the server closes the connection
                raise
            if not status:
                await response_of(error)(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - begun
            self.observer.note(scope, headers, request_id, _route(scope), status or 500, seconds)


def _reason(status: int) -> str:
    """Of an error that has no problem document."""
    return "Client gone" if status == CLIENT_GONE else HTTPStatus(status).phrase.capitalize()


def _route(scope: Mapping[str, Any]) -> str:
    """The path with its parameters' names, so that there are as many as routes."""
    return str(getattr(scope.get("route"), "path_format", None) or "unknown")
