"""The data sets that a card can name: where their files lie, and what their classes are called.

Facts only, without torch. Training loads whole data sets by them (`training.datasets`), the service test sets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.card import Polarity, Preprocessing

DatasetName = Literal["mnist", "fashion-mnist"]
TRAIN_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")  # images, labels; read by `models.idx`
TEST_FILES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class DatasetInfo:
    """One data set as torchvision lays it out: `folder` is also the name of torchvision's class."""

    folder: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    polarity: Polarity = "light-on-dark"

    def raw(self, root: Path) -> Path:
        """The folder of its files under the root of all data sets."""
        return root / self.folder / "raw"


DATASETS: Mapping[str, DatasetInfo] = {
    "mnist": DatasetInfo("MNIST", tuple("0123456789"), "digit"),
    "fashion-mnist": DatasetInfo(
        "FashionMNIST",
        ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
        "size",
    ),
}
