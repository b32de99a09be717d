"""Data sets as tensors: torchvision finds or downloads the files, from there it is slices.

A whole data set is one uint8 tensor on the device; it is normalised per batch, so there is no
DataLoader and no transform per image.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision import datasets

from models.card import Polarity, Preprocessing, Shape
from training.errors import DatasetError

_SOURCES: dict[str, tuple[type[datasets.MNIST], tuple[str, ...]]] = {
    "mnist": (datasets.MNIST, tuple("0123456789")),
    "fashion-mnist": (
        datasets.FashionMNIST,
        (
            "t-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
    ),
}


@dataclass(frozen=True)
class Split:
    """Images, uint8 [N, 1, H, W], and labels, int64 [N], on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> "Split":
        if isinstance(index, Tensor) and index.dtype == torch.long:  # quicker than indexing
            return Split(self.images.index_select(0, index), self.labels.index_select(0, index))
        return Split(self.images[index], self.labels[index])

    def __add__(self, other: "Split") -> "Split":
        return Split(torch.cat([self.images, other.images]), torch.cat([self.labels, other.labels]))

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, and what a card says of them."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    polarity: Polarity
    digest: str
    preprocessing: Preprocessing = "size"

    @property
    def shape(self) -> Shape:
        _, channels, height, width = self.train.images.shape
        return (channels, height, width)

    def hold_out(self, count: int, seed: int) -> tuple[Split, Split | None]:
        """Training split without `count` random images, and those images (None for 0).

        Raises DatasetError where that would leave nothing to train on.
        """
        if count == 0:
            return self.train, None
        if count >= len(self.train):
            raise DatasetError(
                f"validation of {count} images leaves none of {len(self.train)} to train on: ask for fewer"
            )
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        return self.train[order[count:]], self.train[order[:count]]


def load_dataset(name: str, root: Path) -> Dataset:
    """The data set of that name under `root` (torchvision's layout), downloaded if it is not there.

    Raises DatasetError with the folder that was looked into.
    """
    if name not in _SOURCES:
        raise DatasetError(f"no data set is called {name!r}: choose one of {', '.join(_SOURCES)}")
    source, classes = _SOURCES[name]
    try:
        splits = [source(root=str(root), train=train, download=True) for train in (True, False)]
    except Exception as error:  # torchvision raises RuntimeError, OSError, URLError, ValueError
        raise DatasetError(
            f"data set {name!r} is neither in {root} nor can it be downloaded ({error}): "
            f"put its files into {root / source.__name__ / 'raw'}, or name another folder "
            "with --data-dir or MINIST_DATA_DIR"
        ) from error
    train, test = (Split(split.data[:, None], split.targets.long()) for split in splits)
    preprocessing: Preprocessing = "digit" if name == "mnist" else "size"
    digest = hashlib.sha256()
    for tensor in (train.images, train.labels, test.images, test.labels):
        digest.update(tensor.numpy().tobytes())
    return Dataset(name, train, test, classes, "light-on-dark", digest.hexdigest(), preprocessing)
