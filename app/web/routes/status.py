"""Probes, and what an operator wants to know."""

import logging
from collections.abc import Mapping

import torch
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from sqlalchemy.exc import DatabaseError
from starlette.responses import PlainTextResponse, Response

import app
from app import errors
from app.jobs.deliveries import Deliveries
from app.store.errors import reason
from app.telemetry import metrics
from app.web import problems
from app.web.dependencies import MAY_READ, RegistryDep, Services, ServicesDep
from app.web.readiness import check_ready
from app.web.schemas import DegradedBody, Info, Readiness, Status

log = logging.getLogger("minist")

router = APIRouter(tags=["status"])

_PAGES_AT_ONCE = CapacityLimiter(1)  # of metrics, in a thread of their own: others may all wait for the disk


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Is the process alive?")
async def livez(registry: RegistryDep) -> Status:
    """200 while the event loop turns and the device computes."""
    assert torch.ones(2, device=registry.device).sum().item() == 2
    return Status(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Can it answer predictions?", responses=problems.responses(errors.NotReady))
async def readyz(services: ServicesDep) -> Readiness:
    """200 only when the default model answers; not while the queue is full or work in the background keeps
    failing, nor once SIGTERM has come.

    `degraded` names the models that answer with another version than they should, or not at all. While a
    Postgres does not answer, what is loaded goes on: that is 200, with `warnings`.
    """
    check_ready(services)
    workers = services.training_workers.count
    return Readiness(
        status="ok",
        training_workers=workers,
        degraded=[DegradedBody(**vars(one)) for one in services.registry.degraded],
        warnings=services.background.warnings,
    )


@router.get("/info", summary="What runs here?", dependencies=[MAY_READ])
def info(registry: RegistryDep, services: ServicesDep) -> Info:
    """Versions, device, threads, limits and the names of the models."""
    registry.refresh()
    return Info(
        version=app.__version__,
        torch=torch.__version__,
        device=str(registry.device),
        threads=torch.get_num_threads(),
        workers=services.settings.workers,
        training_workers=services.training_workers.count,
        cpu_quota=services.cpu_quota,
        open_predict=services.settings.open_predict,
        max_dataset_bytes=services.settings.max_dataset_bytes,
        max_weights_bytes=services.settings.max_weights_bytes,
        default_model=registry.default,
        models=[served.name for served in registry.models],
    )


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=PlainTextResponse,
    response_description="Prometheus' text format",
    dependencies=[MAY_READ],
)
async def show_metrics(services: ServicesDep) -> Response:
    """Of all workers: requests, latencies, batches, the queue, predictions, jobs, the served accuracy."""
    page = await to_thread.run_sync(_page_of_metrics, services, limiter=_PAGES_AT_ONCE)
    return Response(page, media_type=metrics.MEDIA_TYPE)


def _page_of_metrics(services: Services) -> bytes:
    accuracies = {
        (served.name, served.version): test.accuracy
        for served in services.registry.models
        if (test := served.classifier.card.metrics.get("test"))
    }
    degraded = [(one.name, one.version) for one in services.registry.degraded]
    workers = services.training_workers.count
    jobs, deliveries = _counts(services)
    drifts = {
        version: (state.drift.labels.psi, state.drift.confidence.psi, state.since is not None)
        for version, state in services.drift.states.items()
        if state.drift
    }
    return metrics.exposition(services.processes.all(), jobs, accuracies, degraded, workers, deliveries, drifts)


def _counts(services: Services) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Jobs by status, and deliveries; nothing where the database does not answer: the other numbers are wanted
    all the more then."""
    try:
        return services.queue.counts(), Deliveries(services.queue.database).counts()
    except DatabaseError as error:
        log.error("jobs cannot be counted: %s", reason(error))
        return {}, {}
