"""The last layers of a pretrained network, fine-tuned from a head that was fitted to its features.

They are trained on the maps that go into them, computed once; a pass costs a tenth of one through the whole
network. What ImageNet's photographs had of a batch's mean and spread stays as it is.

Source: Yosinski, Clune, Bengio and Lipson, "How transferable are features in deep neural networks?"
(arXiv:1411.1792): the last layers are the most specific to what they were trained on.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from models.efficientnet import EfficientNetLite0
from models.files import write_atomically
from training.calibration import fit_temperature
from training.directory import RunDirectory
from training.loop import UNBALANCED

BATCH = 64
LR = 1e-3  # chosen on validation pictures of 40 hands a class: 3e-4 learns less in as many epochs
LABEL_SMOOTHING = 0.1
EPOCHS = 8
PASSES = 32_000  # of maps: fewer epochs on many of them; 2 to 4 ms each
MOST_BYTES = 512 * 1024**2  # of maps


@dataclass(frozen=True)
class Maps:
    """Maps, float16 [rows, 192, H, W], and labels, of training pictures with their copies, and of validation
    pictures."""

    rows: Any  # a memory map
    train: NDArray[np.int64]  # which rows
    train_labels: Tensor
    validation: NDArray[np.int64]
    validation_labels: Tensor


@dataclass(frozen=True)
class Tuned:
    """One epoch's result; losses of training are smoothed, those of validation at the best temperature."""

    train_loss: float
    train_accuracy: float
    loss: float
    accuracy: float
    lr: float
    seconds: float
    cpu_seconds: float


def epochs_for(rows: int) -> int:
    return max(2, min(EPOCHS, PASSES // rows))


def tune(
    model: EfficientNetLite0, maps: Maps, seed: int, files: RunDirectory, on_epoch: Callable[[Tuned], None]
) -> bool:
    """Train the last block, the head and the classes; keep what validation prefers. Returns whether it did.

    What an earlier attempt has found is read: `last-blocks.pt` of the run. Without it all begins anew, and ends
    with the same weights (on a CPU).
    """
    layers = torch.nn.ModuleList([model.blocks[-1], model.head, model.fc])
    found = read(files)
    if found is None:
        found = _train(model, layers, maps, seed)
        stream = io.BytesIO()
        torch.save(found, stream)
        write_atomically(files.last_blocks, stream.getvalue())
    for epoch in found["epochs"]:
        on_epoch(Tuned(**epoch))
    layers.load_state_dict(found["state"])
    layers.requires_grad_(False)
    return bool(found["better"])


def read(files: RunDirectory) -> dict[str, Any] | None:
    """What an earlier attempt has found; None where there is nothing, or it is damaged."""
    try:
        found: dict[str, Any] = torch.load(files.last_blocks, map_location="cpu", weights_only=True)
        return found if {"epochs", "state", "better"} <= found.keys() else None
    except Exception:  # not there, or torn: it is made again
        return None


def _train(model: EfficientNetLite0, layers: torch.nn.ModuleList, maps: Maps, seed: int) -> dict[str, Any]:
    device = next(layers.parameters()).device
    loss, accuracy = _validation(model, maps, device)
    best, before = (accuracy, -loss), (accuracy, -loss)
    state = _copy(layers)
    layers.requires_grad_(True)
    optimizer = torch.optim.AdamW(layers.parameters(), LR, weight_decay=0)
    epochs, batches = epochs_for(len(maps.train)), -(-len(maps.train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=epochs * batches, pct_start=0.2)
    weight = _class_weights(maps.train_labels, model.fc.out_features)
    shuffle = torch.Generator().manual_seed(seed)
    history: list[dict[str, float]] = []
    for _ in range(epochs):
        begun, cpu_begun, lr = perf_counter(), process_time(), float(schedule.get_last_lr()[0])
        losses, right = 0.0, 0
        for rows in torch.split(torch.randperm(len(maps.train), generator=shuffle), BATCH):
            labels = maps.train_labels[rows].to(device)
            batch = _batch(maps, maps.train[rows.numpy()], device)
            logits = model.fc(model.pooled(batch))
            step = F.cross_entropy(logits, labels, weight, label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            step.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses += step.item() * len(rows)
            right += int((logits.argmax(1) == labels).sum())
        loss, accuracy = _validation(model, maps, device)
        if (accuracy, -loss) > best:
            best, state = (accuracy, -loss), _copy(layers)
        history.append(
            {
                "train_loss": losses / len(maps.train),
                "train_accuracy": right / len(maps.train),
                "loss": loss,
                "accuracy": accuracy,
                "lr": lr,
                "seconds": perf_counter() - begun,
                "cpu_seconds": process_time() - cpu_begun,
            }
        )
    return {"epochs": history, "state": state, "better": best > before}


@torch.inference_mode()
def _validation(model: EfficientNetLite0, maps: Maps, device: torch.device) -> tuple[float, float]:
    """Cross-entropy at the best temperature, and accuracy."""
    parts = [
        model.fc(model.pooled(_batch(maps, maps.validation[start : start + BATCH], device))).cpu()
        for start in range(0, len(maps.validation), BATCH)
    ]
    logits, labels = torch.cat(parts).double(), maps.validation_labels
    loss = F.cross_entropy(logits / fit_temperature(logits, labels), labels).item()
    return loss, (logits.argmax(1) == labels).double().mean().item()


def _batch(maps: Maps, rows: NDArray[np.int64], device: torch.device) -> Tensor:
    found = torch.from_numpy(np.asarray(maps.rows[rows], np.float32))
    return found.to(device).contiguous(memory_format=torch.channels_last)


def _class_weights(labels: Tensor, classes: int) -> Tensor | None:
    """As scikit-learn's "balanced", where one class has many times the pictures of another."""
    counts = torch.bincount(labels, minlength=classes).double()
    present = counts[counts > 0]
    if present.max() < UNBALANCED * present.min():
        return None
    return (len(labels) / (len(present) * counts.clamp(min=1))).float()


def _copy(layers: torch.nn.ModuleList) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in layers.state_dict().items()}
