"""How versions answer the test set: confusion, mistakes, comparisons.

The files are read as they lie under MINIST_DATA_DIR (torchvision's layout), without torchvision. One version
at a time is evaluated, in a thread and a few images at a time, so that predictions go on; results are kept.
"""

import asyncio
import json
import re
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from app import errors
from app.serving.registry import ServedModel
from models.card import Shape
from models.datasets import DATASETS, TEST_FILES
from models.errors import CheckpointError
from models.idx import read_idx
from models.imported import TEST, images_of_shape, open_table, read_rows
from models.preprocessing.pictures import Pixels, from_planes
from models.rows import Rows
from models.tables import TableInput, recode_rows

CHUNK = 64  # images of one forward pass; between two, other threads get the CPU
IMPORTED = re.compile(r"([a-z0-9][a-z0-9-]{0,63})@([1-9][0-9]{0,8})")  # name and version of a data set
KEPT = 16  # versions; 10,000 images of 10 classes are 400 kB each


@dataclass(frozen=True)
class TestSet:
    """Images, uint8 [N, C, H, W] (of an imported data set mapped), or rows of a table, float32 [N, width],
    as the version takes them; and labels, int64 [N], on the CPU."""

    __test__ = False  # for pytest

    name: str
    images: Tensor
    labels: Tensor

    def picture(self, index: int) -> Pixels:
        """Pixels [H, W] or [H, W, 3]."""
        planes = self.images[index]
        return from_planes(planes.numpy().tobytes(), (planes.shape[0], planes.shape[1], planes.shape[2]))


@dataclass(frozen=True)
class TestResult:
    """What a version answered: classes by index [N], and probabilities, float32 [N, classes]."""

    __test__ = False  # for pytest

    test: TestSet
    classes: tuple[str, ...]
    predicted: Tensor
    probabilities: Tensor

    @property
    def right(self) -> Tensor:
        """Of each image whether the answer is right, bool [N]."""
        return self.predicted == self.test.labels

    @property
    def accuracy(self) -> float:
        """0..1"""
        return self.right.double().mean().item()

    def confusion(self) -> list[list[int]]:
        """[t][p] counts the images of class t that were taken for class p."""
        count = len(self.classes)
        pairs = torch.bincount(self.test.labels * count + self.predicted, minlength=count**2)
        table: list[list[int]] = pairs.view(count, count).tolist()
        return table

    def mistakes(self, true: int | None, predicted: int | None, limit: int) -> list[int]:
        """Indices of the images that were answered wrong, most confident first."""
        wrong = ~self.right
        if true is not None:
            wrong &= self.test.labels == true
        if predicted is not None:
            wrong &= self.predicted == predicted
        sure = self.probabilities.amax(1).masked_fill(~wrong, -1)
        order: list[int] = sure.argsort(descending=True, stable=True)[: min(limit, int(wrong.sum()))].tolist()
        return order


