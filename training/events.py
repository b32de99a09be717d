"""What a run tells while it goes on: frozen values, given to whoever listens."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Somewhere inside an epoch; told a few times a second. `loss` and `accuracy` are of this epoch so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float
    eta_seconds: float


@dataclass(frozen=True)
class Epoch:
    """An epoch's end. `split` says what `accuracy` was measured on: validation, or test without one."""

    epoch: int
    epochs: int
    train_loss: float
    train_accuracy: float
    split: str
    loss: float
    accuracy: float
    lr: float
    seconds: float
    cpu_seconds: float = 0.0


Event = Step | Epoch
Listener = Callable[[Event], None]
