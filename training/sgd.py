"""SGD by torch's fused kernel, without the bookkeeping of `torch.optim` at each step.

That takes a twentieth of a step of the MLP. Settings and state are those of `torch.optim.SGD`.
"""

import torch


class SGD(torch.optim.SGD):
    """On a CPU or an NVIDIA GPU; settings may change between steps, momentum from or to 0 may not."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            begins = not self.state
            if begins and group["momentum"]:
                for weight in weights:
                    self.state[weight]["momentum_buffer"] = torch.empty_like(weight)
            torch._fused_sgd_(
                weights,
                [weight.grad for weight in weights],
                [self.state[weight]["momentum_buffer"] for weight in weights] if group["momentum"] else [],
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=group["maximize"],
                is_first_step=begins,
            )
