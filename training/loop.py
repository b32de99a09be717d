"""The training loop: model, optimizer, schedule and random state, from one epoch to the next.

The whole data set is one uint8 tensor on the device; a batch is an index into it.
"""

import copy
import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from models import architectures
from models.background import Judging
from models.checkpoint import load_into
from models.files import write_atomically
from models.tensors import normalise
from training import scratch
from training.augment import PRESETS, augment_pictures, mirror
from training.choice import FEW
from training.datasets import Split
from training.errors import Diverged, TrainingError
from training.events import Listener, Step
from training.linear_layers import LinearLayers, cross_entropy
from training.mirroring import allowed_flips, to_mirror
from training.optimizers import optimizer_for, rate_factor
from training.recipes import Config
from training.reliability import brier

REPORT_EVERY = 0.25  # seconds between two Step events
FLIPS_AFTER = 0.3  # of the epochs: mirroring is decided
HOPELESS = 1.3  # times the validation loss of the first try, half-way through the second
TAUGHT = 5.0  # weight of what a teacher answers
TELL_BY_DISTANCE = ("garments", "small-image")  # unfamiliar pictures, from what they see (`training.novelty`)
UNBALANCED = 4  # times as many images in the largest class as in the smallest


class Trainer:
    """Everything that changes during a run; `save` writes all of it."""

    def __init__(
        self,
        config: Config,
        train: Split,
        classes: int,
        device: torch.device,
        validation: Split | None = None,
        own: int | None = None,
    ) -> None:
        """`config` has nothing left open (`training.choice`); `validation` decides on mirroring.

        The first `own` images are the data set's, which a teacher knows; None: all of them.
        """
        assert config.epochs is not None
        assert config.batch_size is not None
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.train = train.to(device)
        self.device = device
        _, channels, height, width = train.images.shape
        self.arguments = architectures.arguments_for(config.architecture, classes, (channels, height, width))
        if config.unfamiliar_images or config.architecture in TELL_BY_DISTANCE:
            self.arguments["background"] = architectures.ARCHITECTURES[config.architecture].background
        self.background = classes  # the label of what is none of the classes
        self.model = architectures.build(config.architecture, **self.arguments).to(device)
        by_hand = config.precision == "float32"
        self.layers = LinearLayers.of(config.architecture, self.model) if by_hand else None
        self.mean, self.std = normalisation(config, channels)
        self.validation = validation if config.augment == "pictures" else None
        self.flips: tuple[bool, bool] | None = None  # left to right, top to bottom; None: not decided yet
        self.tries = 2 if self.validation is not None and len(train) < FEW else 1
        self.try_epochs = config.epochs
        self.first: dict[str, Any] | None = (
            None  # of two tries: weights, validation loss and epochs of the first
        )
        self.own = len(train) if own is None else own
        self.teacher = self._load_teacher(Path(config.teacher)) if config.teacher is not None else None
        if config.init_from is not None:
            load_into(self.model, Path(config.init_from))
        self._initial = copy.deepcopy(self.model.state_dict()) if self.tries > 1 else {}
        self.average = copy.deepcopy(self.model).requires_grad_(False) if config.ema_decay else None
        self.epochs, self.batch_size = self.tries * config.epochs, config.batch_size
        self.steps = math.ceil(len(train) / self.batch_size)
        self._begin()
        weights = class_weights(train.labels[train.labels < classes], classes)
        self.loss = _loss(config, weights.to(device))
        self.epoch = 0  # complete ones
        self.notes: list[str] = []  # what was decided on the way

    def _begin(self) -> None:
        """Random state, optimizer and schedule as at the start of a run."""
        self.shuffle = torch.Generator().manual_seed(self.config.seed)
        self.draws = torch.Generator().manual_seed(self.config.seed)
        self.optimizer = optimizer_for(self.config, self.model, self.device)
        factor = rate_factor(self.config.schedule, self.try_epochs * self.steps)
        self.scheduler = LambdaLR(self.optimizer, factor)

    def _load_teacher(self, path: Path) -> nn.Module:
        """Raises CheckpointError."""
        arguments = {name: value for name, value in self.arguments.items() if name != "background"}
        teacher = architectures.build(self.config.architecture, **arguments)
        load_into(teacher, path)
        return teacher.to(self.device).eval().requires_grad_(False)

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
        losses = torch.zeros(self.steps, device=self.device)
        sizes = torch.full((self.steps,), self.batch_size, dtype=torch.float32, device=self.device)
        sizes[-1] = len(order) - self.batch_size * (self.steps - 1)
        answered: list[tuple[Tensor, Tensor]] = []  # logits and labels that were not counted yet
        total, correct, seen, begun = 0.0, 0, 0, perf_counter()
        reported = begun
        for step, index in enumerate(torch.split(order, self.batch_size), start=1):
            losses[step - 1], logits, labels = self._step(index)
            answered.append((logits, labels))
            seen += len(index)
            now = perf_counter()
            if now - reported >= REPORT_EVERY or step == self.steps:
                reported = now
                self._check(losses[:step])
                total = float(losses[:step] @ sizes[:step])
                correct += self._right(*map(torch.cat, zip(*answered, strict=True)))
                answered.clear()
                rate = seen / max(now - begun, 1e-9)
                on_event(self._step_event(step, total / seen, correct / seen, rate))
        self.epoch += 1
        return total / seen, correct / seen

    def _step(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of a batch its loss, logits and labels."""
        batch = self.train[index].to(self.device)
        images, labels = self._augment(batch.images), batch.labels
        taught = None if self.teacher is None else index < self.own
        loss, logits = self._backward(normalise(images, self.mean, self.std), labels, taught)
        self.optimizer.step()
        self.scheduler.step()
        if self.average is not None:
            _update_average(self.average, self.model, self._decay())
        return loss.detach(), logits.detach(), labels

    def _augment(self, images: Tensor) -> Tensor:
        if self.config.augment == "pictures":
            flips = self.flips or (False, False)
            if self.first is not None:
                return mirror(images.float(), self.draws, flips)
            return augment_pictures(images.float(), self.draws, flips)
        augment = PRESETS[self.config.augment]
        return images if augment is None else augment(images.float(), self.draws)

    def try_is_over(self, losses: Sequence[float]) -> bool:
        """Whether a try has had its epochs, or brings nothing any more; by the losses of all epochs so far."""
        mine = losses[self.first["epochs"] if self.first is not None else 0 :]
        if len(mine) >= self.try_epochs:
            return True
        if self.validation is None or len(mine) < self.try_epochs / 2:
            return False
        if self.first is not None and mine[-1] > HOPELESS * self.first["loss"]:
            return True
        return len(mine) - 1 - min(range(len(mine)), key=mine.__getitem__) >= max(4, self.try_epochs // 3)

    def begin_second_try(self, loss: float) -> bool:
        """Once more from the same weights, with no augmentation but mirroring; whether that is to be tried.

        Which of the two is better cannot be told from a few epochs. `loss` is the first try's on validation.
        """
        if self.first is not None or self.tries < 2:
            return False
        result = {name: tensor.detach().clone() for name, tensor in self.result.state_dict().items()}
        self.first = {"result": result, "loss": loss, "epochs": self.epoch}
        self.epochs = self.epoch + self.try_epochs
        torch.manual_seed(self.config.seed)
        for model in (self.model, self.average):
            if model is not None:
                model.load_state_dict(self._initial)
        self._begin()
        return True

    def choose_try(self, loss: float) -> None:
        """Keep the weights of the better of two tries; `loss` is the validation loss of the second."""
        assert self.first is not None
        better = loss < self.first["loss"]
        self.notes.append(
            f"augmentation but for mirroring is {'left out' if better else 'used'}: "
            f"validation loss {self.first['loss']:.3f} with it, {loss:.3f} without"
        )
        if not better:
            self.result.load_state_dict(self.first["result"])

    def decide_flips(self) -> bool:
        """Once a part of the epochs is over: mirror training images from now on, along each axis where images
        that are mirrored are recognised as well as others; whether that was decided now."""
        if (
            self.flips is not None
            or self.validation is None
            or self.epoch < math.ceil(FLIPS_AFTER * self.try_epochs)
        ):
            return False
        pictures = to_mirror(self.validation, self.train)
        self.flips, note = allowed_flips(self.result, pictures, self.device, self.mean, self.std)
        self.notes.append(note)
        return True

    def _backward(self, images: Tensor, labels: Tensor, taught: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Loss and logits; leaves the gradients in the parameters. Of the images `taught` a teacher tells."""
        if self.config.optimizer == "from-scratch":
            return scratch.backward(self.config.architecture, self.model, images, labels)
        if self.layers is not None:
            return self._backward_by_hand(self.layers, images, labels, taught)
        with self._autocast():
            logits = self._forward(images).float()
        loss = self._loss_of(logits, labels, images, taught)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        return loss, logits

    def _backward_by_hand(
        self, layers: LinearLayers, images: Tensor, labels: Tensor, taught: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        logits = layers.forward(images)
        if self.loss is F.cross_entropy and taught is None:
            loss, gradient = cross_entropy(logits, labels)
        else:
            loss = self._loss_of(logits.requires_grad_(), labels, images, taught)
            (gradient,) = torch.autograd.grad(loss, logits)
        layers.backward(gradient)
        return loss, logits

    def _forward(self, images: Tensor) -> Tensor:
        """Logits; of a background too where there are pictures to learn it from."""
        if self.config.unfamiliar_images:
            assert isinstance(self.model, Judging)
            return self.model.judge(images)
        logits: Tensor = self.model(images)
        return logits

    def _loss_of(self, logits: Tensor, labels: Tensor, images: Tensor, taught: Tensor | None) -> Tensor:
        """Of the classes, by label or by a teacher; and of the background, which is a question of its own."""
        if taught is None and not self.config.unfamiliar_images:
            return self.loss(logits, labels)
        classes, known = logits[:, : self.background], labels != self.background
        loss = 0 * logits.sum()
        if taught is not None and bool(taught.any()):
            loss = TAUGHT * self._distance_to_teacher(classes[taught], images[taught])
            known &= ~taught
        if bool(known.any()):
            loss = loss + self.loss(classes[known], labels[known])
        if self.config.unfamiliar_images:
            unfamiliar = (labels == self.background).float()
            loss = loss + F.binary_cross_entropy_with_logits(logits[:, -1], unfamiliar)
        return loss

    def _distance_to_teacher(self, logits: Tensor, images: Tensor) -> Tensor:
        """Kullback-Leibler divergence from its probabilities: what it knows stays while the rest is learned.

        Sources: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (arXiv:1503.02531); Li
        and Hoiem, "Learning without forgetting" (arXiv:1606.09282).
        """
        assert self.teacher is not None
        with torch.no_grad(), self._autocast():
            answers = self.teacher(images).float().softmax(1)
        return F.kl_div(logits.log_softmax(1), answers, reduction="batchmean")

    @torch.no_grad()
    def add_teacher(self) -> None:
        """Move the result towards the teacher's weights by its share; a background stays.

        Source: Wortsman and others, "Robust fine-tuning of zero-shot models" (arXiv:2109.01903).
        """
        if self.teacher is None or not self.config.teacher_share:
            return
        known = self.teacher.state_dict()
        for name, weight in self.result.state_dict().items():
            if name in known and weight.is_floating_point():
                weight.lerp_(known[name], self.config.teacher_share)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def _right(self, logits: Tensor, labels: Tensor) -> int:
        """How many answers are right."""
        if not self.config.unfamiliar_images:
            return int((logits.argmax(1) == labels).sum())
        answers = torch.where(logits[:, -1] > 0, self.background, logits[:, :-1].argmax(1))
        return int((answers == labels).sum())

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
        images = len(self.train) * (self.epochs - self.epoch) - step * self.batch_size
        eta = max(images, 0) / rate
        return Step(self.epoch + 1, self.epochs, step, self.steps, loss, accuracy, rate, eta)

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
            "flips": self.flips,
            "first": self.first,
            "notes": self.notes,
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        write_atomically(path, to_bytes(state))

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
        self.first = state.get("first")
        if self.first is not None:
            self.epochs = self.first["epochs"] + self.try_epochs
        self.flips, self.notes = state.get("flips"), list(state.get("notes", ()))
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def double_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of probabilities mistaken for logits, as in one of the sources; kept for comparison."""
    return F.cross_entropy(logits.softmax(1), labels)


def normalisation(config: Config, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by channel; one figure in the config is for each of them."""
    assert config.mean is not None
    assert config.std is not None
    mean, std = (
        part if isinstance(part, tuple) else (float(part),) * channels for part in (config.mean, config.std)
    )
    return mean, std


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """A weight for each class, 1 on average over the images: all 1 unless the classes differ much in size.

    Where they do, a class counts by the root of its size: between by its size and as every other.
    """
    counts = torch.bincount(labels.cpu(), minlength=classes).double()
    present = counts[counts > 0]
    if len(present) < 2 or present.max() < UNBALANCED * present.min():
        return torch.ones(classes)
    weights = torch.where(counts > 0, counts.clamp(min=1).rsqrt(), torch.zeros(()).double())
    return (weights * counts.sum() / (weights * counts).sum()).float()


def _loss(config: Config, weights: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    if config.loss == "double-softmax":
        return double_softmax
    if config.loss == "brier":
        return lambda logits, labels: brier(logits.softmax(1), labels)
    weighted = None if config.augment != "pictures" or bool((weights == 1).all()) else weights
    if weighted is None and not config.label_smoothing:
        return F.cross_entropy
    return partial(F.cross_entropy, label_smoothing=config.label_smoothing, weight=weighted)


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every weight and running statistic of `average` a little towards `model`'s."""
    for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def to_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
