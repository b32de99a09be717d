"""Data sets: torchvision downloads MNIST and Fashion-MNIST where they are missing; `NAME@n` was imported.

The first two are one uint8 tensor on the device, an imported one stays mapped from its file. Either is
normalised per batch, so there is no DataLoader and no transform per image.
"""

import hashlib
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from models.card import Polarity, Preprocessing, Resize, Shape
from models.datasets import DATASETS, TEST_FILES, TRAIN_FILES, DatasetInfo
from models.idx import read_idx
from models.imported import LARGE, TEST, TRAIN, VALIDATION, open_images, read_rows
from models.rows import Rows
from training.errors import DatasetError

_IMPORTED = re.compile(r"([a-z0-9][a-z0-9-]{0,63})@([1-9][0-9]{0,8})")  # name and version

IMPORTED = re.compile(r"([a-z0-9][a-z0-9-]{0,63})@([1-9][0-9]{0,8})")  # name and version


@dataclass(frozen=True)
class Split:
    """Images, uint8 [N, C, H, W], and labels, int64 [N].

    Of an imported data set the images are `Rows`: what is indexed, and nothing else, is read as a tensor.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> "Split":
        """Those images, as tensors."""
        if isinstance(index, Tensor) and index.dtype == torch.long and not isinstance(self.images, Rows):
            # quicker than indexing
            return Split(self.images.index_select(0, index), self.labels.index_select(0, index))
        return Split(self.images[index], self.labels[index])

    def __add__(self, other: "Split") -> "Split":
        """Followed by a split of tensors."""
        labels = torch.cat([self.labels, other.labels])
        if isinstance(self.images, Rows):
            return Split(cast(Tensor, self.images.followed_by(other.images)), labels)
        return Split(torch.cat([self.images, other.images]), labels)

    def to(self, device: torch.device) -> "Split":
        """On that device; what is mapped stays where it is, and is moved a batch at a time."""
        if isinstance(self.images, Rows):
            return self
        return Split(self.images.to(device), self.labels.to(device))

    def batches(self, size: int) -> Iterator["Split"]:
        """One after the other, as tensors."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, a validation split where it is given, and what a card says of them."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    digest: str
    preprocessing: Preprocessing = "size"
    polarity: Polarity | None = "light-on-dark"
    resize: Resize = "stretch"
    validation: Split | None = None
    directory: Path | None = None  # of an imported one
    is_sample: bool = False  # of one that is gone

    @property
    def shape(self) -> Shape:
        _, channels, height, width = self.train.images.shape
        return (channels, height, width)

    @property
    def imported(self) -> bool:
        return self.directory is not None

    def hold_out(self, count: int, seed: int) -> tuple[Split, Split | None]:
        """What is trained on, and what is held out: the validation split, or `count` random training images.

        None is held out for a count of 0. Raises DatasetError where that would leave nothing to train on.
        """
        if self.imported or count == 0:
            return self.train, self.validation if count else None
        if count >= len(self.train):
            raise DatasetError(
                f"validation of {count} images leaves none of {len(self.train)} to train on: ask for fewer"
            )
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        return self.train[order[count:]], self.train[order[:count]]

    def enlarged(self) -> "Dataset":
        """The same with larger pictures, where the import has kept them; else this one."""
        if self.directory is None or not (self.directory / LARGE).exists():
            return self
        return _imported(self.name, self.directory, LARGE)


def load_dataset(name: str, root: Path, datasets_dir: Path | None = None) -> Dataset:
    """`mnist` or `fashion-mnist` under `root` (torchvision's layout), downloaded if it is not there, or
    `NAME@n`: version n of an imported data set, in `datasets_dir`/NAME/n.

    Raises DatasetError with the folder that was searched.
    """
    if (version := IMPORTED.fullmatch(name)) is not None:
        return _find_imported(name, version[1], version[2], datasets_dir)
    if name not in DATASETS:
        raise DatasetError(
            f"there is no data set {name!r}: choose one of {', '.join(DATASETS)}, or NAME@n of your own"
        )
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
    for split in (train, test):
        digest.update(split.images.numpy().tobytes())
        digest.update(split.labels.numpy().tobytes())
    return Dataset(name, train, test, info.classes, digest.hexdigest(), info.preprocessing, info.polarity)


def load_imported(directory: Path, name: str) -> Dataset:
    """The data set in a directory that `training.importing` wrote. Raises DatasetError."""
    return _imported(name, directory, None)


def _find_imported(name: str, base: str, version: str, datasets_dir: Path | None) -> Dataset:
    if datasets_dir is None:
        raise DatasetError(f"data set {name!r} is one of your own: say where it lies by --datasets-dir")
    return load_imported(datasets_dir / base / version, name)


def _imported(name: str, directory: Path, file: str | None) -> Dataset:
    from training.importing.dataset import PROFILE, ImageProfile

    try:
        profile = ImageProfile.model_validate_json((directory / PROFILE).read_bytes())
        images = open_images(directory, large=file == LARGE)
        labels, splits, _ = read_rows(directory)
        if not len(images) == len(labels) == len(splits):
            raise ValueError("images, labels and splits do not belong together")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DatasetError(
            f"data set {name!r} is not in {directory}, or is damaged ({why}): import it again"
        ) from error

    def split(number: int) -> Split:
        rows = (splits == number).nonzero()[0]
        return Split(cast(Tensor, Rows(images, rows)), torch.from_numpy(labels[rows]))

    train, validation, test = (split(number) for number in (TRAIN, VALIDATION, TEST))
    if not len(train) or not len(test):
        raise DatasetError(
            f"data set {name!r} has no pictures to {'test' if len(train) else 'train'} on: add some"
        )
    return Dataset(
        name,
        train,
        test,
        profile.classes,
        profile.digest,
        "picture",
        None,
        profile.resize,
        validation if len(validation) else None,
        directory,
    )


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
