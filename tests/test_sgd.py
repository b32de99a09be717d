"""SGD without the bookkeeping of `torch.optim`."""

import copy

import pytest
import torch
from torch import nn

from training.sgd import SGD


def steps(optimizer: torch.optim.SGD, model: nn.Linear, lrs: list[float]) -> None:
    for number, lr in enumerate(lrs):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        torch.autograd.backward(model(torch.full((3, 4), 1.0 + number)).square().sum())
        optimizer.step()


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.5, 0.0), (0.9, 0.1)])
def test_steps_are_those_of_torch(momentum: float, weight_decay: float) -> None:
    """Also with a learning rate that changes, and from the state that torch's has written."""
    ours = nn.Linear(4, 2)
    theirs = copy.deepcopy(ours)

    def optimizer_of(kind: type[torch.optim.SGD], model: nn.Linear) -> torch.optim.SGD:
        return kind(model.parameters(), lr=0.01, momentum=momentum, weight_decay=weight_decay, fused=True)

    mine, torchs = optimizer_of(SGD, ours), optimizer_of(torch.optim.SGD, theirs)
    for optimizer, model in ((mine, ours), (torchs, theirs)):
        steps(optimizer, model, [0.01, 0.002, 0.005])
    resumed = optimizer_of(SGD, ours)
    resumed.load_state_dict(copy.deepcopy(torchs.state_dict()))
    steps(resumed, ours, [0.003, 0.001])
    steps(torchs, theirs, [0.003, 0.001])
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


def test_a_weight_without_a_gradient_stays() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = SGD([used, unused], lr=0.1, momentum=0.5, fused=True)
    torch.autograd.backward(used.sum())
    optimizer.step()
    assert torch.equal(unused, torch.ones(2))
    assert not torch.equal(used, torch.ones(2))
