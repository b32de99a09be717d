"""The application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import torch
from fastapi import FastAPI

import app
from app import docs, problems
from app.registry import Registry
from app.routes import models, predict, status
from app.settings import Settings
from app.state import State
from models.devices import choose_device

_DESCRIPTION = """Small trained classifiers over HTTP.

`POST /predict` takes an image and answers with the probability of every class. Errors are
`application/problem+json` (RFC 9457): `detail` says what happened, `hint` what to do."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service with `settings` (default: from the environment). Models are loaded when it starts."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        torch.set_num_threads(1)  # one tiny forward pass gains nothing from more
        yield State(
            settings=settings, registry=Registry.load(settings.default_model, choose_device(settings.device))
        )

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
    for part in (predict, models, status):
        application.include_router(part.router)
    return application
