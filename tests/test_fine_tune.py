"""Fine-tuning: the served version learns corrections and forgets nothing."""

import base64
import json
from pathlib import Path

import pytest
import torch

from app.jobs.promotion import Current, decide
from models.card import Card, Corrections, read_card
from models.classifier import Classifier
from tests.conftest import SAMPLE, WEIGHTS
from training.datasets import Dataset
from training.errors import TrainingError
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


def tune(folder: Path, served: Path, images: torch.Tensor, labels: list[str]) -> tuple[Run, Card]:
    run = Run.create(folder, RECIPES["fine-tune"].config(name="softmax-mnist", lr=0.003))
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
