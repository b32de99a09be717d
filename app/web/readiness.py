"""Whether predictions can be answered."""

from math import nan

import torch

from app import errors
from app.serving.registry import Registry
from app.web.dependencies import Services


def check_ready(services: Services) -> None:
    """Raises NotReady, which says why."""
    if services.draining:
        raise errors.NotReady("the service is shutting down", "ask another instance")
    if services.batcher.saturated:
        raise errors.NotReady(
            "as many requests are waiting as are allowed", "ask another instance, or try again later"
        )
    if trouble := services.background.trouble:
        raise errors.NotReady(trouble, "look into the service's log, and at the disk of MINIST_HOME")
    if not default_answers(services.registry):
        raise errors.NotReady("the default model does not answer", "look into the service's log")


def default_answers(registry: Registry) -> bool:
    """Whether a blank image, or an empty row, gets a distribution from the default model."""
    served = registry.get(None)
    if served is None:
        return False
    if served.classifier.is_graph:  # in a process of its own: nobody waits for that here
        return True
    blank = torch.full((1, *served.input_shape), nan if served.takes_rows else 0, dtype=served.dtype)
    (probabilities,) = served.probabilities(served.forward(blank).tolist())
    return abs(sum(probabilities) - 1) < 1e-5
