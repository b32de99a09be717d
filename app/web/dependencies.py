"""What the application holds while it runs, and how endpoints get at it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app import errors
from app.jobs.imports import Imports
from app.jobs.queue import Queue
from app.jobs.weights import WeightsUploads
from app.serving.batching import Batcher
from app.serving.decoding.pool import DecoderPool
from app.serving.evaluation import Evaluator
from app.serving.export import Exporter
from app.serving.registry import Registry
from app.serving.shadow import Shadow
from app.settings import Settings
from app.store.feedback import Feedback
from app.store.keys import Identity, Scope
from app.store.recent_predictions import RecentPredictions
from app.store.versions import Versions
from app.telemetry.counters import Counters
from app.telemetry.metrics import Processes
from app.web.auth import Authenticator, Headers, presented_key
from app.web.background import Background
from app.web.connections import Connections
from app.web.draining import Draining
from app.web.drift import DriftWatch
from app.web.followers import Followers
from app.web.incoming import Incoming
from app.web.live import Live
from app.web.traffic import TrafficWatch
from app.web.training_workers import TrainingWorkers


@dataclass(frozen=True)
class Services:
    """What the application holds while it runs. Made by the lifespan; Starlette hands it to every request."""

    settings: Settings
    registry: Registry
    versions: Versions
    queue: Queue
    imports: Imports
    incoming: Incoming  # data sets
    weights: WeightsUploads
    incoming_weights: Incoming
    training_workers: TrainingWorkers
    feedback: Feedback
    recent_predictions: RecentPredictions | None  # none: predictions cannot be corrected
    evaluator: Evaluator
    exporter: Exporter
    authenticator: Authenticator
    draining: Draining
    background: Background
    connections: Connections
    followers: Followers
    live: Live
    drift: DriftWatch
    traffic: TrafficWatch
    shadow: Shadow
    batcher: Batcher
    decoders: DecoderPool
    counters: Counters
    processes: Processes
    cpu_quota: float


def services_of(scope: Mapping[str, Any]) -> Services:
    """Those of the application that a request came to, by its ASGI scope."""
    services: Services = scope["state"]["services"]
    return services


# These are coroutines, however little they do: FastAPI calls plain functions in a thread.


async def _services(request: Request) -> Services:
    return services_of(request.scope)


ServicesDep = Annotated[Services, Depends(_services)]


async def _registry(services: ServicesDep) -> Registry:
    return services.registry


async def _settings(services: ServicesDep) -> Settings:
    return services.settings


async def _versions(services: ServicesDep) -> Versions:
    return services.versions


async def _feedback(services: ServicesDep) -> Feedback:
    return services.feedback


async def _queue(services: ServicesDep) -> Queue:
    return services.queue


RegistryDep = Annotated[Registry, Depends(_registry)]
SettingsDep = Annotated[Settings, Depends(_settings)]
VersionsDep = Annotated[Versions, Depends(_versions)]
FeedbackDep = Annotated[Feedback, Depends(_feedback)]
QueueDep = Annotated[Queue, Depends(_queue)]

_Bearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(HTTPBearer(auto_error=False, description="Authorization: Bearer KEY")),
]
_Header = Annotated[
    str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False, description="X-API-Key: KEY"))
]
# Where predictions and reading are open, no key at all: app.web.openapi says which holds.
READING: list[dict[str, list[str]]] = [{"reading": []}]
_ReadingKey = Annotated[
    HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False, scheme_name="reading"))
]


def headers_of(request: Request) -> Headers:
    """A request's headers as ASGI has them; of those that come twice, the last."""
    return dict(request.scope["headers"])


def _requires(scope: Scope) -> Callable[..., Awaitable[Identity]]:
    async def authorize(request: Request, services: ServicesDep, bearer: _Bearer, header: _Header) -> Identity:
        return await services.authenticator.authorize(headers_of(request), scope)

    return authorize


async def _may_read(request: Request, services: ServicesDep, key: _ReadingKey) -> None:
    await services.authenticator.may_read(headers_of(request))


async def _is_admin(request: Request, services: ServicesDep, key: _ReadingKey) -> bool:
    headers = headers_of(request)
    if presented_key(headers) is None:
        return False
    return (await services.authenticator.authorize(headers, None)).may("admin")


AUTH_ERRORS = (errors.Unauthorized, errors.Forbidden)
IsAdmin = Annotated[bool, Depends(_is_admin)]
MayTrain = Annotated[Identity, Depends(_requires("train"))]
MayAdminister = Annotated[Identity, Depends(_requires("admin"))]
MAY_READ = Depends(_may_read)
