"""The training loop: model, optimizer, schedule and random state, from one epoch to the next.

The whole data set is one uint8 tensor on the device; a batch is an index into it.
"""

import copy
import io
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from models import architectures
from models.checkpoint import load_into
from models.files import write_atomically
from models.tensors import normalise
from training import scratch
from training.augment import PRESETS
from training.datasets import Split
from training.errors import Diverged, TrainingError
from training.events import Listener, Step
from training.recipes import Config, Schedule
from training.reliability import brier

REPORT_EVERY = 0.25  # seconds between two Step events


class Trainer:
    """Everything that changes during a run; `save` writes all of it."""

    def __init__(self, config: Config, train: Split, classes: int, device: torch.device) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.train = train.to(device)
        self.device = device
        self.model = architectures.build(config.architecture, classes=classes).to(device)
        if config.init_from is not None:
            load_into(self.model, Path(config.init_from))
        self.average = copy.deepcopy(self.model).requires_grad_(False) if config.ema_decay else None
        self.shuffle = torch.Generator().manual_seed(config.seed)
        self.augment = PRESETS[config.augment]
        self.draws = torch.Generator().manual_seed(config.seed)
        self.steps = math.ceil(len(train) / config.batch_size)
        self.optimizer = _optimizer(config, self.model, device)
        self.scheduler = LambdaLR(self.optimizer, _factor(config.schedule, config.epochs * self.steps))
        self.loss = _loss(config)
        self.epoch = 0  # complete ones

    @property
    def result(self) -> nn.Module:
        """The model that comes out: with averaged weights where an average is kept."""
        return self.average or self.model

    def run_epoch(self, on_event: Listener) -> tuple[float, float]:
        """One pass over the shuffled training split; returns mean loss and accuracy during the pass.

        Raises Diverged, at the latest a few steps after the first loss that is not finite.
        """
        self.model.train()
        order = torch.randperm(len(self.train), generator=self.shuffle).to(self.device)
        total = torch.zeros((), device=self.device)
        correct = torch.zeros((), dtype=torch.long, device=self.device)
        losses = torch.zeros(self.steps, device=self.device)
        seen, begun = 0, perf_counter()
        reported = begun
        for step, index in enumerate(torch.split(order, self.config.batch_size), start=1):
            loss, hits = self._step(index)
            losses[step - 1] = loss
            total += loss * len(index)
            correct += hits
            seen += len(index)
            now = perf_counter()
            if now - reported >= REPORT_EVERY or step == self.steps:
                reported = now
                self._check(losses[:step])
                rate = seen / max(now - begun, 1e-9)
                on_event(self._step_event(step, total.item() / seen, correct.item() / seen, rate))
        self.epoch += 1
        return total.item() / seen, correct.item() / seen

    def _step(self, index: Tensor) -> tuple[Tensor, Tensor]:
        batch = self.train[index]
        images, labels = batch.images, batch.labels
        if self.augment is not None:
            images = self.augment(images.float(), self.draws)
        loss, logits = self._backward(normalise(images, self.config.mean, self.config.std), labels)
        self.optimizer.step()
        self.scheduler.step()
        if self.average is not None:
            _update_average(self.average, self.model, self._decay())
        return loss.detach(), (logits.argmax(1) == labels).sum()

    def _backward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits; leaves the gradients in the parameters."""
        if self.config.optimizer == "from-scratch":
            return scratch.backward(self.config.architecture, self.model, images, labels)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            logits = self.model(images).float()
        loss = self.loss(logits, labels)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        return loss, logits

    def _decay(self) -> float:
        """Decay of the average: less in the first steps, so that it forgets the random start."""
        step = float(self.scheduler.last_epoch)
        return min(self.config.ema_decay, (1 + step) / (10 + step))

    def _check(self, losses: Tensor) -> None:
        """The losses of an epoch's steps so far, looked at together: no step waits for a GPU."""
        finite = losses.isfinite()
        if not finite.all():
            first = int((~finite).nonzero()[0])
            what = f"the loss became {losses[first].item()} in step {first + 1} of epoch {self.epoch + 1}"
            raise Diverged(what, self.config.lr)

    def _step_event(self, step: int, loss: float, accuracy: float, rate: float) -> Step:
        images = len(self.train) * (self.config.epochs - self.epoch) - step * self.config.batch_size
        eta = max(images, 0) / rate
        return Step(self.epoch + 1, self.config.epochs, step, self.steps, loss, accuracy, rate, eta)

    def save(self, path: Path) -> None:
        """Write all that a resumed run needs to end with the same weights (on CPU)."""
        state = {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "shuffle": self.shuffle.get_state(),
            "draws": self.draws.get_state(),
            "rng": torch.get_rng_state(),
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        write_atomically(path, _to_bytes(state))

    def restore(self, path: Path) -> None:
        """Continue from what `save` wrote. Raises TrainingError for a damaged file."""
        try:
            self._restore(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises whatever its zip reader or unpickler meets
            raise TrainingError(f"{path} is damaged or of another version: start a new run") from error

    def _restore(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.shuffle.set_state(state["shuffle"])
        self.draws.set_state(state["draws"])
        torch.set_rng_state(state["rng"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def double_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of probabilities mistaken for logits, as in one of the sources; kept for comparison."""
    return F.cross_entropy(logits.softmax(1), labels)


def _loss(config: Config) -> Callable[[Tensor, Tensor], Tensor]:
    if config.loss == "double-softmax":
        return double_softmax
    if config.loss == "brier":
        return lambda logits, labels: brier(logits.softmax(1), labels)
    return partial(F.cross_entropy, label_smoothing=config.label_smoothing)


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every weight and running statistic of `average` a little towards `model`'s."""
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _optimizer(config: Config, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
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
    return torch.optim.SGD(model.parameters(), momentum=config.momentum, **settings)


def _factor(schedule: Schedule, steps: int) -> Callable[[int], float]:
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


def _to_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
