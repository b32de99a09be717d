"""Transfer: what EfficientNet-Lite0 has learned from a million photographs, and a head on it for other classes.

pictures, and changed copies -> features, once each, in `features.npy` of the run ->
logistic regressions with several penalties -> the one with the best validation loss

Source: Kornblith, Shlens and Le, "Do better ImageNet models transfer better?" (arXiv:1805.08974).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models import architectures
from models.efficientnet import FEATURES, EfficientNetLite0, load_imagenet
from models.files import write_atomically
from models.inference import frozen
from models.tensors import normalise
from training.augment import augment_pictures
from training.choice import PENALTIES
from training.datasets import Split
from training.directory import RunDirectory
from training.events import Epoch, Listener, Note, Step
from training.loop import MIRROR_SLACK, UNBALANCED, normalisation
from training.recipes import Config

BATCH = 32
VIEWS = 4  # of a training picture at most, itself included
PASSES = 4_000  # pictures through the backbone, as far as more views go; 25 to 40 ms each


@dataclass(frozen=True)
class Features:
    """Features [rows, 1280] and labels [rows]: of training pictures and copies, and of validation pictures."""

    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    validation: NDArray[np.float32]
    validation_labels: NDArray[np.int64]


class Backbone(torch.nn.Module):
    """Pictures to features."""

    def __init__(self, model: EfficientNetLite0) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.features(x)


class HeadTrainer:
    """The backbone with its head; an epoch is a fit with one of the penalties."""

    def __init__(
        self, config: Config, train: Split, classes: int, device: torch.device, validation: Split
    ) -> None:
        torch.set_num_threads(config.threads)
        self.config, self.train, self.validation = config, train, validation
        self.classes, self.device = classes, device
        _, channels, height, width = train.images.shape
        self.arguments = architectures.arguments_for(config.architecture, classes, (channels, height, width))
        model = architectures.build(config.architecture, **self.arguments)
        assert isinstance(model, EfficientNetLite0)
        load_imagenet(model)
        self.model = model.to(device).eval().requires_grad_(False)
        self.mean, self.std = normalisation(config, channels)
        self._backbone = self._frozen(channels, height, width)
        self.notes: list[str] = []

    def _frozen(self, *shape: int) -> torch.nn.Module:
        """The backbone with its normalisations folded in: two thirds of the time on a CPU."""
        example = torch.zeros(2, *shape, device=self.device).contiguous(memory_format=torch.channels_last)
        return frozen(Backbone(self.model).eval(), example)

    def run(self, files: RunDirectory, on_event: Listener) -> list[Epoch]:
        """Fit the head. Features that an earlier attempt has computed are read. Returns the history."""
        features = self._features(files, on_event)
        history: list[Epoch] = []
        best: tuple[float, Tensor, Tensor] | None = None
        mean, std = features.train.mean(0), features.train.std(0) + 1e-3
        standard = ((features.train - mean) / std, (features.validation - mean) / std)
        for number, penalty in enumerate(PENALTIES, start=1):
            begun, cpu_begun = perf_counter(), process_time()
            weight, bias = _fit(standard[0], features.train_labels, self.classes, penalty, self.config.seed)
            scores = [
                _scores(part, weight, bias, labels)
                for part, labels in zip(
                    standard, (features.train_labels, features.validation_labels), strict=True
                )
            ]
            if best is None or scores[1][0] < best[0]:
                # for features as they come, not standardised
                plain = weight / torch.from_numpy(std).double()
                best = (scores[1][0], plain, bias - plain @ torch.from_numpy(mean).double())
            epoch = Epoch(
                epoch=number,
                epochs=len(PENALTIES),
                train_loss=scores[0][0],
                train_accuracy=scores[0][1],
                split="validation",
                loss=scores[1][0],
                accuracy=scores[1][1],
                lr=penalty,
                seconds=perf_counter() - begun,
                cpu_seconds=process_time() - cpu_begun,
            )
            history.append(epoch)
            on_event(epoch)
        assert best is not None
        self.model.fc.weight.data.copy_(best[1].float())
        self.model.fc.bias.data.copy_(best[2].float())
        chosen = min(history, key=lambda epoch: epoch.loss)
        self.notes.append(
            f"of {len(PENALTIES)} penalties of the head, C = {chosen.lr:g} has the best validation loss"
        )
        on_event(Note(self.notes[-1]))
        return history

    # -- features ----------------------------------------------------------------------------------

    def _features(self, files: RunDirectory, on_event: Listener) -> Features:
        """Row by row: the pictures as they are, validation pictures, both mirrored, then changed copies."""
        count, held_out = len(self.train), len(self.validation)
        views = max(1, min(VIEWS, PASSES // count))
        plain = 2 * (count + held_out)  # with the mirrored ones, which also tell whether mirroring is allowed
        total = plain + max(0, views - 2) * count
        store = _Store(files, total)
        work = _Progress(on_event, total, store.done)
        for start, rows in self._rows(count, held_out, store.done):
            store.write(start, self._of(rows, False))
            work.report(start + len(rows))
        self._mirrored(store, count, held_out, work)
        labels = self.train.labels.numpy()
        mirror = self._mirror_is_allowed(store, count, held_out, labels)
        self.notes.append(
            "mirrored copies of the training pictures are "
            + (
                "used"
                if mirror
                else "not used: mirrored validation pictures are not recognised as well as others"
            )
        )
        on_event(Note(self.notes[-1]))
        for view in range(max(0, views - 2)):
            first = plain + view * count
            for start in range(0, count, BATCH):
                at = first + start
                if at >= store.done:
                    batch = self.train[start : start + BATCH].images
                    draws = torch.Generator().manual_seed(self.config.seed + 7919 * view + start)
                    changed = augment_pictures(batch.float(), draws, (mirror, False), hide=0.0)
                    store.write(at, self._forward(changed))
                    work.report(at + len(batch))
        kept = [store.rows[:count]]
        if mirror:
            kept.append(store.rows[count + held_out : 2 * count + held_out])
        kept += [
            store.rows[plain + view * count : plain + (view + 1) * count] for view in range(max(0, views - 2))
        ]
        return Features(
            np.concatenate(kept).astype(np.float32),
            np.tile(labels, len(kept)),
            store.rows[count : count + held_out].astype(np.float32),
            self.validation.labels.numpy(),
        )

    def _rows(self, count: int, held_out: int, done: int) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, count + held_out, BATCH):
            end = min(start + BATCH, count + held_out)
            if start >= done:
                yield start, torch.arange(start, end)

    def _mirrored(self, store: "_Store", count: int, held_out: int, work: "_Progress") -> None:
        offset = count + held_out
        for start, rows in self._rows(count, held_out, store.done - offset):
            store.write(offset + start, self._of(rows, True))
            work.report(offset + start + len(rows))

    def _of(self, rows: Tensor, mirrored: bool) -> Tensor:
        """Features of rows of the training pictures followed by the validation pictures."""
        count = len(self.train)
        parts = [self.train[rows[rows < count]].images, self.validation[rows[rows >= count] - count].images]
        images = torch.cat([part for part in parts if len(part)])
        return self._forward(images.flip(3) if mirrored else images)

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> Tensor:
        x = normalise(images.to(self.device), self.mean, self.std)
        features: Tensor = self._backbone(x.contiguous(memory_format=torch.channels_last))
        return features.cpu()

    def _mirror_is_allowed(self, store: "_Store", count: int, held_out: int, labels: NDArray[np.int64]) -> bool:
        """Whether a head that has seen no mirrored picture recognises mirrored validation pictures as well."""
        train = store.rows[:count].astype(np.float32)
        mean, std = train.mean(0), train.std(0) + 1e-3
        weight, bias = _fit((train - mean) / std, labels, self.classes, PENALTIES[2], self.config.seed)
        accuracies = [
            _scores(
                (store.rows[first : first + held_out].astype(np.float32) - mean) / std,
                weight,
                bias,
                self.validation.labels.numpy(),
            )[1]
            for first in (count, 2 * count + held_out)
        ]
        slack = max(MIRROR_SLACK, 2 * (accuracies[0] * (1 - accuracies[0]) / held_out) ** 0.5)
        return accuracies[1] >= accuracies[0] - slack


class _Store:
    """`features.npy` of a run, float16 [rows, 1280], and how many rows of it are there."""

    def __init__(self, files: RunDirectory, total: int) -> None:
        self._count = files.features.with_suffix(".json")
        self.done = self._read(files, total)
        if self.done == 0:
            np.lib.format.open_memmap(files.features, "w+", np.float16, (total, FEATURES))
        self.rows: np.memmap[Any, Any] = np.load(files.features, mmap_mode="r+")

    def _read(self, files: RunDirectory, total: int) -> int:
        try:
            found = json.loads(self._count.read_bytes())
            shape = np.load(files.features, mmap_mode="r", allow_pickle=False).shape
            return int(found["done"]) if shape == (total, FEATURES) else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def write(self, start: int, features: Tensor) -> None:
        end = start + len(features)
        self.rows[start:end] = features.half().numpy()
        self.rows.flush()
        write_atomically(self._count, json.dumps({"done": end}).encode())
        self.done = end


class _Progress:
    """Steps of the first epoch, by pictures."""

    def __init__(self, on_event: Listener, total: int, done: int) -> None:
        self._on_event, self._total, self._first = on_event, total, done
        self._begun = perf_counter()

    def report(self, done: int) -> None:
        rate = (done - self._first) / max(perf_counter() - self._begun, 1e-9)
        steps = -(-self._total // BATCH)
        left = (self._total - done) / max(rate, 1e-9)
        self._on_event(Step(1, len(PENALTIES), min(done // BATCH, steps), steps, 0.0, 0.0, rate, left))


def _fit(
    features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, penalty: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Weights [classes, 1280] and biases [classes], float64, of a multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression

    counts = np.bincount(labels, minlength=classes)
    present = counts[counts > 0]
    balanced = "balanced" if present.max() >= UNBALANCED * present.min() else None
    model = LogisticRegression(C=penalty, max_iter=300, class_weight=balanced, random_state=seed)
    model.fit(features, labels)
    weight, bias = torch.zeros(classes, features.shape[1]).double(), torch.full((classes,), -30.0).double()
    found = torch.from_numpy(model.classes_)
    if len(found) == 2:  # one row, of the second class
        weight[found[1]] = torch.from_numpy(model.coef_[0]).double()
        bias[found] = torch.tensor([0.0, float(model.intercept_[0])]).double()
    else:
        weight[found] = torch.from_numpy(model.coef_).double()
        bias[found] = torch.from_numpy(model.intercept_).double()
    return weight, bias


def _scores(
    features: NDArray[np.float32], weight: Tensor, bias: Tensor, labels: NDArray[np.int64]
) -> tuple[float, float]:
    """Cross-entropy and accuracy."""
    logits = torch.from_numpy(features).double() @ weight.T + bias
    truth = torch.from_numpy(labels)
    return F.cross_entropy(logits, truth).item(), (logits.argmax(1) == truth).double().mean().item()
