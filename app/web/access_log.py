"""Every request gets an id, is counted, and leaves a line in the log."""

import asyncio
import re
import secrets
import time
from collections.abc import Mapping
from itertools import count
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry.counters import Counters
from app.telemetry.logs import RequestLog
from app.telemetry.metrics import Processes

CLIENT_GONE = 499  # as nginx says it
FLUSH_SECONDS = 0.25
_PLAIN_ID = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)


class RequestObserver:
    """Ids, counts and log lines of one process."""

    def __init__(self, counters: Counters, log: RequestLog | None) -> None:
        self.counters = counters
        self.log = log
        self.processes = Processes(None, lambda: counters.snapshot(0, 0))
        self._prefix = secrets.token_hex(6).encode() + b"-"
        self._numbers = count(1)

    def request_id(self, headers: Mapping[bytes, bytes]) -> bytes:
        """The client's own X-Request-ID where it is harmless, else a new one."""
        given = headers.get(b"x-request-id")
        if given is not None and _PLAIN_ID.fullmatch(given):
            return given
        return b"%b%x" % (self._prefix, next(self._numbers))

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
        self.counters.requests[route, status] += 1
        self.counters.seconds["total"].observe(seconds)
        if self.log is not None:
            trace = headers.get(b"traceparent")
            text = None if trace is None else trace.decode("latin-1")
            self.log.add(scope, status, seconds, request_id.decode(), text)

    async def run(self) -> None:
        """Write the log and the numbers now and then, until cancelled."""
        for turn in count(1):
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush(numbers=turn % 4 == 0)

    def flush(self, numbers: bool = True) -> None:
        if self.log is not None:
            self.log.flush()
        if numbers:
            self.processes.save()


class RequestObserverMiddleware:
    """An ASGI application whose requests are observed."""

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
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id)]}
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_GONE
        finally:
            seconds = time.perf_counter() - begun
            self.observer.note(scope, headers, request_id, _route(scope), status, seconds)


def _route(scope: Mapping[str, Any]) -> str:
    """The path with its parameters' names, so that there are as many as routes."""
    return str(getattr(scope.get("route"), "path_format", None) or "unknown")
