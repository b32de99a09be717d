"""The Open Inference Protocol over gRPC, in the process and the event loop of the API (extra `grpc`).

Keys, rate limits, the log, metrics, models and batches are those of HTTP. The size of a message
is bounded, and so are calls at a time and streams: gRPC reads a whole message before anybody is asked.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import unquote

from anyio import CapacityLimiter, to_thread

import app
from app import errors
from app.serving.batching import Held
from app.web import problems
from app.web.access_log import RequestObserver
from app.web.auth import Headers
from app.web.cancellation import Deadline
from app.web.dependencies import Services
from app.web.prediction import find_routed, find_served
from app.web.rate_limit import Rates, caller_of
from app.web.readiness import check_ready
from app.web.v2 import grpc_requests, metadata
from app.web.v2.errors import sentence
from app.web.v2.infer_path import model_name
from app.web.v2.inference import INLINE_BYTES, INLINE_ROWS, Inference, answer
from app.web.v2.messages import SERVICE, messages

log = logging.getLogger("minist")

CALLS = 64  # at a time; more are refused
STREAMS = 16
IDLE_SECONDS = 60.0  # of a stream
GRACE_SECONDS = 10.0
_AT_ONCE = CapacityLimiter(2)
Handler = Callable[[Any, Headers], Awaitable[Any]]


class InferenceServer:
    """The methods of the service."""

    def __init__(self, services: Services, observer: RequestObserver, rates: Rates | None) -> None:
        self.services = services
        self.observer = observer
        self.rates = rates
        self.streams = 0

    def methods(self) -> dict[str, Any]:
        """The handlers, by name, as grpc takes them."""
        import grpc

        free: dict[str, Handler] = {"ServerLive": self.live, "ServerReady": self.ready}
        asked: dict[str, Handler] = {
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelStatistics": self.model_statistics,
            "ModelInfer": self.infer,
        }
        found = {
            name: grpc.unary_unary_rpc_method_handler(
                self._unary(name, handler, name in free), None, lambda reply: reply.SerializeToString()
            )
            for name, handler in (free | asked).items()
        }
        found["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self.stream, None, lambda reply: reply.SerializeToString()
        )
        return found

    # -- the methods -------------------------------------------------------------------------------

    async def live(self, body: bytes, headers: Headers) -> Any:
        return messages()["ServerLiveResponse"](live=True)

    async def ready(self, body: bytes, headers: Headers) -> Any:
        try:
            check_ready(self.services)
        except errors.NotReady:
            return messages()["ServerReadyResponse"](ready=False)
        return messages()["ServerReadyResponse"](ready=True)

    async def server_metadata(self, body: bytes, headers: Headers) -> Any:
        extensions = list(metadata.EXTENSIONS)
        return messages()["ServerMetadataResponse"](
            name="minist", version=app.__version__, extensions=extensions
        )

    async def model_ready(self, body: bytes, headers: Headers) -> Any:
        request = _parsed("ModelReadyRequest", body)
        try:
            await find_served(self.services, model_name(request.name, request.version))
        except (errors.UnknownModel, errors.UnloadedModel, errors.DamagedModel):
            return messages()["ModelReadyResponse"](ready=False)
        return messages()["ModelReadyResponse"](ready=True)

    async def model_metadata(self, body: bytes, headers: Headers) -> Any:
        await self.services.authenticator.may_read(headers)
        request = _parsed("ModelMetadataRequest", body)
        served = await find_served(self.services, model_name(request.name, request.version))
        found = metadata.model_body(served, self.services.registry).model_dump()
        tensor = messages()["TensorMetadata"]
        for key in ("inputs", "outputs"):
            found[key] = [tensor(**one) for one in found[key]]
        return messages()["ModelMetadataResponse"](**found)

    async def model_statistics(self, body: bytes, headers: Headers) -> Any:
        """Of a model, or of all."""
        await self.services.authenticator.may_read(headers)
        request = _parsed("ModelStatisticsRequest", body)
        wanted = request.name or None, request.version or None
        found = await to_thread.run_sync(metadata.statistics_of, self.services, *wanted, limiter=_AT_ONCE)
        return messages()["ModelStatisticsResponse"](**found.model_dump())

    async def infer(self, body: bytes, headers: Headers) -> Any:
        """A ModelInferResponse. Raises as `app.web.v2.inference.infer`."""
        services = self.services
        await services.authenticator.may_predict(headers)
        held = Held(services.batcher)
        try:
            held.add(len(body))
            async with Deadline(services.settings.request_timeout):
                request = await _unless_small(len(body), INLINE_BYTES, _parsed, "ModelInferRequest", body)
                served = await find_routed(
                    services, model_name(request.model_name, request.model_version), headers
                )
                head, given = await _unless_small(len(body), INLINE_BYTES, grpc_requests.read, request)
                with Inference(services, served) as inference:
                    rows = await answer(services, served, given, head.preprocess, _never, held, inference)
        finally:
            held.release()
        return await _unless_small(len(rows), INLINE_ROWS, grpc_requests.response, served, head, rows)

    async def stream(self, messages_in: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        """An answer, or an error, for each request, in order."""
        import grpc

        if self.streams >= STREAMS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{STREAMS} streams are open: try again later"
            )
        self.streams += 1
        reply = messages()["ModelStreamInferResponse"]
        try:
            while (body := await _next(messages_in)) is not None:
                found = await self._observed("ModelStreamInfer", self.infer, False, body, context)
                if isinstance(found, Exception):
                    yield reply(error_message=sentence(_problem(found)))
                else:
                    yield reply(infer_response=found)
        finally:
            self.streams -= 1

    # -- what every call passes --------------------------------------------------------------------

    def _unary(self, name: str, handler: Handler, free: bool) -> Callable[[bytes, Any], Awaitable[Any]]:
        async def call(body: bytes, context: Any) -> Any:
            found = await self._observed(name, handler, free, body, context)
            if isinstance(found, Exception):
                await _abort(context, found)
            return found

        return call

    async def _observed(self, name: str, handler: Handler, free: bool, body: bytes, context: Any) -> Any:
        """The handler's answer, or the error that it met; counted and logged as a request."""
        begun, status = time.perf_counter(), 499  # as of a client that has gone
        headers = {key.encode(): _bytes(value) for key, value in context.invocation_metadata() or ()}
        scope = _scope(name, headers, context, self.services)
        request_id = self.observer.request_id(headers)
        try:
            if not free and self.rates is not None:
                refusal = await self.rates.admit(await caller_of(scope))
                if refusal is not None:
                    self.observer.counters.refused["rate"] += 1
                    raise refusal
            found = await handler(body, headers)
            status = 200
        except Exception as error:
            if not problems.is_expected(error):
                log.exception("a call failed")
            status = _problem(error)["status"]
            scope["problem"] = problems.title_of(error)
            return error.with_traceback(None)
        else:
            return found
        finally:
            seconds = time.perf_counter() - begun
            self.observer.note(scope, headers, request_id, f"/{SERVICE}/{name}", status, seconds)