class Evaluator:
    """The test results of one process."""

    def __init__(
        self,
        data_dir: Path,
        datasets_dir: Path | None = None,
        bring: Callable[[str, int], None] = lambda name, version: None,
    ) -> None:
        """`datasets_dir` holds what was imported, as NAME/VERSION; `bring` fetches it where it does not."""
        self._bring = bring
        self.data_dir = data_dir
        self.datasets_dir = datasets_dir
        self._tests: dict[tuple[str, Shape], TestSet] = {}
        self._results: OrderedDict[tuple[str, int], TestResult] = OrderedDict()
        self._evaluating = asyncio.Lock()  # a request that waits holds no thread

    async def result(self, served: ServedModel) -> TestResult:
        """How that version answers the test set of its data set. Raises NoTestSet."""
        key = (served.name, served.version)
        async with self._evaluating:
            if key not in self._results:
                self._results[key] = await asyncio.to_thread(self._evaluate, served)
            self._results.move_to_end(key)
            while len(self._results) > KEPT:
                self._results.popitem(last=False)
            return self._results[key]

    def _evaluate(self, served: ServedModel) -> TestResult:
        card = served.classifier.card
        name = card.dataset.name if card.dataset else None
        if (imported := IMPORTED.fullmatch(name or "")) is not None:
            with suppress(CheckpointError):  # gone: reading it says so
                self._bring(imported[1], int(imported[2]))
        test = self._table(name, card.table) if served.takes_rows else self._test(name, card.picture.shape)
        chunks = (test.images[start : start + CHUNK] for start in range(0, len(test.labels), CHUNK))
        parts = [served.classifier.probabilities(images).float() for images in chunks]
        probabilities = torch.cat(parts)
        return TestResult(test, card.classes, probabilities.argmax(1), probabilities)

    def _table(self, name: str | None, spec: TableInput) -> TestSet:
        imported = IMPORTED.fullmatch(name or "")
        if name is None or imported is None or self.datasets_dir is None:
            raise errors.NoTestSet(
                "the version's card names no data set that is known here",
                "choose a version that was trained here",
            )
        return read_table_test(name, self.datasets_dir / imported[1] / imported[2], spec)

    def _test(self, name: str | None, shape: Shape) -> TestSet:
        imported = IMPORTED.fullmatch(name or "")
        if name is None or (name not in DATASETS and (imported is None or self.datasets_dir is None)):
            raise errors.NoTestSet(
                "the version's card names no data set that is known here",
                "choose a version that was trained here",
            )
        if (name, shape) not in self._tests:
            if imported is None or self.datasets_dir is None:
                found = read_test_set(name, self.data_dir)
            else:
                found = read_imported_test(name, self.datasets_dir / imported[1] / imported[2], shape)
            self._tests[name, shape] = found
        return self._tests[name, shape]


def read_test_set(name: str, data_dir: Path) -> TestSet:
    """The test set of `mnist` or `fashion-mnist`. Raises NoTestSet."""
    folder = DATASETS[name].raw(data_dir)
    try:
        images, labels = (torch.from_numpy(read_idx(folder / file)) for file in TEST_FILES)
        if len(images) != len(labels):
            raise ValueError("there are not as many labels as images")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise errors.NoTestSet(
            f"{' and '.join(TEST_FILES)} of {name} cannot be read ({why})",
            f"put them into {DATASETS[name].folder}/raw under MINIST_DATA_DIR; "
            f"a training job on {name} downloads them",
        ) from error
    return TestSet(name, images[:, None], labels.long())


def read_imported_test(name: str, directory: Path, shape: Shape) -> TestSet:
    """The test split of an imported data set, in pictures of that shape. Raises NoTestSet."""
    try:
        images, (labels, splits, _) = images_of_shape(directory, shape), read_rows(directory)
        rows = (splits == TEST).nonzero()[0]
        if not len(rows) or int(rows.max()) >= len(images):
            raise ValueError("it has no test split")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        why = getattr(error, "strerror", None) or error
        raise errors.NoTestSet(
            f"the test split of data set {name} cannot be read ({why})",
            "import the data set again, and train on it",
        ) from error
    return TestSet(name, cast(Tensor, Rows(images, rows)), torch.from_numpy(labels[rows]))


def read_table_test(name: str, directory: Path, spec: TableInput) -> TestSet:
    """The test split of an imported table, as a model with these columns takes it. Raises NoTestSet."""
    try:
        profile = json.loads((directory / "profile.json").read_bytes())
        table, (labels, splits, _) = open_table(directory), read_rows(directory)
        rows = (splits == TEST).nonzero()[0]
        if not len(rows) or int(rows.max()) >= len(table):
            raise ValueError("it has no test split")
        values = recode_rows(TableInput.model_validate(profile["input"]), spec, table[rows])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise errors.NoTestSet(
            f"the test split of data set {name} cannot be read ({why})",
            "import the data set again, and train on it",
        ) from error
    return TestSet(name, torch.from_numpy(values), torch.from_numpy(labels[rows]).long())


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p of McNemar's test (McNemar 1947): how probable a difference at least as large is
    if either were as likely to be the one that is right."""
    discordant, fewer = only_a + only_b, min(only_a, only_b)
    ways, total = 1, 1  # C(n, 0), and the sum up to C(n, i)
    for i in range(1, fewer + 1):
        ways = ways * (discordant - i + 1) // i
        total += ways
    return min(1.0, 2 * total / 2**discordant)


def indices(mask: Tensor, limit: int) -> Sequence[int]:
    """Where a mask [N] is true, the first `limit` of them."""
    found: list[int] = mask.nonzero()[:limit, 0].tolist()
    return found
