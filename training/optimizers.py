"""How a config's steps are taken: its optimizer, and the schedule of its learning rate."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from training import scratch
from training.recipes import Config, Schedule
from training.sgd import SGD


def optimizer_for(config: Config, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """Of all weights of a model that lie on `device`."""
    if config.optimizer == "from-scratch":
        return scratch.SGD(model.parameters(), config.lr)
    settings: dict[str, Any] = {
        "lr": config.lr,
        "weight_decay": config.weight_decay,
        "fused": device.type in ("cpu", "cuda"),  # one kernel for all tensors: half the cost of a step
    }
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), **settings)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), **settings)
    return (SGD if settings["fused"] else torch.optim.SGD)(
        model.parameters(), momentum=config.momentum, **settings
    )


def rate_factor(schedule: Schedule, steps: int) -> Callable[[int], float]:
    """The learning rate at each step, as a fraction of the config's.

    one-cycle: linear warm-up over 30 % of the steps, then a cosine down (Smith, arXiv:1708.07120).
    cosine: down to zero without restarts (Loshchilov and Hutter, arXiv:1608.03983).
    """
    if schedule == "constant":
        return lambda step: 1.0
    if schedule == "cosine":
        return lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))
    warm = max(1, round(0.3 * steps))
    return lambda step: (
        (step + 1) / warm
        if step < warm
        else 0.5 * (1 + math.cos(math.pi * min((step - warm) / max(steps - warm, 1), 1)))
    )
