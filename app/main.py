"""The application: its routes, and what every request passes in front of them."""

import re
from collections.abc import Sequence
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import TracerProvider
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app import __version__
from app.lifespan import lifespan
from app.settings import Settings
from app.telemetry.counters import Counters
from app.telemetry.logs import RequestLog
from app.web import openapi, pages, problems
from app.web.access_log import RequestObserver
from app.web.fast_path import FastPath
from app.web.hosts import AllowedHosts
from app.web.hosts import patterns as allowed
from app.web.near_misses import known_parameters
from app.web.paths import Paths
from app.web.rate_limit import RateLimited, Rates
from app.web.routes import (
    dataset_imports,
    datasets,
    drift,
    evaluation,
    feedback,
    job_output,
    live,
    models,
    predict,
    recipes,
    status,
    traffic,
    train,
    v1,
    v2,
    versions,
    weights,
)
from app.web.uploads import ContentLengthLimit
from app.web.v2.errors import PlainErrors, is_theirs
from app.web.v2.infer_path import InferPath

MAX_JSON_BYTES = 64 * 1024  # of the bodies that are not images
_OWN_LIMITS = re.compile(r"/predict(/batch)?|/datasets|/models/[^/]+/versions")

_DESCRIPTION = """Small trained classifiers over HTTP.

`POST /predict` takes an image and answers with the probability of every class. `POST /train` trains a new
version of a model in the background; it needs an API key. Errors are `application/problem+json` (RFC 9457):
`detail` says what happened, `hint` what to do."""


class Service(FastAPI):
    """FastAPI with middleware of ours in front of its own, which would cost a tenth of a prediction."""

    front: Sequence[Middleware] = ()  # the first sees a request first

    def build_middleware_stack(self) -> ASGIApp:
        """As Starlette's, called with the first request."""
        application = super().build_middleware_stack()
        for cls, args, options in reversed(self.front):
            application = cls(application, *args, **options)
        return application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.front and self.middleware_stack is not None:
            scope["app"] = self  # as Starlette does, without its and FastAPI's coroutines
            await self.middleware_stack(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings | None = None, tracer_provider: TracerProvider | None = None) -> FastAPI:
    """The service with `settings` (default: from the environment). Models are loaded when it starts.

    Spans go to `tracer_provider`, or with `settings.tracing` to where OpenTelemetry's own variables say.
    """
    settings = settings or Settings()
    observer = RequestObserver(Counters(), RequestLog() if settings.log_requests else None)
    rates = Rates(settings.rate_limit) if settings.rate_limit is not None else None
    application = Service(
        title="minist",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lambda _: lifespan(settings, observer, rates),
        telemetry=_telemetry(settings, tracer_provider),
        docs_url=None,
        openapi_url=None,  # app.web.openapi has one that knows what is served
        redirect_slashes=False,  # app.web.paths takes them off
        redoc_url=None,
    )
    for install in (problems.install, pages.install, openapi.install):
        install(application)
    _route(application)
    front = _front(settings, observer, rates)
    if settings.tracing or tracer_provider is not None:  # FastAPI's telemetry has to see every request
        for cls, args, options in reversed(front):
            application.add_middleware(cls, *args, **options)
    else:
        application.front = front
    return application


def _telemetry(settings: Settings, tracer_provider: TracerProvider | None) -> TelemetryConfig:
    return TelemetryConfig(
        tracer_provider=tracer_provider,
        tracing=settings.tracing or tracer_provider is not None,
        operation_spans=False,  # one span per request: its parts are in GET /metrics
        metrics=False,  # GET /metrics has them, and the log of this service is its own
        logs=False,
        auto_configure=settings.tracing,
    )


def _route(application: FastAPI) -> None:
    for reading in (
        predict.router,
        dataset_imports.uploads,
        weights.router,
        v2.tensors,
        v1.reading,
    ):  # limits of their own
        application.include_router(reading)
    for part in (
        train,
        job_output,
        dataset_imports,
        datasets,
        recipes,
        models,
        versions,
        evaluation,
        feedback,
        live,
        drift,
        traffic,
        status,
    ):
        application.include_router(
            part.router, max_body_size=MAX_JSON_BYTES, dependencies=[Depends(known_parameters)]
        )
    for protocol in (v2, v1):
        application.include_router(protocol.router, max_body_size=MAX_JSON_BYTES)


def _front(settings: Settings, observer: RequestObserver, rates: Rates | None) -> list[Middleware]:
    """What every request passes, in this order. What is off by default is left out, and costs nothing."""
    front = [Middleware(Paths, prefix=settings.root_path, trusted=settings.trusted_proxies)]
    front.append(Middleware(PlainErrors))
    if hosts := allowed(settings.allowed_hosts):
        front.append(Middleware(AllowedHosts, patterns=hosts, observer=observer))
    if settings.cors_origins:
        front.append(Middleware(CORSMiddleware, **_cross_origin(settings.cors_origins)))
    if settings.rate_limit is not None:
        front.append(Middleware(RateLimited, text=settings.rate_limit, observer=observer, rates=rates))
    front += [Middleware(FastPath, observer=observer), Middleware(InferPath)]
    front.append(Middleware(ContentLengthLimit, limit=MAX_JSON_BYTES, free=_reads_its_body))
    return front


def _reads_its_body(path: str) -> bool:
    """Whether what answers at a path has limits of its own."""
    return _OWN_LIMITS.fullmatch(path) is not None or (
        is_theirs(path) and path.endswith(("/infer", ":predict"))
    )


def _cross_origin(origins: str) -> dict[str, Any]:
    """What pages of other origins may ask and see. Keys travel in headers, so no cookies."""
    return {
        "allow_origins": [origin.strip().rstrip("/") for origin in origins.split(",")],
        "allow_methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        "allow_headers": ["*"],
        "expose_headers": ["x-request-id", "retry-after", "location", "www-authenticate"],
    }


def __getattr__(name: str) -> FastAPI:
    """`uvicorn app.main:app` works: an API without a training worker, made when it is asked for."""
    if name == "app":
        return create_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
