"""The events of a run: frozen values, passed to its listener."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """Progress within an epoch, a few times a second. `loss` and `accuracy` are those of this epoch so far."""

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
    """The end of an epoch. `split` says what `loss` and `accuracy` were measured on: validation, or test where
    nothing is held out.
    """

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


@dataclass(frozen=True)
class TrialStep(Step):
    """Of trial number `trial` of `trials`; epochs are counted over all of them."""

    trial: int = 0
    trials: int = 0


@dataclass(frozen=True)
class TrialEpoch(Epoch):
    """As TrialStep."""

    trial: int = 0
    trials: int = 0


@dataclass(frozen=True)
class Note:
    """Something that the run has decided, and why; `trial` is what one of a search came to."""

    text: str
    trial: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Resumed:
    """The run goes on after these epochs, which were saved; of the last, nobody may have heard."""

    epochs: tuple[Epoch, ...]


Event = Step | Epoch | Note | Resumed
Listener = Callable[[Event], None]
