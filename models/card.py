"""The facts that travel with a weights file: `<name>.json` beside `<name>.pth`. Imports no torch."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from models.errors import CheckpointError, first_problem
from models.tables import TableInput

Shape = tuple[int, int, int]  # channels, height, width
Polarity = Literal["light-on-dark", "dark-on-light"]
Preprocessing = Literal["digit", "size", "picture"]
Resize = Literal["stretch", "pad"]
MAX_SIDE = 512  # pixels of an input
_FLAT = ("input_shape", "mean", "std", "polarity", "preprocessing")  # of cards of version 1


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Input(_Facts):
    """What a model takes, and how a picture becomes that."""

    channels: Literal[1, 3] = Field(description="1: grey, 3: red, green, blue")
    height: int = Field(ge=1, le=MAX_SIDE)
    width: int = Field(ge=1, le=MAX_SIDE)
    mean: tuple[float, ...] = Field(description="of each channel: subtracted from pixels scaled to 0..1")
    std: tuple[float, ...] = Field(description="of each channel: divides the difference")
    preprocessing: Preprocessing = Field(
        default="size",
        description="what is done to pictures of other sizes: `digit` finds the digit, scales and centres it "
        "as in MNIST; `size` changes only size and polarity; `picture` turns (EXIF) and resizes all of it",
    )
    resize: Resize = Field(
        default="stretch",
        description="of `picture`: `stretch` to the size, or `pad` with the colour of the border, aspect kept",
    )
    polarity: Polarity | None = Field(
        default=None, description="whether ink is lighter or darker than its ground; null for `picture`"
    )

    @model_validator(mode="after")
    def _belong_together(self) -> "Input":
        if not len(self.mean) == len(self.std) == self.channels or min(self.std, default=0) <= 0:
            raise ValueError("mean and std need one value per channel, and std a positive one")
        if (self.polarity is None) != (self.preprocessing == "picture"):
            raise ValueError("a polarity goes with the preprocessing digit or size, and with no other")
        if self.channels != 1 and self.preprocessing != "picture":
            raise ValueError("colour goes with the preprocessing picture")
        return self

    @property
    def shape(self) -> Shape:
        return (self.channels, self.height, self.width)

    @property
    def ground(self) -> int:
        """Grey value (0..255) of what is not ink; white where there is no ink, as transparency shows."""
        return 0 if self.polarity == "light-on-dark" else 255


def _kind(fields: Any) -> str:
    """Cards of pictures name no kind."""
    named = fields.get("kind") if isinstance(fields, dict) else getattr(fields, "kind", None)
    return "picture" if named is None else "table"


AnyInput = Annotated[
    Annotated[Input, Tag("picture")] | Annotated[TableInput, Tag("table")], Discriminator(_kind)
]


class DatasetFacts(_Facts):
    """The data that a model was trained on."""

    name: str
    digest: str = Field(description="sha256 over the images and labels of both splits")


class Scores(_Facts):
    """How well probabilities match frequencies; for all three, less is better."""

    nll: float = Field(description="negative log-likelihood, nats per image")
    brier: float = Field(description="Brier score, summed over classes: 0..2")
    ece: float = Field(description="expected calibration error, 15 bins: 0..1")


class Answered(_Facts):
    """What a model answered on a split, to compare with what it answers where it serves."""

    labels: dict[str, int] = Field(description="how many images were taken for each class")
    confidence: tuple[int, ...] = Field(
        description="how many by the probability of the answer: below 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, "
        "0.99, 0.995, 0.999, and above"
    )


class Metrics(_Facts):
    """A model's results on one split."""

    images: int
    loss: float = Field(description="mean cross-entropy of the bare logits, nats per image")
    accuracy: float = Field(description="0..1")
    per_class: dict[str, float] = Field(description="accuracy of each class, 0..1")
    interval: tuple[float, float] | None = Field(default=None, description="of the accuracy, 95 % (Wilson)")
    balanced_accuracy: float | None = Field(default=None, description="mean of the accuracies of the classes")
    macro_f1: float | None = Field(default=None, description="mean of the F1 of the classes")
    auc: float | None = Field(
        default=None, description="area under the ROC curve, of each class against the rest, on average"
    )
    uncalibrated: Scores | None = Field(default=None, description="at temperature 1")
    calibrated: Scores | None = Field(
        default=None, description="at the card's temperature; null where none was fitted"
    )
    answered: Answered | None = Field(
        default=None, description="null on cards from before this was counted: see `GET /models/{name}/drift`"
    )


class Baseline(_Facts):
    """What is reached on the test split without a network."""

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    auc: float | None
    nll: float = Field(description="negative log-likelihood, nats per image")
    validation_nll: float | None = Field(
        default=None, description="of tables: on the validation split, learned without it"
    )
    seconds: float | None = Field(default=None, description="of tables: CPU time to learn it and to answer")


class Corrections(_Facts):
    """The effect of people's corrections: pictures that joined the training images."""

    used: int
    right_before: int | None = Field(description="by the version that served before; null where there was none")
    right_after: int = Field(description="by this version")
    test_accuracy_before: float | None = Field(
        default=None,
        description="of the version before on the sample that was kept of a data set which is gone, as this "
        "version's is",
    )


