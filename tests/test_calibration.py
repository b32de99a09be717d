"""Probabilities that mean what they say."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.card import Card
from models.classifier import Classifier
from tests.conftest import SAMPLE, WEIGHTS
from training.__main__ import main
from training.calibration import fit_temperature
from training.datasets import Dataset
from training.evaluation import evaluate
from training.recipes import RECIPES
from training.reliability import brier, reliability, scores
from training.run import Run, train


def drawn(rows: int, seed: int, sharpness: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [rows, 10], and labels drawn from their own softmax: perfectly calibrated."""
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(rows, 10, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)


def with_temperature(classifier: Classifier, temperature: float) -> Classifier:
    return replace(classifier, card=classifier.card.model_copy(update={"temperature": temperature}))


@pytest.fixture(scope="module")
def cnn() -> Classifier:
    return Classifier.load(WEIGHTS / "cnn.pth", torch.device("cpu"))


@settings(max_examples=20, deadline=None)
@given(temperature=st.floats(0.1, 10))
def test_a_temperature_changes_no_answer(temperature: float, cnn: Classifier, sample: Dataset) -> None:
    """Only how sure it is; the rows still sum to 1."""
    images = sample.test.images[:50]
    probabilities = with_temperature(cnn, temperature).probabilities(images)
    assert torch.equal(probabilities.argmax(1), cnn.logits(images).argmax(1))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(50, dtype=torch.float64))


def test_a_higher_temperature_is_less_sure(cnn: Classifier, sample: Dataset) -> None:
    images = sample.test.images
    sure = [
        with_temperature(cnn, t).probabilities(images).max(1).values.mean().item() for t in (0.5, 1.0, 2.0, 4.0)
    ]
    assert sure == sorted(sure, reverse=True)


def test_perfectly_calibrated_predictions_have_hardly_any_error() -> None:
    logits, labels = drawn(200_000, seed=0)
    assert scores(logits, labels).ece < 0.005
    assert scores(logits, labels, temperature=0.5).ece > 0.1
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.02)


def test_calibration_error_by_hand() -> None:
    """Four images in two bins: 0.9 sure and half right, 0.65 sure and all right."""
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.65, 0.35], [0.35, 0.65]])
    bins = reliability(probabilities, torch.tensor([0, 1, 0, 1]))
    assert bins.error == pytest.approx((2 * 0.4 + 2 * 0.35) / 4, abs=1e-6)
    assert bins.count.tolist() == [0] * 9 + [2] + [0] * 3 + [2, 0]
    assert bins.accuracy[13] == 0.5


def test_every_image_is_in_one_bin_even_at_the_edges() -> None:
    probabilities = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    assert reliability(probabilities, torch.tensor([0, 1, 0])).count.sum() == 3


def test_brier_score_by_hand() -> None:
    probabilities = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
    assert brier(probabilities, torch.tensor([0, 0, 0])).item() == pytest.approx((0 + 0.5 + 2) / 3)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.3, 4), seed=st.integers(0, 50))
def test_the_fit_undoes_any_scale_of_the_logits(factor: float, seed: int) -> None:
    logits, labels = drawn(500, seed)
    fitted = fit_temperature(logits, labels)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor * fitted, rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), other=st.floats(0.2, 5))
def test_no_other_temperature_is_better_by_likelihood_and_brier_score(seed: int, other: float) -> None:
    """The fitted one lies between the best of each."""
    logits, labels = drawn(300, seed, sharpness=3)
    fitted = scores(logits, labels, fit_temperature(logits, labels))
    others = scores(logits, labels, other)
    assert fitted.brier <= others.brier + 1e-9 or fitted.nll <= others.nll + 1e-9


def test_images_that_tell_nothing_leave_the_temperature_alone() -> None:
    """All right, it would go to 0; all wrong, to infinity."""
    logits, _ = drawn(50, seed=0)
    assert fit_temperature(logits, logits.argmax(1)) == 1
    assert fit_temperature(logits, logits.argmin(1)) == 1


