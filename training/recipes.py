"""The recipes by name, and the config of a run.

Plain data, without torch: the service checks requests against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from models.errors import first_problem

Loss = Literal["cross-entropy", "brier", "double-softmax"]
Optimizer = Literal["sgd", "adam", "adamw", "from-scratch"]
Schedule = Literal["constant", "cosine", "one-cycle"]
Augment = Literal["none", "slight", "light", "strong", "mixed", "garments", "pictures"]
Precision = Literal["float32", "bfloat16"]
FROM_SCRATCH = ("softmax-scratch", "mlp-scratch")  # architectures whose gradients are in training.scratch
MOST_TRIALS = 16  # of a search
OF_TABLES = (
    "epochs",
    "batch_size",
    "lr",
    "weight_decay",
    "label_smoothing",
)  # what the architecture table reads
SEARCHED = (
    *OF_TABLES, "optimizer", "schedule", "momentum", "loss", "augment", "ema_decay", "precision",
    "synthetic_images", "written_images", "unfamiliar_images",
)  # fmt: skip
DECIDES_ITSELF = ("auto", "efficientnet-lite0", "fine-tune")  # architectures that try settings of their own


class Resources(BaseModel):
    """What a job needs of the machine that it runs on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: int | None = Field(
        default=None, ge=1, le=256, description="CPUs, and threads that train; null: MINIST_TRAIN_THREADS"
    )
    memory_bytes: int = Field(default=0, ge=0, le=2**50, description="bytes of memory; it is no limit")
    gpus: int = Field(default=0, ge=0, le=1, description="1: a GPU of NVIDIA's")


