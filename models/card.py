"""The facts that travel with a weights file: `<name>.json` beside `<name>.pth`. Imports no torch."""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import CheckpointError, first_problem

Shape = tuple[int, int, int]  # channels, height, width
Polarity = Literal["light-on-dark", "dark-on-light"]
Preprocessing = Literal["digit", "size"]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DatasetFacts(_Facts):
    """The data that a model was trained on."""

    name: str
    digest: str = Field(description="sha256 over the images and labels of both splits")


class Scores(_Facts):
    """How well probabilities match frequencies; for all three, less is better."""

    nll: float = Field(description="negative log-likelihood, nats per image")
    brier: float = Field(description="Brier score, summed over classes: 0..2")
    ece: float = Field(description="expected calibration error, 15 bins: 0..1")


class Metrics(_Facts):
    """A model's results on one split."""

    images: int
    loss: float = Field(description="mean cross-entropy of the bare logits, nats per image")
    accuracy: float = Field(description="0..1")
    per_class: dict[str, float] = Field(description="accuracy of each class, 0..1")
    uncalibrated: Scores | None = Field(default=None, description="at temperature 1")
    calibrated: Scores | None = Field(
        default=None, description="at the card's temperature; null where none was fitted"
    )


class Corrections(_Facts):
    """The effect of people's corrections: pictures that joined the training images."""

    used: int
    right_before: int | None = Field(description="by the version that served before; null where there was none")
    right_after: int = Field(description="by this version")


class Card(_Facts):
    """Everything needed to build, load, use and judge a model."""

    name: str
    architecture: str = Field(description="name in the registry of architectures")
    arguments: dict[str, Any] = Field(default={}, description="keyword arguments of the architecture")
    input_shape: Shape = Field(description="channels, height, width")
    mean: float = Field(description="subtracted from pixels scaled to 0..1")
    std: float = Field(description="divides the difference", gt=0)
    polarity: Polarity = Field(description="whether the ink is lighter or darker than the ground")
    preprocessing: Preprocessing = Field(
        default="size",
        description="what is done to pictures of other sizes: `digit` finds the digit, scales and centres it "
        "as in MNIST; `size` changes only size and polarity",
    )
    classes: tuple[str, ...] = Field(description="labels in the order of the logits")
    temperature: float = Field(
        default=1.0, gt=0, description="divides the logits before softmax; 1 where none was fitted"
    )
    training: dict[str, Any] | None = Field(default=None, description="config of the run, seed included")
    dataset: DatasetFacts | None = None
    metrics: dict[Literal["validation", "test"], Metrics] = {}
    corrections: Corrections | None = Field(default=None, description="null where it was trained without any")
    cpu_seconds: float | None = Field(default=None, description="CPU time of all training epochs together")
    parameters: int = Field(default=0, description="number of trained parameters")
    torch: str = Field(default="", description="version of PyTorch that trained it")
    created: datetime | None = None
    sha256: str = Field(default="", description="digest of the weights file")

    @property
    def ground(self) -> int:
        """Grey value (0..255) of what is not ink."""
        return 0 if self.polarity == "light-on-dark" else 255


def read_card(path: Path) -> Card:
    """The card at `path`. Raises CheckpointError, naming the file and the first thing that is wrong with it."""
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise CheckpointError(f"{path}: not a model card of this version: {first_problem(error)}") from error
