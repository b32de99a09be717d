"""Figures beside accuracy, against scikit-learn and by hand."""

from pathlib import Path

import pytest
import torch
from sklearn import metrics

from tests.own import imported
from training.baselines import baselines
from training.datasets import load_dataset
from training.figures import balanced_accuracy, confusion_matrix, macro_f1, roc_auc, wilson


def answers(classes: int, count: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(classes)
    labels = torch.randint(0, classes, (count,), generator=random)
    logits = torch.randn(count, classes, generator=random).double() + 1.5 * torch.eye(classes)[labels]
    return (logits * 4).round().softmax(1), labels  # rounded: some scores are equal


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_they_are_those_of_scikit_learn(classes: int) -> None:
    probabilities, labels = answers(classes)
    predicted = probabilities.argmax(1)
    confusion = confusion_matrix(predicted, labels, classes)
    assert confusion.tolist() == metrics.confusion_matrix(labels, predicted).tolist()
    assert balanced_accuracy(confusion) == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert macro_f1(confusion) == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    scores = probabilities[:, 1] if classes == 2 else probabilities
    assert roc_auc(probabilities, labels) == pytest.approx(
        metrics.roc_auc_score(labels, scores, multi_class="ovr")
    )


def test_an_area_needs_both_sides() -> None:
    probabilities, _ = answers(2)
    assert roc_auc(probabilities, torch.zeros(200, dtype=torch.long)) is None


def test_intervals_hold_the_share_and_stay_inside() -> None:
    low, high = wilson(50, 100)
    assert [low, high] == pytest.approx([0.4038, 0.5962], abs=1e-4)
    assert list(wilson(10, 10)) == pytest.approx([0.7225, 1.0], abs=1e-4)
    assert wilson(0, 10)[0] == 0


def test_baselines_say_what_is_reached_without_a_network(tmp_path: Path) -> None:
    imported(tmp_path, "discs", ("blue", "green", "red"), 30, side=40)
    found = baselines(load_dataset("discs@1", tmp_path, tmp_path))
    assert found["majority"].accuracy == pytest.approx(1 / 3, abs=0.01)
    assert found["majority"].auc == 0.5
    assert found["majority"].accuracy < found["logistic-regression"].accuracy <= 1
    assert found["logistic-regression"].nll > 0
