"""Fine-tuning: the served version learns corrections and forgets nothing."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from app.jobs.artifacts import artifacts
from app.jobs.promotion import Current, decide
from models.card import Card, Corrections, read_card
from models.classifier import Classifier
from tests.conftest import SAMPLE, WEIGHTS
from tests.own import imported
from training.datasets import Dataset
from training.errors import DatasetError, TrainingError
from training.recipes import RECIPES
from training.run import Run, train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the sample, as it serves; its weights."""
    config = RECIPES["softmax-mnist"].config(epochs=8, validation_images=100)
    run = Run.create(tmp_path_factory.mktemp("served") / "run", config)
    train(run, SAMPLE, CPU, lambda event: None)
    return run.weights_path


def tune(
    folder: Path, served: Path, images: torch.Tensor, labels: list[str], name: str = "softmax-mnist"
) -> tuple[Run, Card]:
    run = Run.create(folder, RECIPES["fine-tune"].config(name=name, lr=0.003))
    pixels = base64.b64encode(images.numpy().tobytes()).decode()
    run.files.corrections.write_text(json.dumps({"labels": labels, "pixels": pixels, "before": str(served)}))
    return run, train(run, SAMPLE, CPU, lambda event: None)


def wrong(served: Path, sample: Dataset, count: int) -> tuple[torch.Tensor, list[str]]:
    """Test images that the served model gets wrong, moved by a pixel."""
    classifier = Classifier.load(served, CPU)
    moved = sample.test.images.roll(1, 3)
    rows = (classifier.logits(moved).argmax(1) != sample.test.labels).nonzero().flatten()[:count]
    return moved[rows], [str(label) for label in sample.test.labels[rows].tolist()]


def test_it_learns_corrections_and_forgets_little(served: Path, sample: Dataset, tmp_path: Path) -> None:
    images, labels = wrong(served, sample, 6)
    before = read_card(served.with_suffix(".json"))
    run, card = tune(tmp_path / "run", served, images, labels)
    assert card.corrections is not None
    assert card.corrections.right_before == 0
    assert card.corrections.right_after >= 3
    assert card.metrics["test"].accuracy >= before.metrics["test"].accuracy - 0.03
    assert (card.dataset, card.input, card.architecture) == (before.dataset, before.input, before.architecture)
    assert card.training is not None
    assert card.training["recipe"] == "fine-tune"
    again, _ = tune(tmp_path / "again", served, images, labels)
    assert again.weights_path.read_bytes() == run.weights_path.read_bytes()


def test_it_works_from_a_kept_sample_where_the_data_set_is_gone(tmp_path: Path) -> None:
    data = imported(tmp_path / "datasets", "arrows", ("left", "right"), 60, side=28, mode="L")
    config = RECIPES["softmax-mnist"].config(name="arrows", dataset="arrows@1", epochs=4)
    first = Run.create(tmp_path / "first", config)
    before = train(first, SAMPLE, CPU, lambda event: None, datasets_dir=tmp_path / "datasets")
    assert {"images", "labels", "splits"} == set(np.load(first.files.sample))
    assert first.files.sample.name not in artifacts(first.directory)  # people's pictures
    shutil.rmtree(data.directory)
    images = torch.from_numpy(data.images[:2].copy())
    run, card = tune(tmp_path / "tuned", first.weights_path, images, ["left", "right"], "arrows")
    assert card.corrections is not None
    all_was_kept = before.metrics["test"].accuracy
    assert card.corrections.test_accuracy_before == pytest.approx(all_was_kept)
    assert (card.dataset, card.baselines) == (before.dataset, before.baselines)
    assert "is gone" in card.notes[-1]
    assert run.files.sample.exists()
    first.files.sample.unlink()
    with pytest.raises(DatasetError, match="no sample of it was kept"):
        tune(tmp_path / "without", first.weights_path, images, ["left", "right"], "arrows")


def test_on_a_kept_sample_both_versions_are_measured_alike() -> None:
    old = read_card(WEIGHTS / "minist.json")
    learned = Corrections(used=5, right_before=0, right_after=5, test_accuracy_before=0.95)
    assert old.training is not None
    new = old.model_copy(
        update={
            "corrections": learned,
            "training": {**old.training, "recipe": "fine-tune"},
            "metrics": {"test": old.metrics["test"].model_copy(update={"accuracy": 0.951})},
        }
    )
    decision = decide("if_better", new, Current(1, old))  # whose test accuracy on all images is higher
    assert decision.promoted, decision.reason


def test_without_corrections_it_says_so(tmp_path: Path, served: Path) -> None:
    run = Run.create(tmp_path / "none", RECIPES["fine-tune"].config(name="softmax-mnist"))
    with pytest.raises(TrainingError, match="there is none"):
        train(run, SAMPLE, CPU, lambda event: None)
    with pytest.raises(TrainingError, match="no corrections to learn"):
        tune(tmp_path / "empty", served, torch.zeros(0, 1, 28, 28, dtype=torch.uint8), [])


@pytest.mark.parametrize(
    ("accuracy", "before", "after", "promoted"),
    [(0.9795, 2, 9, True), (0.9785, 2, 9, False), (0.9795, 2, 2, False), (0.981, 2, 2, True)],
)
def test_promotion_judges_corrections_and_accuracy(
    accuracy: float, before: int, after: int, promoted: bool
) -> None:
    old = read_card(WEIGHTS / "minist.json")
    old = old.model_copy(
        update={"metrics": {"test": old.metrics["test"].model_copy(update={"accuracy": 0.98})}}
    )
    new = old.model_copy(
        update={
            "metrics": {"test": old.metrics["test"].model_copy(update={"accuracy": accuracy})},
            "corrections": Corrections(used=10, right_before=before, right_after=after),
            "training": {**(old.training or {}), "recipe": "fine-tune"},
        }
    )
    decision = decide("if_better", new, Current(1, old))
    assert decision.promoted is promoted
    assert f"{after} of 10 corrections right" in decision.reason
