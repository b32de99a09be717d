"""Confusion, mistakes and comparisons on the test set, read without torchvision."""

import base64
import gzip
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

import app.serving.evaluation
from app.errors import NoTestSet
from app.main import create_app
from app.serving.evaluation import Evaluator, TestResult, TestSet, mcnemar, read_test_set
from app.serving.registry import ServedModel
from app.settings import Settings
from models.classifier import Classifier
from models.preprocessing.decode import decode
from tests.conftest import SAMPLE, WEIGHTS
from tests.samples import is_problem
from training.datasets import Dataset
from training.evaluation import evaluate

RAW = SAMPLE / "MNIST" / "raw"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The test files alone, where they may be damaged."""
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for path in RAW.glob("t10k-*"):
        shutil.copy(path, folder)
    return tmp_path / "data"


def test_the_files_are_read_as_torchvision_reads_them(sample: Dataset) -> None:
    found = read_test_set("mnist", SAMPLE)
    assert torch.equal(found.images, sample.test.images)
    assert torch.equal(found.labels, sample.test.labels)


def test_gzipped_files_are_read_too(copied: Path, sample: Dataset) -> None:
    for path in (copied / "MNIST" / "raw").iterdir():
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert torch.equal(read_test_set("mnist", copied).images, sample.test.images)


@pytest.mark.parametrize(
    "damage",
    [
        lambda images, labels: images.unlink(),
        lambda images, labels: images.write_bytes(b""),
        lambda images, labels: images.write_bytes(images.read_bytes()[:-1]),
        lambda images, labels: images.write_bytes(b"\x00\x00\x0d\x03" + images.read_bytes()[4:]),
        lambda images, labels: labels.write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x01\x07"),
        lambda images, labels: images.rename(images.with_name(images.name + ".gz")),  # not gzipped
    ],
)
def test_files_that_are_missing_or_damaged_are_told(copied: Path, damage: object) -> None:
    folder = copied / "MNIST" / "raw"
    damage(folder / "t10k-images-idx3-ubyte", folder / "t10k-labels-idx1-ubyte")  # type: ignore[operator]
    with pytest.raises(NoTestSet) as told:
        read_test_set("mnist", copied)
    assert "MNIST/raw under MINIST_DATA_DIR" in told.value.hint


def test_mcnemars_p_is_exact() -> None:
    """Known values: R's binom.test(b, b + c)$p.value."""
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(0, 10) == 2 / 1024
    assert mcnemar(10, 0) == 2 / 1024
    assert mcnemar(8, 2) == pytest.approx(0.109375, abs=1e-12)
    assert mcnemar(3, 12) == pytest.approx(0.03515625, abs=1e-12)
    assert mcnemar(0, 10_000) == 0  # below what a float can tell
    n, k = 700, 300
    exact = 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert mcnemar(k, n - k) == pytest.approx(exact, rel=1e-12)


@pytest.fixture
def result() -> TestResult:
    """Five images of three classes; number 2 and 4 are wrong, and it is surest of 4."""
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 28, 28)
    test = TestSet("mnist", images, torch.tensor([0, 1, 1, 2, 2]))
    rows = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]]
    probabilities = torch.tensor(rows)
    return TestResult(test, ("a", "b", "c"), probabilities.argmax(1), probabilities)


def test_a_result_with_known_numbers(result: TestResult) -> None:
    assert result.confusion() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    assert result.accuracy == 0.6
    assert result.mistakes(None, None, 9) == [4, 2]
    assert result.mistakes(None, None, 1) == [4]
    assert result.mistakes(1, None, 9) == [2]
    assert result.mistakes(2, 0, 9) == [4]
    assert result.mistakes(0, 1, 9) == []


def test_confusion_is_what_training_measures(client: TestClient, sample: Dataset, cpu: torch.device) -> None:
    for name in ("minist", "softmax-mnist", "digits"):
        known = evaluate(Classifier.load(WEIGHTS / f"{name}.pth", cpu), sample.test)
        body = client.get(f"/models/{name}/versions/1/confusion").json()
        assert (body["dataset"], body["images"]) == ("mnist", 200)
        assert body["classes"] == [str(i) for i in range(10)]
        assert body["matrix"] == known.confusion.tolist()
        assert body["accuracy"] == pytest.approx(known.metrics.accuracy)


