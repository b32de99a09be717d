"""Transfer: what EfficientNet-Lite0 has learned from a million photographs, and a head on it for other classes.

pictures, and changed copies -> features, once each, in `features.npy` of the run ->
logistic regressions with several penalties -> the one with the best validation loss ->
the last block goes on from there (`training.last_blocks`), and stays where validation gains

Source: Kornblith, Shlens and Le, "Do better ImageNet models transfer better?" (arXiv:1805.08974).
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
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
from training import last_blocks
from training.augment import augment_pictures
from training.choice import PENALTIES
from training.datasets import Split
from training.directory import RunDirectory
from training.events import Epoch, Listener, Note, Step
from training.last_blocks import MOST_BYTES, Maps, Tuned, epochs_for, tune
from training.loop import UNBALANCED, normalisation
from training.mirroring import MIRROR_SLACK
from training.recipes import Config

BATCH = 32
REMEMBERED = 500  # training pictures at most that tell what is unfamiliar: another pass each
VIEWS = 4  # of a training picture at most, itself included
PASSES = 4_000  # pictures through the backbone, as far as more views go; 25 to 40 ms each


@dataclass(frozen=True)
class Features:
    """Features [rows, 1280] and labels [rows]: of training pictures and copies, and of validation pictures.

    Which rows of the store those are is kept beside them.
    """

    store: "_Store"
    train_rows: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    validation_rows: NDArray[np.int64]
    validation_labels: NDArray[np.int64]

    @property
    def train(self) -> NDArray[np.float32]:
        return self.store.rows[self.train_rows].astype(np.float32)

    @property
    def validation(self) -> NDArray[np.float32]:
        return self.store.rows[self.validation_rows].astype(np.float32)


class Backbone(torch.nn.Module):
    """Pictures to the maps before the last block, and to features."""

    def __init__(self, model: EfficientNetLite0) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.model.maps(x)
        return maps, self.model.pooled(maps)


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
        self.arguments["background"] = True
        model = architectures.build(config.architecture, **self.arguments)
        assert isinstance(model, EfficientNetLite0)
        load_imagenet(model)
        self.model = model.to(device).eval().requires_grad_(False)
        self.mean, self.std = normalisation(config, channels)
        self._backbone = self._frozen(channels, height, width)
        self.notes: list[str] = []
        self.accuracy = 0.0  # on validation pictures, of what was kept
        self._tunes = False

    def _frozen(self, *shape: int) -> torch.nn.Module:
        """The backbone with its normalisations folded in: two thirds of the time on a CPU."""
        example = torch.zeros(2, *shape, device=self.device).contiguous(memory_format=torch.channels_last)
        return frozen(Backbone(self.model).eval(), example)

    def run(self, files: RunDirectory, on_event: Listener) -> list[Epoch]:
        """Fit the head. Features that an earlier attempt has computed are read. Returns the history."""
        features = self._features(files, on_event)
        history: list[Epoch] = []
        best: tuple[float, Tensor, Tensor] | None = None
        train, validation = features.train, features.validation
        epochs = len(PENALTIES) + (epochs_for(len(train)) if self._tunes else 0)
        mean, std = train.mean(0), train.std(0) + 1e-3
        standard = ((train - mean) / std, (validation - mean) / std)
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
                epochs=epochs,
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
        self.accuracy = chosen.accuracy
        self.notes.append(
            f"of {len(PENALTIES)} penalties of the head, C = {chosen.lr:g} has the best validation loss"
        )
        on_event(Note(self.notes[-1]))
        if self._tunes:
            self._tune(files, features, history, epochs, on_event)
        return history

    def _tune(
        self, files: RunDirectory, features: Features, history: list[Epoch], epochs: int, on_event: Listener
    ) -> None:
        """The last block, from the fitted head on; its epochs join the history."""
        first = len(history)
        maps = Maps(
            features.store.maps,
            features.train_rows,
            torch.from_numpy(features.train_labels),
            features.validation_rows,
            torch.from_numpy(features.validation_labels),
        )

        def add(tuned: Tuned) -> None:
            epoch = Epoch(epoch=len(history) + 1, epochs=epochs, split="validation", **asdict(tuned))
            history.append(epoch)
            on_event(epoch)

        better = tune(self.model, maps, self.config.seed, files, add)
        if better:
            self.accuracy = max(epoch.accuracy for epoch in history[first:])
        files.maps.unlink(missing_ok=True)  # large, and needed no more
        self.notes.append(
            "the last block was fine-tuned"
            if better
            else "the last block was left as it was: fine-tuning it did not gain on validation pictures"
        )
        on_event(Note(self.notes[-1]))

    # -- features ----------------------------------------------------------------------------------

    def _features(self, files: RunDirectory, on_event: Listener) -> Features:
        """Row by row: the pictures as they are, validation pictures, both mirrored, then changed copies."""
        count, held_out = len(self.train), len(self.validation)
        views = max(1, min(VIEWS, PASSES // count))
        plain = 2 * (count + held_out)  # with the mirrored ones, which also tell whether mirroring is allowed
        total = plain + max(0, views - 2) * count
        shape = self._maps_shape()
        self._tunes = total * 2 * math.prod(shape) <= MOST_BYTES
        store = _Store(files, total, shape if self._tunes and last_blocks.read(files) is None else None)
        work = _Progress(on_event, total, store.done)
        for start, rows in self._rows(count, held_out, store.done):
            store.write(start, *self._of(rows, False))
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
                    store.write(at, *self._forward(changed))
                    work.report(at + len(batch))
        firsts = [0, *([count + held_out] if mirror else []), *(plain + v * count for v in range(views - 2))]
        return Features(
            store,
            np.concatenate([np.arange(first, first + count) for first in firsts]),
            np.tile(labels, len(firsts)),
            np.arange(count, count + held_out),
            self.validation.labels.numpy(),
        )

    @torch.inference_mode()
    def _maps_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.train.images.shape
        blank = torch.zeros(1, channels, height, width, device=self.device)
        found = self.model.maps(blank.contiguous(memory_format=torch.channels_last)).shape
        return (found[1], found[2], found[3])

    def _rows(self, count: int, held_out: int, done: int) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, count + held_out, BATCH):
            end = min(start + BATCH, count + held_out)
            if start >= done:
                yield start, torch.arange(start, end)

    def _mirrored(self, store: "_Store", count: int, held_out: int, work: "_Progress") -> None:
        offset = count + held_out
        for start, rows in self._rows(count, held_out, store.done - offset):
            store.write(offset + start, *self._of(rows, True))
            work.report(offset + start + len(rows))

    def _of(self, rows: Tensor, mirrored: bool) -> tuple[Tensor, Tensor]:
        """Maps and features of rows of the training pictures followed by the validation pictures."""
        count = len(self.train)
        parts = [self.train[rows[rows < count]].images, self.validation[rows[rows >= count] - count].images]
        images = torch.cat([part for part in parts if len(part)])
        return self._forward(images.flip(3) if mirrored else images)

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = normalise(images.to(self.device), self.mean, self.std)
        maps, features = self._backbone(x.contiguous(memory_format=torch.channels_last))
        return maps.cpu(), features.cpu()

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
    """`features.npy` of a run, float16 [rows, 1280], and how many rows of it are there; with `shape` also
    `maps.npy`, float16 [rows, *shape]."""

    def __init__(self, files: RunDirectory, total: int, shape: tuple[int, int, int] | None) -> None:
        self._count = files.features.with_suffix(".json")
        self.done = self._read(files, total, shape)
        if self.done == 0:
            np.lib.format.open_memmap(files.features, "w+", np.float16, (total, FEATURES))
            if shape is not None:
                np.lib.format.open_memmap(files.maps, "w+", np.float16, (total, *shape))
        self.rows: np.memmap[Any, Any] = np.load(files.features, mmap_mode="r+")
        self.maps: np.memmap[Any, Any] | None = None if shape is None else np.load(files.maps, mmap_mode="r+")

    def _read(self, files: RunDirectory, total: int, shape: tuple[int, int, int] | None) -> int:
        try:
            found = json.loads(self._count.read_bytes())
            wanted: list[tuple[Path, tuple[int, ...]]] = [(files.features, (total, FEATURES))]
            wanted += [] if shape is None else [(files.maps, (total, *shape))]
            whole = all(np.load(path, mmap_mode="r", allow_pickle=False).shape == size for path, size in wanted)
            return int(found["done"]) if whole else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def write(self, start: int, maps: Tensor, features: Tensor) -> None:
        end = start + len(features)
        self.rows[start:end] = features.half().numpy()
        self.rows.flush()
        if self.maps is not None:
            self.maps[start:end] = maps.half().numpy()
            self.maps.flush()
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
