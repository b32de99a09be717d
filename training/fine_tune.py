"""Fine-tuning: the version that serves learns people's corrections, and is shown its own data again.

Each step sees corrections, as they are, and old training images, on which the weights that served so far
say what is to be answered (Li and Hoiem, "Learning without forgetting", arXiv:1606.09282), so that little else
moves. A correction that is surely right is pushed no further, and the steps after the first ones, which learn
the corrections, repair what these broke: so it never stops early.
Of the weights between the old and the new ones (Wortsman and others, "Robust fine-tuning of zero-shot models",
arXiv:2109.01903) those are taken that keep the validation accuracy and most corrections.
"""

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.card import Card, read_card
from models.classifier import Classifier
from models.errors import ModelError
from models.tensors import normalise
from training.augment import PRESETS
from training.datasets import Split
from training.directory import RunDirectory
from training.errors import TrainingError
from training.evaluation import logits_of
from training.events import Epoch, Listener, Note
from training.recipes import Config

STEPS = 30  # of a round
REPLAY, CORRECTED = 128, 64  # images of a step; corrections at most
SURE = 0.9  # probability of the right class from which a correction is pushed no further
ALLOWED = 0.0007  # of the validation accuracy, that may be lost; of few images, one
ENOUGH = 0.9  # of the corrections: more are not bought with validation accuracy
REMEMBER = 5.0  # weight of the old images in the loss
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)  # of the way from the old weights to the new ones
MOST_VALIDATION = 5_000


def served_version(files: RunDirectory) -> tuple[Path, Card]:
    """Weights and card of the version that serves, as the run's corrections name it. Raises TrainingError."""
    try:
        before = json.loads(files.corrections.read_bytes())["before"]
    except OSError:
        before = None
    if before is None:
        raise TrainingError(
            "fine-tuning goes on from a version that serves, with its corrections: there is none"
        )
    try:
        return Path(before), read_card(Path(before).with_suffix(".json"))
    except ModelError as error:
        raise TrainingError(f"the version to go on from is gone: {error}") from error


@dataclass(frozen=True)
class Outcome:
    """Share of the corrections that are right, 0..1, and validation accuracy and loss (nats)."""

    right: float
    accuracy: float
    loss: float


class FineTuner:
    """From a classifier and its card to another of the same kind. Deterministic: a killed run begins again."""

    def __init__(
        self, config: Config, before: Classifier, train: Split, validation: Split | None, corrections: Split
    ) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config, self.card, self.device = config, before.card, before.device
        self.before = before
        self.train, self.corrections = train, corrections
        self.watched = (validation if validation is not None else train)[:MOST_VALIDATION]
        self.split = "validation" if validation is not None else "training"
        self.model = copy.deepcopy(before.model).requires_grad_(True)
        self.allowed = max(ALLOWED, 1 / len(self.watched))
        self.draws = torch.Generator().manual_seed(config.seed)
        self.notes: list[str] = []

    def run(self, on_event: Listener) -> tuple[nn.Module, list[Epoch]]:
        """The model that comes out, in evaluation mode, and the history."""
        old = {name: tensor.clone() for name, tensor in self.before.model.state_dict().items()}
        start = self._outcome(self.before.model)
        rounds = self.config.epochs or 1
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.config.lr, weight_decay=0.0)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.config.lr, rounds * STEPS, pct_start=0.1, cycle_momentum=False
        )
        history: list[Epoch] = []
        for number in range(1, rounds + 1):
            begun, cpu_begun = perf_counter(), process_time()
            losses = [self._step(optimizer, scheduler) for _ in range(STEPS)]
            outcome = self._outcome(self.model)
            epoch = Epoch(
                epoch=number,
                epochs=rounds,
                train_loss=sum(losses) / len(losses),
                train_accuracy=outcome.right,
                split=self.split,
                loss=outcome.loss,
                accuracy=outcome.accuracy,
                lr=float(scheduler.get_last_lr()[0]),
                seconds=perf_counter() - begun,
                cpu_seconds=process_time() - cpu_begun,
            )
            history.append(epoch)
            on_event(epoch)
        share, chosen = self._between(old, start)
        self.notes.append(
            f"{share:.0%} of the way to the fine-tuned weights was taken: {chosen.right:.0%} of "
            f"{len(self.corrections)} corrections are right, {start.right:.0%} before; {self.split} accuracy "
            f"{chosen.accuracy:.4f}, {start.accuracy:.4f} before"
        )
        on_event(Note(self.notes[-1]))
        return self.model.eval().requires_grad_(False), history

    def _step(self, optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler) -> float:
        self.model.eval()  # statistics of the normalisations stay those of all the data
        index = torch.randint(len(self.train), (REPLAY,), generator=self.draws)
        old = self._changed(self.train[index].to(self.device).images.float())
        new = self.corrections[torch.randperm(len(self.corrections), generator=self.draws)[:CORRECTED]].to(
            self.device
        )
        images = self._as_input(torch.cat([old, new.images.float()]))
        with torch.no_grad():
            wanted = self.before.model(images[:REPLAY]).softmax(1)
        logits = self.model(images)
        unsure = F.cross_entropy(logits[REPLAY:], new.labels, reduction="none") + math.log(SURE)
        loss = REMEMBER * F.cross_entropy(logits[:REPLAY], wanted) + unsure.clamp(min=0).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        scheduler.step()
        return float(loss.detach())

    def _changed(self, images: Tensor) -> Tensor:
        """Half of them as they are, half as the served version's training changed them."""
        augment = PRESETS[(self.card.training or {}).get("augment", "none")]
        if augment is None:
            return images
        half = len(images) // 2
        return torch.cat([images[:half], augment(images[half:], self.draws)])

    def _as_input(self, images: Tensor) -> Tensor:
        return normalise(images, self.card.picture.mean, self.card.picture.std)

    def _outcome(self, model: nn.Module) -> Outcome:
        classifier = Classifier(model.eval(), self.card, self.device)
        logits, labels = self._watched_logits(classifier), self.watched.labels.cpu()
        return Outcome(
            right=_accuracy(logits_of(classifier, self.corrections), self.corrections.labels.cpu()),
            accuracy=_accuracy(logits, labels),
            loss=F.cross_entropy(logits, labels).item(),
        )

    def _watched_logits(self, classifier: Classifier) -> Tensor:
        return logits_of(classifier, self.watched)

    def _between(self, old: dict[str, Tensor], start: Outcome) -> tuple[float, Outcome]:
        """Leave in the model the weights of the best share of the way."""
        new = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        found: list[tuple[float, Outcome]] = []
        for share in SHARES:
            self._move(old, new, share)
            found.append((share, self._outcome(self.model)))
        keeps = [one for one in found if one[1].accuracy >= start.accuracy - self.allowed] or found[-1:]
        best = max(keeps, key=lambda one: (min(one[1].right, ENOUGH), one[1].accuracy, -one[1].loss))
        self._move(old, new, best[0])
        return best

    @torch.no_grad()
    def _move(self, old: dict[str, Tensor], new: dict[str, Tensor], share: float) -> None:
        mixed = {
            name: torch.lerp(old[name], new[name], share) if old[name].is_floating_point() else new[name]
            for name in old
        }
        self.model.load_state_dict(mixed)


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).double().mean().item()
