"""Training of a TableNetwork: all its parts at once, each in groups that hold out different rows.

A group never sees the rows of its fold, so that the answers of all groups on their own folds tell, for every
row, what a model says that has not seen it. By these each part ends, parts are weighted, and the temperature is
fitted.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.files import write_atomically
from models.table_columns import Columns, Encoded
from models.table_networks import TableNetwork
from models.table_parts import GaussianPart, LinearPart, NetworkPart
from training.errors import Diverged, TrainingError
from training.loop import to_bytes
from training.tables.gaussian import fit_gaussian
from training.tables.plan import Plan

CHUNK = 1_024  # rows in a forward pass of an evaluation
OTHER = 0.02  # of the cells of categories are `other` in training, so that it means something
LEAST = 0.01  # weight of a part, below which the network does without it
WEIGHING = 200  # rounds of expectation maximisation


@dataclass
class _Progress:
    """Of a part: its best epoch so far."""

    best: float = math.inf
    at: int = 0
    over: bool = False
    state: dict[str, Tensor] = field(default_factory=dict)


class TableTrainer:
    """Everything that changes during a run; `save` writes all of it."""

    def __init__(
        self,
        plan: Plan,
        arguments: dict[str, Any],
        rows: Tensor,
        labels: Tensor,
        held: Tensor,
        seed: int,
        threads: int,
    ) -> None:
        """`held` [N] is the group that holds out a row, -1 where all train on it."""
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        self.plan, self.seed = plan, seed
        self.model = TableNetwork(**arguments)
        self.model.columns.fit(rows)
        self.rows, self.labels, self.held = rows, labels, held
        self.average = copy.deepcopy(self.model.parts).requires_grad_(False).eval()
        self.shuffle = torch.Generator().manual_seed(seed)
        self.steps = math.ceil(len(rows) / plan.batch)
        self.decay = 1 - 1 / max(8.0, plan.averaged * self.steps) if plan.averaged else 0.0
        self.optimizers = [
            _optimizer(part, settings.lr, settings.decay, plan.optimizer)
            for part, settings in zip(self.model.parts, plan.parts, strict=True)
        ]
        self.progress = [_Progress() for _ in plan.parts]
        self.kept = list(range(len(plan.parts)))
        self._fit_at_once()
        self.epoch = 0
        self.taken = 0

    def _fit_at_once(self) -> None:
        """Parts that take no epochs."""
        for part, average, progress in zip(self.model.parts, self.average, self.progress, strict=True):
            if isinstance(part, GaussianPart):
                fit_gaussian(part, self.model.columns, self.rows, self.labels, self.held)
                average.load_state_dict(part.state_dict())
                progress.state = {key: tensor.clone() for key, tensor in part.state_dict().items()}
                progress.over = True

    @property
    def over(self) -> bool:
        return self.epoch >= self.plan.epochs or all(part.over for part in self.progress)

    def run_epoch(self, on_step: Callable[[int, float, float], None]) -> tuple[float, float]:
        """One pass over the shuffled rows; mean loss and accuracy of the members. Raises Diverged."""
        self.model.train()
        order = torch.randperm(len(self.rows), generator=self.shuffle)
        total, right, seen = 0.0, 0.0, 0
        for step, index in enumerate(torch.split(order, self.plan.batch), start=1):
            if len(index) < 2 and step > 1:
                continue
            loss, accuracy = self._step(index)
            if not math.isfinite(loss):
                raise Diverged(f"the loss became {loss} in step {step} of epoch {self.epoch + 1}", self.plan.lr)
            total, right, seen = total + loss * len(index), right + accuracy * len(index), seen + len(index)
            on_step(step, total / seen, right / seen)
        self.epoch += 1
        return total / seen, right / seen

    def _step(self, index: Tensor) -> tuple[float, float]:
        self.taken += 1
        encoded = self._with_others(self.model.columns(self.rows[index]))
        labels, held = self.labels[index], self.held[index]
        losses, hits = [], []
        decay = min(self.decay, (1 + self.taken) / (10 + self.taken))
        for place, (part, progress) in enumerate(zip(self.model.parts, self.progress, strict=True)):
            if progress.over:
                continue
            logits = part(encoded)
            groups, members, count, classes = logits.shape
            each = F.cross_entropy(
                logits.reshape(-1, classes),
                labels.repeat(groups * members),
                reduction="none",
                label_smoothing=self.plan.smoothing,
            ).view(groups, members, count)
            sees = (held[None] != torch.arange(groups)[:, None]).float()[:, None]
            loss = ((each * sees).sum((1, 2)) / (sees.sum((1, 2)).clamp(min=1) * members)).sum()
            optimizer = self.optimizers[place]
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            _warm_up(optimizer, self.taken, self.plan.warm)
            optimizer.step()
            _update(self.average[place], part, decay)
            losses.append(loss.item() / groups)
            with torch.no_grad():
                hits.append(float((logits.argmax(3) == labels).float().mean()))
        return sum(losses) / len(losses), max(hits)

    def _with_others(self, encoded: Encoded) -> Encoded:
        """Some categories replaced by `other`."""
        if not encoded.codes.shape[1]:
            return encoded
        columns = self.model.columns
        other = (columns.last.long() + columns.offsets).expand_as(encoded.codes)
        return Encoded(
            encoded.numbers,
            encoded.pieces,
            torch.where(torch.rand(encoded.codes.shape) < OTHER, other, encoded.codes),
        )

    def judge(self) -> tuple[float, float]:
        """Ask the averaged weights about the rows that each group holds out, and keep the best of each part;
        log loss and accuracy of the best part, now."""
        index, labels = self.judged
        found = []
        for average, progress in zip(self.average, self.progress, strict=True):
            if progress.over:
                continue
            probabilities = unseen(self.model.columns, average, self.rows, self.held, index)
            loss = _nll(probabilities, labels)
            accuracy = float((probabilities.argmax(1) == labels).double().mean())
            found.append((loss, accuracy))
            if loss < progress.best - 1e-5 or not progress.state:
                progress.best, progress.at = loss, self.epoch
                progress.state = {key: tensor.clone() for key, tensor in average.state_dict().items()}
            progress.over = self.epoch - progress.at >= self.plan.patience
        leader = min(self.progress, key=lambda part: part.best)  # of those that take epochs: others have none
        if leader.over and self.epoch >= leader.at + 2 * self.plan.patience:
            for progress in self.progress:  # slower ones that are behind add little
                progress.over = True
        return min(found)

    @property
    def judged(self) -> tuple[Tensor, Tensor]:
        """The rows that some group holds out, and their labels."""
        index = (self.held >= 0).nonzero()[:, 0]
        return index, self.labels[index]

    def finish(self) -> tuple[TableNetwork, Tensor]:
        """The network, in evaluation mode, with the best weights of each part that matters (`kept`), and
        for judged rows the probabilities of groups that have not seen them, float64 [N, classes]."""
        index, labels = self.judged
        answers = []
        for part, progress in zip(self.model.parts, self.progress, strict=True):
            part.load_state_dict(progress.state)
            answers.append(unseen(self.model.columns, part.eval(), self.rows, self.held, index))
        together = torch.stack(answers)
        weights = mixture(together, labels)
        self.kept = [place for place, weight in enumerate(weights.tolist()) if weight >= LEAST]
        weights = weights[self.kept] / weights[self.kept].sum()
        self.model.keep(self.kept, weights.float())
        return self.model.eval(), (weights[:, None, None] * together[self.kept]).sum(0)

    def save(self, path: Path) -> None:
        """Write all that a resumed run needs to end with the same weights."""
        state = {
            "epoch": self.epoch,
            "taken": self.taken,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": [vars(part) for part in self.progress],
            "shuffle": self.shuffle.get_state(),
            "rng": torch.get_rng_state(),
        }
        write_atomically(path, to_bytes(state))

    def restore(self, path: Path) -> None:
        """Continue from what `save` wrote. Raises TrainingError for a damaged file."""
        try:
            self._restore(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # torch raises whatever its zip reader or unpickler meets
            raise TrainingError(f"{path} is damaged or of another version: start a new run") from error

    def _restore(self, state: dict[str, Any]) -> None:
        self.epoch, self.taken = state["epoch"], state["taken"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.progress = [_Progress(**part) for part in state["progress"]]
        self.shuffle.set_state(state["shuffle"])
        torch.set_rng_state(state["rng"])


@torch.inference_mode()
def unseen(columns: Columns, part: torch.nn.Module, rows: Tensor, held: Tensor, index: Tensor) -> Tensor:
    """Of these rows, the mean probability of the members of the group that holds each out, float64 [N, C]."""
    found = []
    for chunk in torch.split(index, CHUNK):
        answers = part(columns(rows[chunk])).softmax(3).mean(1)
        found.append(answers[held[chunk], torch.arange(len(chunk))].double())
    return torch.cat(found)


@torch.inference_mode()
def unseen_by_all(model: torch.nn.Module, rows: Tensor, held: Tensor) -> Tensor:
    """Of all these rows, the same of a whole TableNetwork: its parts together, by their weights."""
    assert isinstance(model, TableNetwork)
    index = torch.arange(len(rows))
    found = [
        weight * unseen(model.columns, part, rows, held, index)
        for part, weight in zip(model.parts, model.weights.double(), strict=True)
    ]
    return torch.stack(found).sum(0)


def mixture(answers: Tensor, labels: Tensor) -> Tensor:
    """Weights of parts [P], by the likelihood of their mixture; answers [P, N, classes]."""
    likelihood = answers.gather(2, labels.expand(len(answers), -1)[:, :, None]).squeeze(2).clamp(min=1e-12)
    weights = torch.full((len(answers),), 1 / len(answers), dtype=torch.float64)
    for _ in range(WEIGHING):
        shares = weights[:, None] * likelihood
        weights = (shares / shares.sum(0)).mean(1)
    return weights


def _nll(probabilities: Tensor, labels: Tensor) -> float:
    return float(-probabilities.gather(1, labels[:, None]).clamp(min=1e-12).log().mean())


def _optimizer(
    part: "torch.nn.Module | LinearPart | NetworkPart", lr: float, decay: float, kind: str
) -> torch.optim.Optimizer:
    if kind == "sgd":
        return torch.optim.SGD(part.parameters(), lr=lr, weight_decay=decay)
    plain = [p for name, p in part.named_parameters() if "bias" in name or name == "adapter"]
    heavy = [p for name, p in part.named_parameters() if not ("bias" in name or name == "adapter")]
    groups = [{"params": heavy, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def _warm_up(optimizer: torch.optim.Optimizer, taken: int, steps: int) -> None:
    """The rate rises linearly in the first steps."""
    for group in optimizer.param_groups:
        if "initial_lr" not in group:
            group["initial_lr"] = group["lr"]
        group["lr"] = group["initial_lr"] * min(1.0, taken / max(1, steps))


@torch.no_grad()
def _update(average: torch.nn.Module, part: torch.nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(part.parameters()), 1 - decay)
