"""Probes for whoever runs the service."""

import torch
from fastapi import APIRouter

import app
from app import problems
from app.access import MAY_READ
from app.registry import Registry
from app.schemas import Info, Status
from app.state import RegistryOf, StateOf

router = APIRouter(tags=["status"])


@router.get("/livez", summary="Is the process alive?")
async def livez() -> Status:
    """200 while the event loop turns."""
    return Status(status="ok")


@router.get("/readyz", summary="Can it answer predictions?", responses=problems.responses(problems.NotReady))
async def readyz(state: StateOf) -> Status:
    """200 only when the default model answers, and not any more once SIGTERM has come."""
    if state["draining"]:
        raise problems.NotReady("the service is ending", "ask another instance")
    if not default_answers(state["registry"]):
        raise problems.NotReady("the default model does not answer", "look into the service's log")
    return Status(status="ok")


@router.get("/info", summary="What runs here?", dependencies=[MAY_READ])
def info(registry: RegistryOf) -> Info:
    """Versions, device, threads and the names of the models."""
    registry.refresh()
    return Info(
        version=app.__version__,
        torch=torch.__version__,
        device=str(registry.find(None).classifier.device),
        threads=torch.get_num_threads(),
        default_model=registry.default,
        models=[served.name for served in registry.models],
    )


def default_answers(registry: Registry) -> bool:
    """Whether a blank image gets a distribution from the default model."""
    classifier = registry.find(None).classifier
    blank = torch.zeros(1, *classifier.card.input_shape, dtype=torch.uint8)
    return abs(classifier.probabilities(blank).sum().item() - 1) < 1e-5