@asynccontextmanager
async def serving(
    services: Services, observer: RequestObserver, rates: Rates | None
) -> AsyncIterator[int | None]:
    """The server while it runs, on the port of the settings; None where there is none.

    Raises OSError where the port is taken. Several processes share it.
    """
    settings = services.settings
    if settings.grpc_port is None:
        yield None
        return
    import grpc

    options = _options(settings.max_upload_bytes, settings.workers > 1)
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=CALLS)
    methods = InferenceServer(services, observer, rates).methods()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        port = server.add_insecure_port(f"{host}:{settings.grpc_port}")
    except RuntimeError as error:
        raise OSError(f"MINIST_GRPC_PORT: cannot listen on {host}:{settings.grpc_port}") from error
    await server.start()
    try:
        yield port
    finally:
        await server.stop(GRACE_SECONDS)


def _options(max_bytes: int, shared: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", CALLS),
        ("grpc.max_metadata_size", 16 * 1024),
        ("grpc.max_connection_idle_ms", 75_000),
        ("grpc.so_reuseport", int(shared)),  # else a second service would get half of the calls
    ]


def _parsed(name: str, body: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return messages()[name].FromString(body)
    except DecodeError as error:
        raise errors.WrongTensor(
            f"the message is no {name}", "let a client of the protocol write it"
        ) from error


async def _unless_small(size: int, small: int, work: Callable[..., Any], *arguments: object) -> Any:
    """In a thread, where that takes long."""
    if size <= small:
        return work(*arguments)
    return await to_thread.run_sync(work, *arguments, limiter=_AT_ONCE)


async def _next(messages_in: AsyncIterator[bytes]) -> bytes | None:
    """The next message of a stream; None at its end, or where it is idle for too long."""
    try:
        return await asyncio.wait_for(anext(messages_in), IDLE_SECONDS)
    except (StopAsyncIteration, TimeoutError):
        return None


async def _never() -> NoReturn:
    """gRPC cancels the call of a client that has gone."""
    await asyncio.Future()
    raise AssertionError


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")


def _scope(name: str, headers: Headers, context: Any, services: Services) -> dict[str, Any]:
    """What the log and the rate limit want to know of a request."""
    kind, _, rest = unquote(context.peer() or "").partition(":")
    host, _, port = rest.rpartition(":")
    client = (host.strip("[]"), int(port)) if kind in ("ipv4", "ipv6") and port.isdigit() else None
    return {
        "type": "http",
        "method": "POST",
        "path": f"/{SERVICE}/{name}",
        "query_string": b"",
        "headers": list(headers.items()),
        "client": client,
        "state": {"services": services},
    }


def _problem(error: Exception) -> dict[str, Any]:
    if problems.is_expected(error):
        return problems.problem_of(error)
    return problems.problem("Internal server error", 500, "the server met an error", "try again later")


async def _abort(context: Any, error: Exception) -> None:
    """End a call with the code that fits the error's HTTP status."""
    import grpc

    codes = {
        401: grpc.StatusCode.UNAUTHENTICATED,
        403: grpc.StatusCode.PERMISSION_DENIED,
        404: grpc.StatusCode.NOT_FOUND,
        409: grpc.StatusCode.FAILED_PRECONDITION,
        429: grpc.StatusCode.RESOURCE_EXHAUSTED,
        500: grpc.StatusCode.INTERNAL,
        503: grpc.StatusCode.UNAVAILABLE,
        504: grpc.StatusCode.DEADLINE_EXCEEDED,
    }
    problem = _problem(error)
    await context.abort(codes.get(problem["status"], grpc.StatusCode.INVALID_ARGUMENT), sentence(problem))
