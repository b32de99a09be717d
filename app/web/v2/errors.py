"""Errors as clients of these protocols read them: `{"error": "what happened, and what to do"}`."""

import json
from collections.abc import Awaitable
from typing import Any

from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web import problems
from app.web.paths import path_of

_UNDER_A_PREFIX = ("/v2/models/", "/v2/health/", "/v2/repository/", "/v1/models/")


class ProtocolError(BaseModel):
    """What every error of these protocols looks like."""

    error: str = Field(examples=["there is no model 'x': ask for one of digits, minist"])


def responses(*kinds: type[Exception]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail in these ways, by status."""
    return {status: {**entry, "model": ProtocolError} for status, entry in problems.responses(*kinds).items()}


def is_theirs(path: str) -> bool:
    """Whether a path is one of these protocols', known or not; under a prefix that nobody has taken off yet,
    whether it is a known one: a model may be called v2."""
    if "/v" not in path:
        return False
    return (
        path.startswith(("/v2/", "/v1/"))
        or path in ("/v2", "/v1")
        or any(known in path for known in _UNDER_A_PREFIX)
    )


def sentence(problem: dict[str, Any]) -> str:
    return f"{problem['detail']}: {problem['hint']}"


def as_error(problem: dict[str, Any]) -> bytes:
    """A problem document as these protocols say it."""
    return json.dumps({"error": sentence(problem)}).encode()


class PlainErrors:
    """ASGI in front of ASGI: under /v1 and /v2 a problem document becomes `{"error": ..}`, whoever wrote it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and is_theirs(path_of(scope)):
            send = _Translated(send)
        return self.app(scope, receive, send)


class _Translated:
    """`send`, with problem documents held back until they are complete."""

    __slots__ = ("_body", "_send", "_start")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start" and _is_problem(message):
            self._start = message
            return _nothing()
        if self._start is None:
            return self._send(message)
        self._body += message.get("body", b"")
        return _nothing() if message.get("more_body", False) else self._finish(self._start)

    async def _finish(self, start: Message) -> None:
        body = as_error(json.loads(self._body)) if self._body else b""  # the answer to HEAD has none
        kept = [one for one in start["headers"] if one[0] not in (b"content-type", b"content-length")]
        own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self._send({**start, "headers": [*own, *kept]})
        await self._send({"type": "http.response.body", "body": body})


def _is_problem(message: Message) -> bool:
    return (b"content-type", problems.MEDIA_TYPE.encode()) in message["headers"]


async def _nothing() -> None:
    pass
