"""Data sets as tensors: torchvision downloads the files where they are missing; the rest is slicing.

A whole data set is one uint8 tensor on the device; it is normalised per batch, so there is no
DataLoader and no transform per image.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.card import Polarity, Preprocessing, Shape
from models.datasets import DATASETS, TEST_FILES, TRAIN_FILES, DatasetInfo
from models.idx import read_idx
from training.errors import DatasetError
from training.importing.dataset import Imported

_IMPORTED = re.compile(r"([a-z0-9][a-z0-9-]{0,63})@([1-9][0-9]{0,8})")  # name and version


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


def load_dataset(name: str, root: Path, datasets_dir: Path | None = None) -> Dataset:
    """`mnist` or `fashion-mnist` under `root` (torchvision's layout), downloaded if it is not there; or
    `NAME@n`, version n of an imported data set, in `datasets_dir`/NAME/n.

    Raises DatasetError with the folder that was searched.
    """
    if (version := _IMPORTED.fullmatch(name)) is not None and datasets_dir is not None:
        return _imported(name, datasets_dir / version[1] / version[2])
    if name not in DATASETS:
        raise DatasetError(f"there is no data set {name!r}: choose one of {', '.join(DATASETS)}")
    info = DATASETS[name]
    folder = info.raw(root)
    try:
        if not all(_exists(folder / file) for file in (*TRAIN_FILES, *TEST_FILES)):
            _download(info, root)
        train, test = (_read(folder, files) for files in (TRAIN_FILES, TEST_FILES))
    except Exception as error:  # torchvision raises RuntimeError, OSError, URLError, ValueError
        reason = " ".join(str(error).split())
        raise DatasetError(
            f"data set {name!r} is neither in {root} nor can it be downloaded ({reason}): "
            f"put its files into {folder}, or name another folder with --data-dir or MINIST_DATA_DIR"
        ) from error
    digest = hashlib.sha256()
    for tensor in (train.images, train.labels, test.images, test.labels):
        digest.update(tensor.numpy().tobytes())
    return Dataset(name, train, test, info.classes, info.polarity, digest.hexdigest(), info.preprocessing)


def _imported(name: str, directory: Path) -> Dataset:
    try:
        found = Imported(directory)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"data set {name!r} is not in {directory}, or is damaged: import it again"
        ) from error
    train, test = (
        Split(torch.from_numpy(found.images[rows]), torch.from_numpy(found.labels[rows]))
        for rows in ((found.splits != 2).nonzero()[0], (found.splits == 2).nonzero()[0])
    )
    return Dataset(name, train, test, found.profile.classes, "light-on-dark", found.profile.digest)


def _exists(path: Path) -> bool:
    return path.exists() or path.with_name(path.name + ".gz").exists()


def _download(info: DatasetInfo, root: Path) -> None:
    from torchvision import datasets  # takes a second to import, and is needed once

    getattr(datasets, info.folder)(root=str(root), download=True)


def _read(folder: Path, files: tuple[str, str]) -> Split:
    images, labels = (torch.from_numpy(read_idx(folder / file)) for file in files)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(f"{' and '.join(files)} do not belong together")
    return Split(images[:, None], labels.long())
