"""Images in, Predictions out."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.classifier import BATCH, Classifier, Prediction
from models.devices import choose_device
from models.errors import BrokenImage, ImageError, ModelError
from tests.conftest import SHIPPED, WEIGHTS
from training.datasets import Dataset
from training.evaluation import evaluate


@pytest.fixture(scope="module", params=SHIPPED)
def classifier(request: pytest.FixtureRequest, cpu: torch.device) -> Classifier:
    return Classifier.load(WEIGHTS / f"{request.param}.pth", cpu)


def test_probabilities_are_a_distribution_over_the_cards_classes(
    classifier: Classifier, sample: Dataset
) -> None:
    for prediction in classifier.predict(sample.test.images):
        assert len(prediction.probabilities) == len(classifier.card.classes)
        assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-9)
        assert min(prediction.probabilities) >= 0
        assert prediction.probability == max(prediction.probabilities)
        assert prediction.label == classifier.card.classes[prediction.index]


def test_an_image_gets_the_same_answer_alone_and_in_any_company(
    classifier: Classifier, sample: Dataset
) -> None:
    images = torch.cat([sample.train.images, sample.test.images])
    assert len(images) > 2 * BATCH
    together = classifier.probabilities(images)
    for index in (0, BATCH - 1, BATCH, len(images) - 1):
        alone = classifier.probabilities(images[index : index + 1])[0]
        torch.testing.assert_close(alone, together[index], atol=1e-5, rtol=0)


def test_shipped_digit_models_read_digits(cpu: torch.device, sample: Dataset) -> None:
    for name in ("digits", "minist", "cnn"):
        metrics = evaluate(Classifier.load(WEIGHTS / f"{name}.pth", cpu), sample.test).metrics
        assert metrics.accuracy >= 0.96
        assert metrics.images == 200
        assert 0 < metrics.loss < 0.2


def test_no_images_give_no_predictions(classifier: Classifier) -> None:
    assert classifier.predict(torch.zeros(0, 1, 28, 28, dtype=torch.uint8)) == []
    assert classifier.classify([]) == []


@settings(max_examples=30, deadline=None)
@given(good=st.lists(st.booleans(), max_size=12))
def test_a_bad_image_spoils_no_other(good: list[bool], cpu: torch.device, digits: dict[str, bytes]) -> None:
    model = Classifier.load(WEIGHTS / "minist.pth", cpu)
    sent = [digits[str(i % 10)] if fine else digits["0"][:100] for i, fine in enumerate(good)]
    answers = model.classify(sent)
    assert len(answers) == len(good)
    for i, (fine, answer) in enumerate(zip(good, answers, strict=True)):
        if fine:
            assert isinstance(answer, Prediction)
            assert answer.label == str(i % 10)
        else:
            assert isinstance(answer, BrokenImage | ImageError)


def test_a_file_without_a_card_is_told_by_its_keys(tmp_path: Path, cpu: torch.device, sample: Dataset) -> None:
    shipped = Classifier.load(WEIGHTS / "cnn.pth", cpu)
    bare = tmp_path / "somebody.pth"
    bare.write_bytes((WEIGHTS / "cnn.pth").read_bytes())
    card = shipped.card.model_copy(update={"architecture": "mlp", "arguments": {}})
    found = Classifier.from_bare_weights(bare, card, cpu)
    assert found.card.architecture == "cnn"
    torch.testing.assert_close(found.logits(sample.test.images), shipped.logits(sample.test.images))


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ModelError, match="choose auto"):
        choose_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="cannot be used here"):
            choose_device("cuda")
