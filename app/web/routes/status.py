"""Probes, and what an operator wants to know."""

import torch
from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

import app
from app import errors
from app.serving.registry import Registry
from app.telemetry import metrics
from app.web import problems
from app.web.dependencies import MAY_READ, RegistryDep, ServicesDep
from app.web.schemas import DegradedBody, Info, Readiness, Status

router = APIRouter(tags=["status"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Is the process alive?")
async def livez(registry: RegistryDep) -> Status:
    """200 while the event loop turns and the device computes."""
    assert torch.ones(2, device=registry.device).sum().item() == 2
    return Status(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Can it answer predictions?", responses=problems.responses(errors.NotReady))
async def readyz(services: ServicesDep) -> Readiness:
    """200 only when the default model answers; not while the queue is full, nor once SIGTERM has come.

    `degraded` names the models that answer with another version than they should, or not at all.
    """
    if services.draining:
        raise errors.NotReady("the service is shutting down", "ask another instance")
    if services.batcher.saturated:
        raise errors.NotReady(
            "as many requests are waiting as are allowed", "ask another instance, or try again later"
        )
    if stopped := services.background.stopped:
        raise errors.NotReady(f"{stopped[0]} has stopped", "look into the service's log, and start it again")
    if not default_answers(services.registry):
        raise errors.NotReady("the default model does not answer", "look into the service's log")
    workers = services.training_workers.count
    return Readiness(
        status="ok",
        training_workers=workers,
        degraded=[DegradedBody(**vars(one)) for one in services.registry.degraded],
    )


@router.get("/info", summary="What runs here?", dependencies=[MAY_READ])
def info(registry: RegistryDep, services: ServicesDep) -> Info:
    """Versions, device, threads and the names of the models."""
    registry.refresh()
    return Info(
        version=app.__version__,
        torch=torch.__version__,
        device=str(registry.device),
        threads=torch.get_num_threads(),
        workers=services.settings.workers,
        training_workers=services.training_workers.count,
        cpu_quota=services.cpu_quota,
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
def show_metrics(services: ServicesDep) -> Response:
    """Of all workers: requests, latencies, batches, the queue, predictions, jobs, the served accuracy."""
    accuracies = {
        (served.name, served.version): test.accuracy
        for served in services.registry.models
        if (test := served.classifier.card.metrics.get("test"))
    }
    degraded = [(one.name, one.version) for one in services.registry.degraded]
    page = metrics.exposition(
        services.processes.all(), services.queue.counts(), accuracies, degraded, services.training_workers.count
    )
    return Response(page, media_type=metrics.MEDIA_TYPE)


def default_answers(registry: Registry) -> bool:
    """Whether a blank image gets a distribution from the default model."""
    served = registry.get(None)
    if served is None:
        return False
    blank = torch.zeros(1, *served.input_shape, dtype=torch.uint8)
    return abs(served.forward(blank).sum().item() - 1) < 1e-5
