"""HTTP/1.1 on one connection: uvicorn's protocol, with bounds on what a client may send, and how slowly.

head      64 KiB at most (431), complete within seconds (408)
body      with a minimum rate (408); where the answer comes before its end, the rest is read and thrown
          away for a while, since clients that get a reset while they send never see the answer
upgrades  are ignored: the request is answered as if it had not asked for one (RFC 9110, 7.8)
"""

import asyncio
import json
from collections.abc import Iterable
from typing import Any, cast

import httptools
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app import errors
from app.web import problems
from app.web.connections import BODY_RATE, BODY_SECONDS, HEAD_SECONDS, WRITE_SECONDS, Connections
from app.web.dependencies import Services
from app.web.rate_limit import FREE
from app.web.v2.errors import as_error, is_theirs

WHOLE_ANSWER = "minist.whole_answer"  # ASGI extension: its "write" is `HttpProtocol.write_answer`
MAX_HEAD_BYTES = 64 * 1024
MAX_PIPELINED = 100  # requests that wait on one connection
LINGER_BYTES = 64 * 1024 * 1024
LINGER_SECONDS = 5.0
_HOP_BY_HOP = (b"upgrade", b"connection", b"http2-settings")


class AnswerTransport:
    """A transport that writes the head of an answer together with what follows it in the same turn of the
    event loop, and closes only after the client has had time to read."""

    def __init__(self, transport: asyncio.Transport, protocol: "HttpProtocol") -> None:
        self._transport = transport
        self._protocol = protocol
        self._answered: object = None  # the request whose head was written last
        self._head = b""  # waits for the body: one system call and one packet instead of two
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.abort = transport.abort

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines((head, data))
            return
        cycle = self._protocol.cycle
        if cycle is not self._answered and cycle.response_started:
            self._answered, self._head = cycle, data
            self._protocol.loop.call_soon(self._write_head)  # if nothing follows soon
        else:
            self._transport.write(data)

    def write_answer(self, cycle: RequestResponseCycle, answer: bytes) -> None:
        """All of an answer."""
        self._answered = cycle
        self._transport.write(answer)

    def _write_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def is_closing(self) -> bool:
        return self._protocol.lingering or self._transport.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def close(self) -> None:
        self._write_head()
        if self._protocol.is_unread and not self._transport.is_closing():
            self._protocol.linger()
        else:
            self._transport.close()

    def end_writing(self) -> None:
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def close_now(self) -> None:
        self._write_head()
        self._transport.close()


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        services: Services = app_state["services"]
        self._all: Connections = services.connections
        self._extensions: dict[str, dict[object, object]] = {WHOLE_ANSWER: {"write": self.write_answer}}
        self.lingering = False
        self._lingered = 0  # bytes
        self._upgrading = False
        self._in_head = False  # a head has begun and is not complete
        self._in_body = False
        self._slice = 0  # bytes that are being parsed now
        self._fed = 0  # bytes since the head began, or the body
        self._since = 0.0  # when that was, or the connection was made
        self._blocked_since: float | None = None  # the client does not read

    # -- the connection ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        answers = AnswerTransport(transport, self)
        super().connection_made(cast(asyncio.Transport, answers))
        self._since = self.loop.time()
        if not self._all.add(self):
            if self._all.is_full:
                self._all.refused += 1
                transport.abort()
            self.app = cast(Any, ProbesOnly(cast(ASGIApp, self.app), self._all))

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.remove(self)
        self.lingering = True  # nothing that is still to come is parsed
        super().connection_lost(exc)
        self._drop_unread()
        self.pipeline.clear()
        self._extensions.clear()  # else this object would stay until the garbage is collected

    def on_response_complete(self) -> None:
        self._drop_unread()
        super().on_response_complete()

    def _drop_unread(self) -> None:
        """What nobody will read would stay until the next request, or until the garbage is collected."""
        if self.cycle is not None and self.cycle.body:
            self.cycle.body.clear()

    def eof_received(self) -> None:
        if self.lingering:
            self._answer_transport.close_now()

    def shutdown(self) -> None:
        if self.is_idle:
            self._answer_transport.close_now()
        else:
            super().shutdown()

    @property
    def _answer_transport(self) -> AnswerTransport:
        return cast(AnswerTransport, self.transport)

    @property
    def is_unread(self) -> bool:
        """Whether the client may still be sending what nobody will read."""
        return self._in_head or self._in_body

    def linger(self) -> None:
        """Close for writing; read, and throw away, for a while."""
        self.lingering = True
        self.flow.resume_reading()
        self._answer_transport.end_writing()
        self.loop.call_later(LINGER_SECONDS, self._answer_transport.close_now)

    # -- what slow clients meet --------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        return not self._in_body and (self.cycle is None or self.cycle.response_complete)

    def slowness(self, now: float) -> str | None:
        if self.lingering:
            return None
        if self._blocked_since is not None and now - self._blocked_since > WRITE_SECONDS:
            return f"the client has read nothing for {WRITE_SECONDS} s"
        if self._in_body:
            return self._body_slowness(now)
        waiting = self._in_head or self.cycle is None
        if waiting and now - self._since > HEAD_SECONDS:
            return f"the head of the request was not complete after {HEAD_SECONDS} s"
        return None

    def _body_slowness(self, now: float) -> str | None:
        if self.flow.read_paused:  # it is the service that does not read now
            self._since, self._fed = now, 0
        late = now - self._since - BODY_SECONDS
        return f"the body came with less than {BODY_RATE} bytes/s" if late * BODY_RATE > self._fed else None

    def close_slow(self, reason: str) -> None:
        if self._blocked_since is not None:
            self.transport.abort()
        elif not self._in_head and not self._in_body:
            self._answer_transport.close_now()
        else:
            self._refuse(errors.TooSlow(reason, "send the request faster, or in smaller pieces"))

    def pause_writing(self) -> None:
        self._blocked_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._blocked_since = None
        super().resume_writing()

    # -- what comes --------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.lingering:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self._answer_transport.close_now()
            return
        self._unset_keepalive_if_required()
        if len(data) <= MAX_HEAD_BYTES:
            self._feed(data)
            return
        for at in range(0, len(data), MAX_HEAD_BYTES):
            self._feed(data[at : at + MAX_HEAD_BYTES])
            if self.lingering or self.transport.is_closing():
                return

    def _feed(self, data: bytes) -> None:
        self._slice = len(data)
        self._fed += self._slice
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(_cause(error))
        else:
            if self._in_head and self._fed > MAX_HEAD_BYTES:
                self._refuse(_large_head())

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the head again without its wish for another protocol, and then what follows it."""
        self._upgrading = False
        if self.scope["method"] == "CONNECT":
            self._refuse(errors.MalformedRequest("this is no proxy", "ask for a path of this service"))
            return
        version = self.scope["http_version"].encode()
        lines = [b"%b %b HTTP/%b" % (self.scope["method"].encode(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in _HOP_BY_HOP]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._fed, self._since = True, self._slice, self.loop.time()

    def on_headers_complete(self) -> None:
        if self._fed > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES:
            raise _large_head()
        if self.parser.should_upgrade():
            self._upgrading = True
            self.scope["method"] = self.parser.get_method().decode("ascii")
            self.scope["http_version"] = self.parser.get_http_version()
            return
        if len(self.pipeline) > MAX_PIPELINED:
            raise errors.MalformedRequest("too many requests wait on this connection", "wait for the answers")
        self._in_head, self._in_body, self._fed = False, True, 0
        super().on_headers_complete()
        self.scope["extensions"] = self._extensions

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        if not self._upgrading:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._upgrading:
            self._in_body = False
            super().on_message_complete()

    # -- what is written ---------------------------------------------------------------------------

    def write_answer(
        self, send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> bool:
        """Write an answer at once, in a third of the time of two calls of `send`; whether that could be done.

        It cannot where a middleware has put its own `send` in between, which may add headers (CORS).

        Header names are in lower case; names and values are the service's own: they are not checked.
        """
        cycle = self.cycle
        if send != cycle.send or cycle.disconnected or not cycle.keep_alive or self.flow.write_paused:
            return False
        lines = [STATUS_LINE[status]]
        for name, value in (*cycle.default_headers, *headers):
            if name == b"connection":  # it may have to be closed, slowly where the body is still coming
                return False
            lines += (name, b": ", value, b"\r\n")
        cycle.response_started = cycle.response_complete = True
        self._answer_transport.write_answer(cycle, b"".join((*lines, b"\r\n", body)))
        cycle.message_event.set()
        cycle.on_response()
        return True

    # -- refusals ----------------------------------------------------------------------------------

    def _refuse(self, error: errors.RequestError) -> None:
        """Answer with a problem, if no answer has begun; then close."""
        body = problems.problem_of(error)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self.pipeline or cycle.response_started or not self._in_body:
                self._answer_transport.close_now()  # it would be the answer to another request
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(_raw_answer(body, self._in_body and is_theirs(self.scope["path"])))
        self._in_body = True
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._refuse(errors.MalformedRequest(msg, "let an HTTP library write the request"))


class ProbesOnly:
    """ASGI for connections above the limit: probes are answered, everything else is refused."""

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        self.app = app
        self.connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith(FREE):  # under whatever prefix
            await self.app(scope, receive, send)
            return
        self.connections.refused += 1
        refusal = errors.Overloaded(
            f"{self.connections.limit:,} connections are open, no more are taken in now",
            "try again in a second, or ask another instance",
            retry_after=1,
        )
        response = problems.response_of(refusal)
        if is_theirs(scope["path"]):
            content = as_error(problems.problem_of(refusal))
            response = Response(content, response.status_code, {"retry-after": "1"}, "application/json")
        response.headers["connection"] = "close"
        await response(scope, receive, send)


def _cause(error: httptools.HttpParserError) -> errors.RequestError:
    """Our own error, where one was raised in a callback of the parser."""
    if isinstance(error.__context__, errors.RequestError):
        return error.__context__
    return errors.MalformedRequest("the request is not valid HTTP", "let an HTTP library write the request")


def _large_head() -> errors.RequestError:
    return errors.HeadTooLarge(
        f"the request line and headers have more than {MAX_HEAD_BYTES:,} bytes", "send fewer or shorter headers"
    )


def _raw_answer(body: dict[str, Any], plain: bool) -> bytes:
    content = as_error(body) if plain else json.dumps(body).encode()
    lines = (
        f"HTTP/1.1 {body['status']} {body['title']}",
        f"content-type: {'application/json' if plain else problems.MEDIA_TYPE}",
        f"content-length: {len(content)}",
        "connection: close",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content
