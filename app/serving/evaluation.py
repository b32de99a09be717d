"""How versions answer the test set: confusion, mistakes, comparisons.

The files are read as they lie under MINIST_DATA_DIR (torchvision's layout), without torchvision. One version
at a time is evaluated, in a thread and a few images at a time, so that predictions go on; results are kept.
"""

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from app import errors
from app.serving.registry import ServedModel
from models.datasets import DATASETS, TEST_FILES
from models.idx import read_idx
from models.preprocessing.decode import Grey

CHUNK = 64  # images of one forward pass; between two, other threads get the CPU
KEPT = 16  # versions; 10,000 images of 10 classes are 400 kB each


@dataclass(frozen=True)
class TestSet:
    """Images, uint8 [N, 1, H, W], and labels, int64 [N], on the CPU."""

    __test__ = False  # for pytest

    name: str
    images: Tensor
    labels: Tensor

    def picture(self, index: int) -> Grey:
        """Grey pixels [H, W]."""
        return self.images[index, 0].numpy()


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

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._tests: dict[str, TestSet] = {}
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
        test = self._test(card.dataset.name if card.dataset else None)
        parts = [served.classifier.probabilities(images).float() for images in torch.split(test.images, CHUNK)]
        probabilities = torch.cat(parts)
        return TestResult(test, card.classes, probabilities.argmax(1), probabilities)

    def _test(self, name: str | None) -> TestSet:
        if name is None or name not in DATASETS:
            raise errors.NoTestSet(
                "the version's card names no data set that is known here",
                "choose a version that was trained here",
            )
        if name not in self._tests:
            self._tests[name] = read_test_set(name, self.data_dir)
        return self._tests[name]


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
