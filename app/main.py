"""The application."""

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import torch
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import OperationalError

import app
from app import docs, problems
from app.draining import Draining
from app.gate import Gate
from app.home import Home
from app.registry import Registry
from app.routes import models, predict, status, train
from app.settings import Settings
from app.state import State
from models.devices import choose_device

log = logging.getLogger("minist")

REFRESH_SECONDS = 0.25
MAX_JSON_BYTES = 64 * 1024  # of the bodies that are not images

_DESCRIPTION = """Small trained classifiers over HTTP.

`POST /predict` takes an image and answers with the probability of every class. `POST /train` trains a new
version of a model in the background; it needs an API key. Errors are `application/problem+json` (RFC 9457):
`detail` says what happened, `hint` what to do."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service with `settings` (default: from the environment). Models are loaded when it starts."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        torch.set_num_threads(1)  # one tiny forward pass gains nothing from more
        home = Home.open(settings)
        registry = Registry(home.versions, settings.default_model, choose_device(settings.device))
        registry.start()
        draining = Draining()
        if threading.current_thread() is threading.main_thread():
            draining.watch()
        _end_with_parent()
        fresh = asyncio.create_task(_keep_fresh(registry))
        yield State(
            settings=settings,
            registry=registry,
            versions=home.versions,
            queue=home.queue,
            gate=Gate(home.keys),
            draining=draining,
        )
        fresh.cancel()
        home.database.close()

    application = FastAPI(
        title="minist",
        version=app.__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(application)
    docs.install(application)
    application.include_router(predict.router)  # reads its bodies itself, with limits of its own
    for part in (train, models, status):
        application.include_router(part.router, max_body_size=MAX_JSON_BYTES)
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


async def _keep_fresh(registry: Registry) -> None:
    """Serve what the aliases point at, also when another process moved them."""
    while True:
        try:
            await run_in_threadpool(registry.refresh)
        except OperationalError as error:
            log.error("the aliases cannot be read: %s", error.orig)
        await asyncio.sleep(REFRESH_SECONDS)