def test_mistakes_are_shown_most_sure_first(client: TestClient, sample: Dataset) -> None:
    body = client.get("/models/softmax-mnist/versions/1/mistakes").json()
    matrix = np.array(client.get("/models/softmax-mnist/versions/1/confusion").json()["matrix"])
    assert len(body) == matrix.sum() - np.trace(matrix) > 1
    sure = [mistake["probability"] for mistake in body]
    assert sure == sorted(sure, reverse=True)
    for mistake in body:
        assert mistake["true"] == str(int(sample.test.labels[mistake["index"]])) != mistake["predicted"]
        assert mistake["probabilities"][mistake["predicted"]] == mistake["probability"]
        image = decode(base64.b64decode(mistake["image"].partition(",")[2]), (28, 28), 0)
        assert np.array_equal(image, sample.test.images[mistake["index"], 0].numpy())
    first = body[0]
    cell = {"true": first["true"], "predicted": first["predicted"], "limit": 1}
    assert client.get("/models/softmax-mnist/versions/1/mistakes", params=cell).json() == [first]


def test_two_versions_are_compared(client: TestClient, sample: Dataset, cpu: torch.device) -> None:
    query: dict[str, int | str] = {"a": 1, "b": 1, "other": "softmax-mnist"}
    body = client.get("/models/minist/compare", params=query).json()
    answers = [
        evaluate(Classifier.load(WEIGHTS / f"{name}.pth", cpu), sample.test).predicted
        for name in ("minist", "softmax-mnist")
    ]
    right = [answer == sample.test.labels for answer in answers]
    assert body["a"] == {"model": "minist", "version": 1, "accuracy": pytest.approx(right[0].double().mean())}
    assert body["b"]["model"] == "softmax-mnist"
    assert body["only_a"] == int((right[0] & ~right[1]).sum()) > 0
    assert body["only_b"] == int((right[1] & ~right[0]).sum())
    assert body["p"] == mcnemar(body["only_a"], body["only_b"])
    differ = (answers[0] != answers[1]).nonzero()[:, 0].tolist()
    assert body["agreement"] == pytest.approx(1 - len(differ) / 200)
    assert [entry["index"] for entry in body["differ"]] == differ[:50]
    first = body["differ"][0]
    assert (first["a"], first["b"]) == tuple(str(int(answer[first["index"]])) for answer in answers)
    same = client.get("/models/minist/compare", params={"a": 1, "b": 1}).json()
    assert (same["agreement"], same["only_a"], same["only_b"], same["p"], same["differ"]) == (1, 0, 0, 1, [])


def test_what_cannot_be_examined_is_told(client: TestClient) -> None:
    is_problem(client.get("/models/minist/versions/9/confusion"), 404, "Unknown model")
    is_problem(client.get("/models/nope/versions/1/mistakes"), 404, "Unknown model")
    is_problem(client.get("/models/minist/versions/0/mistakes"), 422, "Invalid request")
    wrong = client.get("/models/minist/versions/1/mistakes", params={"true": "shirt"})
    assert "0, 1, 2" in str(is_problem(wrong, 422, "Invalid request")["hint"])
    is_problem(client.get("/models/minist/compare", params={"a": 1}), 422, "Invalid request")
    for path in ("fashion-mlp/versions/1/confusion", "fashion-mlp/compare?a=1&b=1"):
        told = is_problem(client.get(f"/models/{path}"), 409, "The test set is not here")
        assert "FashionMNIST/raw" in str(told["hint"])


def test_versions_of_different_data_sets_are_not_compared(
    settings: Settings, tmp_path: Path, copied: Path
) -> None:
    shutil.copytree(copied / "MNIST", copied / "FashionMNIST")
    with TestClient(create_app(settings.model_copy(update={"data_dir": copied}))) as client:
        query: dict[str, int | str] = {"a": 1, "b": 1, "other": "fashion-mlp"}
        is_problem(client.get("/models/minist/compare", params=query), 409, "Conflict")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the versions that were computed."""
    found: list[str] = []
    evaluate = Evaluator._evaluate

    def note(self: Evaluator, served: ServedModel) -> TestResult:
        found.append(served.name)
        return evaluate(self, served)

    monkeypatch.setattr(Evaluator, "_evaluate", note)
    return found


def test_a_version_is_examined_once(settings: Settings, counted: list[str]) -> None:
    """Also when many ask at once; predictions are answered meanwhile."""
    with TestClient(create_app(settings)) as client, ThreadPoolExecutor(8) as pool:
        path = "/models/minist/versions/1/confusion"
        answers = list(pool.map(lambda _: client.get(path).json(), range(16)))
    assert counted == ["minist"]
    assert all(answer == answers[0] for answer in answers)


def test_what_is_kept_is_bounded(
    settings: Settings, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.serving.evaluation, "KEPT", 1)
    with TestClient(create_app(settings)) as client:
        for name in ("minist", "minist", "softmax-mnist", "minist"):
            assert client.get(f"/models/{name}/versions/1/confusion").status_code == 200
    assert counted == ["minist", "softmax-mnist", "minist"]