class Trial(_Facts):
    """One combination of settings of a search."""

    number: int
    settings: dict[str, Any] = Field(description="what it differs in from the others")
    loss: float | None = Field(
        default=None, description="log loss of its probabilities on validation inputs; null where it failed"
    )
    accuracy: float | None = Field(default=None, description="on validation inputs, 0..1")
    epochs: int = 0
    cpu_seconds: float = 0.0
    error: str | None = Field(default=None, description="why it failed")

    @property
    def rank(self) -> tuple[float, int]:
        """Smaller is better; those that have failed come last."""
        return (math.inf if self.loss is None else self.loss, self.number)


class Search(_Facts):
    """The trials of a search, and which of them became the model: the one with the least loss."""

    chosen: int
    trials: tuple[Trial, ...]


class Novelty(_Facts):
    """How unusual a picture is among those that were held out.

    `background`: by the score of the network's background (`models.background`). `confidence`: by 1 - the
    largest probability (Hendrycks and Gimpel, arXiv:1610.02136).
    """

    method: Literal["background", "confidence"]
    pictures: int = Field(ge=1, description="held out, that the scores were taken from")
    scores: tuple[float, ...] = Field(
        min_length=2, description="of the held-out pictures, ascending, at evenly spaced shares from 0 to 1"
    )
    threshold: float = Field(ge=0, le=1, description="novelty above which a picture counts as unfamiliar")

    @model_validator(mode="after")
    def _ascends(self) -> "Novelty":
        if list(self.scores) != sorted(self.scores):
            raise ValueError("the scores of held-out pictures should ascend")
        return self

    def of(self, score: float) -> float:
        """The share of held-out pictures that are less unusual, 0..1."""
        above = bisect_right(self.scores, score)
        if above in (0, len(self.scores)):
            return float(above > 0)
        low, high = self.scores[above - 1], self.scores[above]
        return (above - 1 + (score - low) / (high - low)) / (len(self.scores) - 1)

    def of_answer(self, row: Sequence[float], index: int) -> float:
        """The same of a model's answer: probabilities, the largest at `index`; of a background its logit."""
        return self.of(row[-1] if self.method == "background" else 1 - row[index])


class Card(_Facts):
    """Everything needed to build, load, use and judge a model."""

    name: str
    architecture: str = Field(description="name in the registry of architectures")
    arguments: dict[str, Any] = Field(default={}, description="keyword arguments of the architecture")
    input: AnyInput
    classes: tuple[str, ...] = Field(description="labels in the order of the logits")
    temperature: float = Field(
        default=1.0, gt=0, description="divides the logits before softmax; 1 where none was fitted"
    )
    novelty: Novelty | None = Field(
        default=None,
        exclude_if=lambda novelty: novelty is None,
        description="of models of pictures, measured on validation pictures; left out where there were none",
    )
    training: dict[str, Any] | None = Field(default=None, description="config of the run, seed included")
    dataset: DatasetFacts | None = None
    metrics: dict[Literal["validation", "test"], Metrics] = {}
    baselines: dict[Literal["majority", "logistic-regression", "gradient-boosting"], Baseline] = Field(
        default={},
        description="of data sets of one's own: always the largest class; logistic regression on pixels; "
        "of tables, on columns, and gradient boosting",
    )
    notes: tuple[str, ...] = Field(default=(), description="what the run decided by the data set, and why")
    corrections: Corrections | None = Field(default=None, description="null where it was trained without any")
    search: Search | None = Field(default=None, description="null where no settings were searched")
    cpu_seconds: float | None = Field(default=None, description="CPU time of all training epochs together")
    parameters: int = Field(default=0, description="number of trained parameters")
    torch: str = Field(default="", description="version of PyTorch that trained it")
    created: datetime | None = None
    sha256: str = Field(default="", description="digest of the weights file")

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, fields: Any) -> Any:
        """Cards written before there was an `input` had its parts beside each other, for one channel."""
        if not isinstance(fields, dict) or "input" in fields or "input_shape" not in fields:
            return fields
        kept = {name: value for name, value in fields.items() if name not in _FLAT}
        old = {name: fields[name] for name in _FLAT if name in fields}
        try:
            channels, height, width = old.pop("input_shape")
            normalised = {name: (old.pop(name),) for name in ("mean", "std")}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("a card without `input` needs input_shape, mean and std") from error
        return {**kept, "input": {"channels": channels, "height": height, "width": width, **normalised, **old}}

    @property
    def input_shape(self) -> Shape:
        """Channels, height, width. Raises CheckpointError for a model of a table."""
        return self.picture.shape

    @property
    def picture(self) -> Input:
        """The input of a model of pictures. Raises CheckpointError for a model of a table."""
        if not isinstance(self.input, Input):
            raise CheckpointError(f"{self.name} takes the rows of a table, not pictures")
        return self.input

    @property
    def table(self) -> TableInput:
        """The input of a model of a table. Raises CheckpointError for a model of pictures."""
        if not isinstance(self.input, TableInput):
            raise CheckpointError(f"{self.name} takes pictures, not the rows of a table")
        return self.input


def read_card(path: Path) -> Card:
    """The card at `path`. Raises CheckpointError, naming the file and the first thing that is wrong with it."""
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise CheckpointError(f"{path}: not a model card of this version: {first_problem(error)}") from error