class Config(BaseModel):
    """Everything that determines the outcome of a run (on one machine). Written to `config.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recipe: str
    name: str = Field(description="name of the trained model", pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    architecture: str
    dataset: str = Field(
        pattern=r"^(mnist|fashion-mnist|[a-z0-9][a-z0-9-]{0,63}@[1-9][0-9]{0,8})$",
        description="data set to train on: mnist, fashion-mnist, or NAME@n of your own",
    )
    mean: float | tuple[float, ...] | None = Field(
        default=None, description="subtracted from pixels scaled to 0..1; null: by the training images"
    )
    std: float | tuple[float, ...] | None = Field(
        default=None, description="divides the difference; null: by the training images"
    )
    loss: Loss = Field(
        default="cross-entropy",
        description="brier is the squared distance of the probabilities to the one-hot label; double-softmax "
        "passes probabilities to the cross-entropy, as one of the sources does",
    )
    optimizer: Optimizer = Field(
        default="sgd",
        description="from-scratch computes gradients and SGD by hand; only for the from-scratch recipes",
    )
    schedule: Schedule = Field(default="constant", description="of the learning rate, per step")
    epochs: int | None = Field(
        default=None, ge=1, le=1000, description="passes over the training images; null: by the data set"
    )
    batch_size: int | None = Field(
        default=None, ge=1, le=60_000, description="images per step; null: by the data set"
    )
    lr: float = Field(gt=0, le=100, description="learning rate (its peak, with a schedule)")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="L2 penalty (adamw: decoupled)")
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of each label that is spread over all classes; in the cross-entropy",
    )
    augment: Augment = Field(
        default="none", description="random changes to each training image, new in every epoch"
    )
    init_from: str | None = Field(
        default=None, description="weights file to start from, of the same architecture"
    )
    teacher: str | None = Field(
        default=None,
        description="weights file whose probabilities for the data set's own images are learned in place of "
        "labels; of the same architecture and classes",
    )
    teacher_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the teacher's weights in the result, where training started from descendants of "
        "these",
    )
    synthetic_images: int = Field(
        default=0, ge=0, le=60_000, description="simulated pictures of digits added to the training images"
    )
    written_images: int = Field(
        default=0,
        ge=0,
        le=120_000,
        description="digits written stroke by stroke, in many hands, added to the training images",
    )
    unfamiliar_images: int = Field(
        default=0,
        ge=0,
        le=120_000,
        description="pictures of what is no digit, which the model learns to tell from digits (novelty)",
    )
    background_epochs: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="epochs at the end in which nothing learns on but what tells unfamiliar_images from digits",
    )
    ema_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="decay per step of an average of the weights, which becomes the result; 0: no average",
    )
    precision: Precision = Field(default="float32", description="of matrix products in both passes")
    seed: int = Field(default=0, ge=0, lt=2**32, description="of initial weights, order and validation split")
    validation_images: int = Field(
        default=5000, ge=0, lt=60_000, description="training images held out; 0 trains on all of them"
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=256,
        description="CPU threads; part of the config, since the order of sums depends on it",
    )

    resources: Resources | None = Field(
        default=None,
        exclude_if=lambda resources: resources is None,
        description="what the job needs: a machine without it does not take it",
    )
    search: Mapping[str, tuple[int | float | str, ...]] | None = Field(
        default=None,
        exclude_if=lambda search: search is None,
        description='values of settings, such as {"lr": [0.001, 0.003]}: every combination is trained, at most '
        f"{MOST_TRIALS}, and the one with the least log loss on validation inputs becomes the result",
    )

    @field_validator("optimizer")
    @classmethod
    def _from_scratch_where_implemented(cls, optimizer: Optimizer, info: ValidationInfo) -> Optimizer:
        chosen = info.data.get("architecture"), info.data.get("loss")
        if optimizer == "from-scratch" and (chosen[0] not in FROM_SCRATCH or chosen[1] != "cross-entropy"):
            raise ValueError(
                f"from-scratch needs cross-entropy and one of {', '.join(FROM_SCRATCH)}: choose optimizer sgd"
            )
        return optimizer

    @field_validator("momentum", "weight_decay")
    @classmethod
    def _from_scratch_is_plain_sgd(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("optimizer") == "from-scratch":
            raise ValueError("the from-scratch optimizer does not have it: choose optimizer sgd")
        return value

    @model_validator(mode="after")
    def _synthetic_images_are_digits(self) -> "Config":
        if (self.synthetic_images or self.written_images or self.unfamiliar_images) and self.dataset != "mnist":
            raise ValueError("pictures can be simulated for digits only: use 0 on other data sets")
        if self.unfamiliar_images and self.architecture != "digits":
            raise ValueError("only the architecture digits learns what is no digit: use 0 unfamiliar_images")
        return self

    @model_validator(mode="after")
    def _a_share_needs_a_teacher(self) -> "Config":
        if self.teacher_share and self.teacher is None:
            raise ValueError("a share of the teacher's weights needs a teacher: name its weights file")
        return self

    @field_validator("search")
    @classmethod
    def _is_a_grid(
        cls, search: Mapping[str, tuple[int | float | str, ...]] | None, info: ValidationInfo
    ) -> Mapping[str, tuple[int | float | str, ...]] | None:
        """With the values as the settings have them. Nothing is said where other settings are wrong already."""
        if search is None or not {"architecture", "validation_images", "seed"} <= info.data.keys():
            return search
        _check_names(search, info.data["architecture"])
        _check_size(search)
        if not info.data["validation_images"]:
            raise ValueError("the best is chosen by validation images: hold some out (validation_images)")
        tried = [_validated(cls, info.data, settings) for settings in _grid(search)]
        found = {name: tuple(dict.fromkeys(getattr(config, name) for config in tried)) for name in search}
        if any(len(found[name]) < len(values) for name, values in search.items()):
            raise ValueError("the same value of a setting stands there twice")
        return found

    def trials(self) -> list[dict[str, Any]]:
        """What the trials of the search differ in, in their order; empty without one."""
        return _grid(self.search) if self.search else []

    def trial(self, settings: Mapping[str, Any]) -> "Config":
        """The config of one trial."""
        return self.model_copy(update={**settings, "search": None})


def _grid(search: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(search, values, strict=True)) for values in product(*search.values())]


def _check_names(search: Mapping[str, Any], architecture: str) -> None:
    if architecture in DECIDES_ITSELF:
        raise ValueError(
            "this recipe tries settings by itself: search with another, such as small-image or table"
        )
    allowed = OF_TABLES if architecture == "table" else SEARCHED
    for name in search:
        if name not in allowed:
            raise ValueError(f"{name[:40]!r} cannot be searched; these can: {', '.join(allowed)}")


def _check_size(search: Mapping[str, tuple[Any, ...]]) -> None:
    trials = prod(map(len, search.values()))
    if not search or not 2 <= trials <= MOST_TRIALS:
        count = 0 if not search else trials
        raise ValueError(f"a search has 2 to {MOST_TRIALS} combinations of values, not {count}")


def _validated(config: type[Config], others: Mapping[str, Any], settings: Mapping[str, Any]) -> Config:
    try:
        return config(**{**others, **settings})
    except ValidationError as error:
        said = ", ".join(f"{name}={str(value)[:40]}" for name, value in settings.items())
        raise ValueError(f"{said}: {first_problem(error)}") from error


@dataclass(frozen=True)
class Recipe:
    """A published tutorial system and its settings."""

    name: str
    summary: str
    reference: str
    settings: Mapping[str, Any]

    def config(self, **overrides: Any) -> Config:
        """The recipe's config with `overrides`. Raises pydantic.ValidationError."""
        return Config(**{"recipe": self.name, "name": self.name, **self.settings, **overrides})


_FASHION = {"dataset": "fashion-mnist", "mean": 0.0, "std": 1.0}
_MNIST = {"dataset": "mnist", "mean": 0.1307, "std": 0.3081}
_SGD = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "epochs": 10, "batch_size": 64}

