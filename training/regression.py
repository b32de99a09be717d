"""The recipe `linear-regression`: a line through synthetic points, by hand, and its run directory.

The model is not a classifier and cannot be served: no classes, no test set, no accuracy. The files are those of
`training.directory`: linear-regression.pth holds w [d] and b [], its card what was found and how far off it is,
curves.png the loss over the epochs.
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

from models.errors import first_problem
from models.files import write_atomically
from training import plots
from training.directory import RunDirectory
from training.errors import Diverged, TrainingError
from training.scratch import linear_regression, minibatches, sgd, synthetic_line

RECIPE = "linear-regression"
SUMMARY = "a line through 1,000 synthetic points, by hand; reference: w, b recovered to within 0.01"


class Config(BaseModel):
    """All that decides the outcome of one run. Written to `config.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
    """The end of an epoch; `train_loss` is half the mean squared error during it."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    epochs: int
    train_loss: float
    w: tuple[float, ...]
    b: float
    seconds: float
    cpu_seconds: float


class LineCard(BaseModel):
    """The card of the weights: what was found, and how far off it is."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    training: Config
    w: tuple[float, ...]
    b: float
    error: float = Field(description="largest distance of a weight or the bias from the truth")
    loss: float = Field(description="half the mean squared error over all rows, with the final weights")
    torch: str
    sha256: str = Field(description="digest of the weights file")


def create(directory: Path, config: Config) -> None:
    """Make the run directory. Raises TrainingError where it holds a run already."""
    if RunDirectory(directory).config.exists():
        raise TrainingError(f"{directory} holds a run already: continue it with --resume {directory}")
    directory.mkdir(parents=True, exist_ok=True)
    _write(RunDirectory(directory).config, config.model_dump_json(indent=2))


def is_regression(directory: Path) -> bool:
    """Whether the run in this directory is one of this recipe."""
    try:
        config = json.loads(RunDirectory(directory).config.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("recipe") == RECIPE


def train(directory: Path, on_epoch: Callable[[LineEpoch], None]) -> LineCard:
    """Train to the end, from the last complete epoch where there is one; returns the card.

    Raises Diverged. An exception (Ctrl-C too) leaves the last complete epoch behind.
    """
    files = RunDirectory(directory)
    card_path = files.card(RECIPE)
    if card_path.exists():
        return LineCard.model_validate_json(card_path.read_bytes())
    config = _read_config(files)
    generator = torch.Generator().manual_seed(config.seed)
    truth = torch.tensor(config.w)
    x, y = synthetic_line(truth, config.b, config.rows, config.noise, generator)
    weights = {"w": 0.01 * torch.randn(len(truth), generator=generator), "b": torch.zeros(())}
    history = _resume(files, weights, generator)
    for _ in range(len(history), config.epochs):
        history.append(_run_epoch(config, len(history) + 1, weights, x, y, generator))
        _save(files, history, weights, generator)
        on_epoch(history[-1])
    plots.draw_line_loss([epoch.train_loss for epoch in history], files.picture("curves"))
    return _finish(files, config, weights, linear_regression(weights, x, y)[0])


def _run_epoch(
    config: Config, number: int, weights: dict[str, Tensor], x: Tensor, y: Tensor, generator: torch.Generator
) -> LineEpoch:
    begun, cpu_begun = perf_counter(), process_time()
    total = torch.zeros(())
    batches = minibatches(x, y, config.batch_size, generator)
    for step, (features, targets) in enumerate(batches, start=1):
        loss, _, gradients = linear_regression(weights, features, targets)
        if not loss.isfinite():
            raise Diverged(f"the loss became {loss.item()} in step {step} of epoch {number}", config.lr)
        sgd(weights.values(), (gradients[name] for name in weights), config.lr)
        total += loss * len(targets)
    if not (torch.isfinite(total) and all(weight.isfinite().all() for weight in weights.values())):
        raise Diverged(f"the weights or the mean loss are not finite after epoch {number}", config.lr)
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
    files: RunDirectory, history: list[LineEpoch], weights: dict[str, Tensor], generator: torch.Generator
) -> None:
    _write(files.metrics, "\n".join(epoch.model_dump_json() for epoch in history))
    state = {"epoch": len(history), "weights": weights, "generator": generator.get_state()}
    write_atomically(files.resume, _to_bytes(state))


def _resume(files: RunDirectory, weights: dict[str, Tensor], generator: torch.Generator) -> list[LineEpoch]:
    """The complete epochs; sets weights and random state to where the last one ended."""
    if not files.resume.exists():
        return []
    try:
        state = torch.load(files.resume, weights_only=True)
        weights.update(state["weights"])
        generator.set_state(state["generator"])
        lines = files.metrics.read_text().splitlines()
        return [LineEpoch.model_validate_json(line) for line in lines[: state["epoch"]]]
    except Exception as error:  # torch raises whatever its zip reader or unpickler meets
        raise TrainingError(f"{files.resume} or {files.metrics} is damaged: start a new run") from error


def _finish(files: RunDirectory, config: Config, weights: dict[str, Tensor], loss: Tensor) -> LineCard:
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
    write_atomically(files.weights(RECIPE), data)
    _write(files.card(RECIPE), card.model_dump_json(indent=2))
    return card


def _read_config(files: RunDirectory) -> Config:
    try:
        return Config.model_validate_json(files.config.read_bytes())
    except OSError as error:
        raise TrainingError(f"{files.path} holds no run: {files.config} cannot be read") from error
    except ValidationError as error:
        raise TrainingError(
            f"{files.config} is not a config of this version: {first_problem(error)}"
        ) from error


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode() + b"\n")


def _to_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