def test_scores_stay_finite_for_logits_out_of_all_bounds() -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    assert all(math.isfinite(value) for value in scores(logits, torch.tensor([1, 1])).model_dump().values())


def test_a_run_keeps_its_temperature_on_the_card(tmp_path: Path, cpu: torch.device) -> None:
    config = RECIPES["softmax-mnist"].config(epochs=2, validation_images=100)
    card = train(Run.create(tmp_path / "run", config), SAMPLE, cpu, lambda event: None)
    test = card.metrics["test"]
    assert card.temperature != 1
    assert test.uncalibrated is not None
    assert test.calibrated is not None
    assert test.uncalibrated.nll == pytest.approx(test.loss)
    assert Classifier.load(tmp_path / "run" / "softmax-mnist.pth", cpu).card == card


def test_without_a_validation_split_none_is_fitted_and_the_card_says_so(
    tmp_path: Path, cpu: torch.device
) -> None:
    config = RECIPES["softmax-mnist"].config(epochs=1, validation_images=0)
    card = train(Run.create(tmp_path / "run", config), SAMPLE, cpu, lambda event: None)
    assert card.temperature == 1
    assert card.metrics["test"].calibrated is None
    assert card.metrics["test"].uncalibrated is not None
    report = (tmp_path / "run" / "report.html").read_text()
    assert "no images were held out" in report


def test_a_card_from_before_still_loads() -> None:
    old = json.loads((WEIGHTS / "cnn.json").read_text())
    for key in ("temperature", "cpu_seconds"):
        old.pop(key, None)
    for metrics in old["metrics"].values():
        for key in ("uncalibrated", "calibrated"):
            metrics.pop(key, None)
    card = Card.model_validate(old)
    assert card.temperature == 1
    assert card.metrics["test"].uncalibrated is None


def test_evaluation_judges_the_probabilities_that_are_served(cnn: Classifier, sample: Dataset) -> None:
    calibrated = with_temperature(cnn, 2.0)
    evaluation = evaluate(calibrated, sample.test)
    served = calibrated.probabilities(sample.test.images)
    torch.testing.assert_close(evaluation.probabilities, served, rtol=0, atol=1e-5)
    assert evaluation.metrics.calibrated is not None
    assert evaluation.metrics.calibrated.brier == pytest.approx(
        brier(served, sample.test.labels).item(), abs=1e-6
    )


def test_calibrate_rewrites_the_card_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the validation split that the card records; the weights file stays as it is."""
    config = RECIPES["softmax-mnist"].config(epochs=2, validation_images=100)
    card = train(Run.create(tmp_path, config), SAMPLE, torch.device("cpu"), lambda event: None)
    weights, path = tmp_path / "softmax-mnist.pth", tmp_path / "softmax-mnist.json"
    before = weights.read_bytes()
    path.write_text(card.model_copy(update={"temperature": 1.0, "metrics": {}}).model_dump_json())
    assert main(["calibrate", str(weights), "--data-dir", str(SAMPLE), "--device", "cpu"]) == 0
    assert weights.read_bytes() == before
    assert Card.model_validate_json(path.read_text()) == card
    printed = capsys.readouterr().out
    assert f"softmax-mnist: temperature {card.temperature:.4f}" in printed
    assert re.search(
        r"after +calibration: .*Brier score 0\.\d{4}, expected calibration error \d+\.\d\d%", printed
    )


def test_calibrate_refuses_other_data_and_cards_without_a_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in (".pth", ".json"):
        shutil.copy(WEIGHTS / f"cnn{suffix}", tmp_path)
    words = ["calibrate", str(tmp_path / "cnn.pth"), "--data-dir", str(SAMPLE), "--device", "cpu"]
    assert main(words) == 1
    assert "holds another mnist than cnn was trained on" in capsys.readouterr().err
    card = Card.model_validate_json((tmp_path / "cnn.json").read_text())
    (tmp_path / "cnn.json").write_text(card.model_copy(update={"training": None}).model_dump_json())
    assert main(words) == 1
    assert "records no validation split" in capsys.readouterr().err
