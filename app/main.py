"""The application."""

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import TracerProvider
from sqlalchemy.exc import OperationalError
from starlette.types import ASGIApp, Receive, Scope, Send

import app
from app.cpus import cpu_quota, threads_per_worker
from app.home import Home
from app.serving.batching import Batcher
from app.serving.evaluation import Evaluator
from app.serving.registry import Registry
from app.settings import Settings
from app.store.recent_predictions import RecentPredictions, UnguessableRequestIds
from app.telemetry import metrics
from app.telemetry.counters import Counters
from app.telemetry.logs import RequestLog
from app.web import openapi, pages, problems
from app.web.access_log import RequestObserver, RequestObserverMiddleware
from app.web.auth import Authenticator
from app.web.dependencies import Services
from app.web.draining import Draining
from app.web.fast_path import FastPath
from app.web.rate_limit import RateLimited
from app.web.routes import evaluation, feedback, models, predict, recipes, status, train
from app.web.uploads import ContentLengthLimit
from models.devices import choose_device

log = logging.getLogger("minist")

REFRESH_SECONDS = 0.25
MAX_JSON_BYTES = 64 * 1024  # of the bodies that are not images

_DESCRIPTION = """Small trained classifiers over HTTP.

`POST /predict` takes an image and answers with the probability of every class. `POST /train` trains a new
version of a model in the background; it needs an API key. Errors are `application/problem+json` (RFC 9457):
`detail` says what happened, `hint` what to do."""


class Service(FastAPI):
    """FastAPI, behind the fast path, and that behind the rate limit where there is one.

    With tracing there is no fast path: FastAPI's own hooks make the spans, so every request has to go its way.
    """

    def __init__(self, observer: RequestObserver, rate_limit: str | None, traced: bool, **options: Any) -> None:
        super().__init__(**options)
        front = RequestObserverMiddleware if traced else FastPath
        self._front: ASGIApp = front(super().__call__, observer)
        if rate_limit is not None:
            self._front = RateLimited(self._front, rate_limit, observer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._front(scope, receive, send)


def create_app(settings: Settings | None = None, tracer_provider: TracerProvider | None = None) -> FastAPI:
    """The service with `settings` (default: from the environment). Models are loaded when it starts.

    Spans go to `tracer_provider`, or with `settings.tracing` to where OpenTelemetry's own variables say.
    """
    settings = settings or Settings()
    traced = settings.tracing or tracer_provider is not None
    kind = UnguessableRequestIds if settings.feedback else RequestObserver
    observer = kind(Counters(), RequestLog() if settings.log_requests else None)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Services]]:
        quota = cpu_quota()
        torch.set_num_threads(min(settings.threads, threads_per_worker(quota, settings.workers)))
        home = Home.open(settings)
        device = choose_device(settings.device)
        registry = Registry(home.versions, settings.default_model, device, observer.counters)
        registry.start()
        draining = Draining()
        if threading.current_thread() is threading.main_thread():
            draining.watch()
        _end_with_parent()
        batcher = Batcher(
            observer.counters,
            settings.max_waiting_images,
            settings.max_waiting_bytes,
            threads_per_worker(quota, settings.workers),
        )
        directory = os.environ.get(metrics.DIRECTORY)
        observer.processes = metrics.Processes(
            Path(directory) if directory else None,
            lambda: observer.counters.snapshot(batcher.images, batcher.bytes),
        )
        memory = RecentPredictions(home.database) if settings.feedback else None
        ending = asyncio.Event()
        fresh = asyncio.create_task(_keep_fresh(registry, ending))
        works = [observer.run()]
        if memory is not None:
            works.append(memory.run())
        else:
            home.feedback.forget_predictions()
        tasks = [asyncio.create_task(work) for work in works]
        gc.collect()
        gc.freeze()  # what is there now stays: the collector need not look at it under load
        services = Services(
            settings=settings,
            registry=registry,
            versions=home.versions,
            queue=home.queue,
            feedback=home.feedback,
            recent_predictions=memory,
            evaluator=Evaluator(settings.data_dir),
            authenticator=Authenticator(home.keys),
            draining=draining,
            batcher=batcher,
            counters=observer.counters,
            processes=observer.processes,
            cpu_quota=quota,
        )
        yield {"services": services}
        gc.unfreeze()
        ending.set()
        await fresh  # a thread that is still in torch when Python ends takes the process down with it
        for task in tasks:
            task.cancel()
        observer.flush()
        if memory is not None:
            memory.write()
        home.database.close()

    application = Service(
        observer,
        settings.rate_limit,
        traced,
        telemetry=TelemetryConfig(
            tracer_provider=tracer_provider,
            tracing=traced,
            metrics=False,  # GET /metrics has them, and the log of this service is its own
            logs=False,
            auto_configure=settings.tracing,
        ),
        title="minist",
        version=app.__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(application)
    pages.install(application)
    openapi.install(application)
    application.include_router(predict.router)  # reads its bodies itself, with limits of its own
    for part in (train, recipes, models, evaluation, feedback, status):
        application.include_router(part.router, max_body_size=MAX_JSON_BYTES)
    application.add_middleware(ContentLengthLimit, limit=MAX_JSON_BYTES, free=("/predict", "/predict/batch"))
    return application


def _end_with_parent() -> None:
    """A worker whose parent was killed ends like one that was told to; else it would hold the port."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop = asyncio.get_running_loop()

        def end() -> None:
            loop.remove_reader(parent.sentinel)
            os.kill(os.getpid(), signal.SIGTERM)

        loop.add_reader(parent.sentinel, end)


async def _keep_fresh(registry: Registry, ending: asyncio.Event) -> None:
    """Serve what the aliases point at, also when another process moved them."""
    while not ending.is_set():
        try:
            await run_in_threadpool(registry.refresh)
            await run_in_threadpool(registry.freeze)
        except OperationalError as error:
            log.error("the aliases cannot be read: %s", error.orig)
        with suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), REFRESH_SECONDS)