# Epochs and the size of a batch are chosen by the data set (`training.choice`).
_OWN = {
    "dataset": "mnist",
    "optimizer": "adamw",
    "schedule": "one-cycle",
    "lr": 0.004,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "augment": "pictures",
    "ema_decay": 0.998,
}

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "softmax-scratch",
            "softmax regression on Fashion-MNIST, gradients by hand",
            "test accuracy about 0.82",
            {
                "architecture": "softmax-scratch",
                **_FASHION,
                "optimizer": "from-scratch",
                "lr": 0.1,
                "epochs": 5,
                "batch_size": 256,
            },
        ),
        Recipe(
            "softmax",
            "softmax regression on Fashion-MNIST",
            "train loss 0.485, test accuracy 0.824",
            {"architecture": "softmax", **_FASHION, "lr": 0.1, "epochs": 5, "batch_size": 256},
        ),
        Recipe(
            "mlp-scratch",
            "784-256-10 with ReLU on Fashion-MNIST, gradients by hand",
            "train loss 0.370, test accuracy 0.840",
            {
                "architecture": "mlp-scratch",
                **_FASHION,
                "optimizer": "from-scratch",
                "lr": 100 / 256,
                "epochs": 5,
                "batch_size": 256,
            },
        ),
        Recipe(
            "softmax-mnist",
            "softmax regression on MNIST",
            "test accuracy 0.913 on logits, 0.9245 with the double-softmax loss",
            {
                "architecture": "softmax-mnist",
                **_MNIST,
                "mean": 0.0,
                "std": 1.0,
                "lr": 0.5,
                "epochs": 10,
                "batch_size": 64,
            },
        ),
        Recipe(
            "mlp",
            "five linear layers on MNIST (minist.pth)",
            "test accuracy 0.980",
            {"name": "minist", "architecture": "mlp", **_MNIST, **_SGD},
        ),
        Recipe(
            "cnn",
            "two convolutions on MNIST",
            "test accuracy 0.990",
            {"architecture": "cnn", **_MNIST, **_SGD},
        ),
        Recipe(
            "mlp-adam",
            "the layers of mlp in a Sequential, with Adam",
            "test accuracy 0.979",
            {
                "architecture": "mlp-adam",
                **_MNIST,
                "optimizer": "adam",
                "lr": 0.001,
                "epochs": 10,
                "batch_size": 64,
            },
        ),
        Recipe(
            "fashion-mlp",
            "one hidden layer of 256 on Fashion-MNIST",
            "test accuracy 0.901",
            {
                "architecture": "mlp-256",
                **_FASHION,
                "optimizer": "adamw",
                "schedule": "one-cycle",
                "lr": 0.002,
                "weight_decay": 0.2,
                "epochs": 60,
                "batch_size": 256,
                "label_smoothing": 0.1,
                "ema_decay": 0.998,
            },
        ),
        Recipe(
            "fashion",
            "ten convolutions, in part residual, on Fashion-MNIST",
            "test accuracy 0.945",
            {
                "architecture": "garments",
                **_FASHION,
                "optimizer": "adamw",
                "schedule": "one-cycle",
                "lr": 0.004,
                "weight_decay": 0.05,
                "epochs": 26,
                "batch_size": 128,
                "label_smoothing": 0.1,
                "augment": "garments",
                "ema_decay": 0.999,
                "precision": "bfloat16",
            },
        ),
        Recipe(
            "digits",
            "four convolutions, for digits from other hands and pens than MNIST's",
            "test accuracy 0.997",
            {
                "architecture": "digits",
                **_MNIST,
                "optimizer": "adamw",
                "schedule": "one-cycle",
                "lr": 0.004,
                "weight_decay": 0.02,
                "epochs": 40,
                "batch_size": 256,
                "label_smoothing": 0.05,
                "augment": "mixed",
                "synthetic_images": 12_000,
                "written_images": 10_000,
                "unfamiliar_images": 10_000,
                "background_epochs": 10,
                "ema_decay": 0.998,
                "precision": "bfloat16",
            },
        ),
        Recipe(
            "auto",
            "small-image, transfer or table, by the data set; of few pictures, what validation prefers",
            "see the two",
            {**_OWN, "architecture": "auto"},
        ),
        Recipe(
            "small-image",
            "eight convolutions, in part residual, for pictures of 24 to 96 pixels of any classes",
            "MNIST: test accuracy 0.995",
            {**_OWN, "architecture": "small-image"},
        ),
        Recipe(
            "transfer",
            "EfficientNet-Lite0 from ImageNet, its last layers trained, for few photographs (extra transfer)",
            "logistic regression on its frozen features",
            {**_OWN, "architecture": "efficientnet-lite0"},
        ),
        Recipe(
            "table",
            "networks with piecewise-linear embeddings, softmax regression, t distributions: for tables",
            "arXiv:2203.05556 and 2410.24210",
            {"dataset": "mnist", "architecture": "table", "optimizer": "adamw", "lr": 0.002},
        ),
        Recipe(
            "otto",
            "the recipe table for the Otto Group's 93 counts and 9 classes",
            "XGBoost: log loss 0.433 on the private board",
            {"dataset": "mnist", "architecture": "table", "optimizer": "adamw", "lr": 0.002, "epochs": 40},
        ),
        Recipe(
            "fine-tune",
            "the version that serves goes on with its corrections and a replay of its training data",
            "digits: corrections right, test accuracy within 0.1 points",
            {"dataset": "mnist", "architecture": "fine-tune", "optimizer": "adamw", "lr": 0.001, "epochs": 8},
        ),
    )
}
