"""The recipe `linear-regression`: a line through synthetic points, by hand, and its run directory.

It is no classifier, so nothing of it can be served: no classes, no test set, no accuracy.

config.json     what was asked for            linear-regression.pth    w [d] and b []
metrics.jsonl   a line per epoch              linear-regression.json   its card: what was found, how far off
resume.pt       the state after the last      curves.png               loss over the epochs
                complete epoch
"""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from models.files import write_atomically
from training import plots
from training.errors import TrainingError
from training.scratch import linear_regression, minibatches, sgd, synthetic_line

RECIPE = "linear-regression"
SUMMARY = "a line through 1,000 synthetic points, by hand; reference: w, b recovered to within 0.01"


class Config(BaseModel):
    """All that decides the outcome of one run. Written to `config.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Literal["linear-regression"] = "linear-regression"
    w: tuple[float, ...] = Field(default=(2.0, -1.2), min_length=1, description="weights to be recovered")
    b: float = Field(default=3.1, description="bias to be recovered")
    noise: float = Field(default=0.01, ge=0, description="standard deviation of what is added to the targets")
    rows: int = Field(default=1000, ge=1, le=1_000_000)
    epochs: int = Field(default=3, ge=1, le=1000)
    batch_size: int = Field(default=10, ge=1, le=60_000)
    lr: float = Field(default=0.03, gt=0, le=100, description="learning rate")
    seed: int = Field(default=0, ge=0, lt=2**32)


class LineEpoch(BaseModel):
    """An epoch's end; `loss` is its mean squared error / 2 while it was learning."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    epochs: int
    train_loss: float
    w: tuple[float, ...]
    b: float
    seconds: float
    cpu_seconds: float


class LineCard(BaseModel):
    """What was found, beside the weights."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    training: Config
    w: tuple[float, ...]
    b: float
    error: float = Field(description="largest distance of a weight or the bias from the truth")
    loss: float = Field(description="mean squared error / 2 over all rows, with the final weights")
    torch: str
    sha256: str = Field(description="digest of the weights file")


def create(directory: Path, config: Config) -> None:
    """Make the run directory. Raises TrainingError where it holds a run already."""
    if (directory / "config.json").exists():
        raise TrainingError(f"{directory} holds a run already: go on with it by --resume {directory}")
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "config.json", config.model_dump_json(indent=2))


def is_regression(directory: Path) -> bool:
    """Whether the run in this directory is one of this recipe."""
    try:
        return json.loads((directory / "config.json").read_bytes()).get("recipe") == RECIPE
    except (OSError, ValueError):
        return False


def train(directory: Path, tell: Callable[[LineEpoch], None]) -> LineCard:
    """Train to the end, from the last complete epoch where there is one; returns the card.

    An exception (Ctrl-C too) leaves the last complete epoch behind.
    """
    card_path = directory / f"{RECIPE}.json"
    if card_path.exists():
        return LineCard.model_validate_json(card_path.read_bytes())
    config = _read_config(directory)
    generator = torch.Generator().manual_seed(config.seed)
    truth = torch.tensor(config.w)
    x, y = synthetic_line(truth, config.b, config.rows, config.noise, generator)
    weights = {"w": 0.01 * torch.randn(len(truth), generator=generator), "b": torch.zeros(())}
    history = _resume(directory, weights, generator)
    for _ in range(len(history), config.epochs):
        history.append(_run_epoch(config, len(history) + 1, weights, x, y, generator))
        _save(directory, history, weights, generator)
        tell(history[-1])
    plots.draw_line_loss([epoch.train_loss for epoch in history], directory / "curves.png")
    return _finish(directory, config, weights, linear_regression(weights, x, y)[0])


def _run_epoch(
    config: Config, number: int, weights: dict[str, Tensor], x: Tensor, y: Tensor, generator: torch.Generator
) -> LineEpoch:
    begun, cpu_begun = perf_counter(), process_time()
    total = torch.zeros(())
    for features, targets in minibatches(x, y, config.batch_size, generator):
        loss, _, gradients = linear_regression(weights, features, targets)
        sgd(weights.values(), (gradients[name] for name in weights), config.lr)
        total += loss * len(targets)
    return LineEpoch(
        epoch=number,
        epochs=config.epochs,
        train_loss=total.item() / len(x),
        w=tuple(weights["w"].tolist()),
        b=weights["b"].item(),
        seconds=perf_counter() - begun,
        cpu_seconds=process_time() - cpu_begun,
    )


def _save(
    directory: Path, history: list[LineEpoch], weights: dict[str, Tensor], generator: torch.Generator
) -> None:
    _write(directory / "metrics.jsonl", "\n".join(epoch.model_dump_json() for epoch in history))
    state = {"epoch": len(history), "weights": weights, "generator": generator.get_state()}
    write_atomically(directory / "resume.pt", _to_bytes(state))


def _resume(directory: Path, weights: dict[str, Tensor], generator: torch.Generator) -> list[LineEpoch]:
    """The complete epochs; puts weights and random state back to where the last one ended."""
    if not (directory / "resume.pt").exists():
        return []
    state = torch.load(directory / "resume.pt", weights_only=True)
    weights.update(state["weights"])
    generator.set_state(state["generator"])
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [LineEpoch.model_validate_json(line) for line in lines[: state["epoch"]]]


def _finish(directory: Path, config: Config, weights: dict[str, Tensor], loss: Tensor) -> LineCard:
    data = _to_bytes(weights)
    errors = [(weights["w"] - torch.tensor(config.w)).abs().max(), (weights["b"] - config.b).abs()]
    card = LineCard(
        recipe=RECIPE,
        training=config,
        w=tuple(weights["w"].tolist()),
        b=weights["b"].item(),
        error=max(error.item() for error in errors),
        loss=loss.item(),
        torch=torch.__version__,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    write_atomically(directory / f"{RECIPE}.pth", data)
    _write(directory / f"{RECIPE}.json", card.model_dump_json(indent=2))
    return card


def _read_config(directory: Path) -> Config:
    path = directory / "config.json"
    try:
        return Config.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TrainingError(f"{directory} holds no run: {path} cannot be read") from error
    except ValidationError as error:
        raise TrainingError(f"{path} is no config of this version: {error}") from error


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode() + b"\n")


def _to_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
