"""Doubt: how unusual a picture is for a model, and the warning where it is like none that the model knows."""

import io
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pydantic import ValidationError
from starlette.testclient import TestClient
from torch import Tensor

from benchmarks.doubt import warned
from models import checkpoint
from models.architectures import build, identify
from models.background import Distance
from models.card import Novelty, read_card
from models.classifier import Classifier
from models.errors import CheckpointError, UnknownArchitecture
from models.inference import InferenceModel
from models.networks import Digits
from models.verification import load_verified
from tests.conftest import SAMPLE, WEIGHTS
from tests.samples import PICTURES
from training.datasets import Dataset, Split
from training.novelty import FAMILIAR, STEPS, measured, of_scores
from training.recipes import RECIPES, Config
from training.run import Run, train
from training.simulated import generated
from training.synthetic.unfamiliar import unfamiliar

CPU = torch.device("cpu")
SCORES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9).map(sorted)


def novelty(scores: Sequence[float], threshold: float = 0.9) -> Novelty:
    return Novelty(method="confidence", pictures=9, scores=tuple(scores), threshold=threshold)


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def smiley() -> bytes:
    image = Image.new("L", (200, 200), 255)
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 30, 170, 170), outline=0, width=8)
    for x in (75, 125):
        draw.ellipse((x - 8, 72, x + 8, 88), fill=0)
    draw.arc((65, 70, 135, 140), 20, 160, fill=0, width=8)
    return png(image)


def letter() -> bytes:
    image = Image.new("L", (200, 200), 255)
    draw = ImageDraw.Draw(image)
    for line in ((40, 170, 100, 30), (100, 30, 160, 170), (65, 115, 135, 115)):
        draw.line(line, fill=0, width=12)
    return png(image)


def noise() -> bytes:
    return png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)))


@given(SCORES, st.floats(-2e6, 2e6), st.floats(-2e6, 2e6))
def test_novelty_is_a_share_that_grows_with_the_score(scores: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    found = novelty(scores)
    assert 0 <= found.of(low) <= found.of(high) <= 1
    assert found.of(scores[0] - 1) == 0
    assert found.of(scores[-1]) == 1


def test_novelty_lies_between_the_held_out_pictures_that_are_less_and_more_unusual() -> None:
    found = novelty([0.0, 1.0, 3.0])
    assert [found.of(score) for score in (0.5, 1.0, 2.0, 4.0)] == [0.25, 0.5, 0.75, 1.0]


def test_scores_that_do_not_ascend_are_no_card() -> None:
    with pytest.raises(ValidationError, match="ascend"):
        novelty([1.0, 0.0])


@pytest.mark.parametrize("name", sorted(path.stem for path in WEIGHTS.glob("*.json")))
def test_every_shipped_model_has_it(name: str) -> None:
    found = read_card(WEIGHTS / f"{name}.json").novelty
    assert found is not None
    assert found.method == ("background" if name in ("digits", "fashion") else "confidence")


def test_of_held_out_pictures_as_many_are_more_unusual_as_the_threshold_says(sample: Dataset) -> None:
    classifier = Classifier.load(WEIGHTS / "cnn.pth", CPU)
    found = classifier.with_novelty(measured(classifier, sample.test))
    shares = [prediction.novelty for prediction in found.predict(sample.test.images)]
    assert len(measured(classifier, sample.test).scores) == STEPS + 1
    assert np.mean([share is not None and share > 0.9 for share in shares]) == pytest.approx(0.1, abs=0.02)


def test_few_held_out_pictures_call_nothing_unfamiliar(sample: Dataset) -> None:
    classifier = Classifier.load(WEIGHTS / "cnn.pth", CPU)
    assert measured(classifier, sample.test[:99]).threshold == 1
    assert measured(classifier, sample.test).threshold == pytest.approx(FAMILIAR, abs=0.01)


@pytest.mark.parametrize("held_out", [100, 150, 400, 5000])
def test_as_many_pictures_to_come_are_unfamiliar_however_few_were_held_out(held_out: int) -> None:
    draws = torch.Generator().manual_seed(0)
    warned = []
    for _ in range(400):
        told = of_scores(torch.randn(held_out, generator=draws, dtype=torch.float64), "background")
        level = float(np.interp(told.threshold, np.linspace(0, 1, STEPS + 1), told.scores))
        warned.append(1 - NormalDist().cdf(level))
    assert np.mean(warned) == pytest.approx(1 - FAMILIAR, abs=0.0025)


@pytest.mark.parametrize("picture", [smiley, letter, noise])
def test_what_is_no_digit_is_unfamiliar(client: TestClient, picture: "type[bytes]") -> None:
    answer = client.post("/predict", files={"file": picture()}).json()
    assert answer["warning"]["type"] == "unfamiliar"
    assert answer["novelty"] > read_card(WEIGHTS / "digits.json").novelty.threshold  # type: ignore[union-attr]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert set(answer["probabilities"]) == set("0123456789")


def test_digits_are_not_unfamiliar(client: TestClient, digits: dict[str, bytes]) -> None:
    for label, picture in digits.items():
        answer = client.post("/predict", files={"file": picture}).json()
        assert "warning" not in answer, label
        assert 0 <= answer["novelty"] <= 1


def test_photographs_of_digits_are_seldom_unfamiliar(client: TestClient) -> None:
    files = sorted(path for path in PICTURES.iterdir() if path.suffix != ".json")
    sent = [("files", path.read_bytes()) for path in files]
    answers = client.post("/predict/batch", files=sent).json()
    warned = [answer.get("warning", {}).get("type") == "unfamiliar" for answer in answers]
    assert np.mean(warned) <= 0.03


def test_a_batch_doubts_as_single_answers_do(client: TestClient, digits: dict[str, bytes]) -> None:
    pictures = [digits["7"], letter(), noise()]
    single = [client.post("/predict", files={"file": one}).json() for one in pictures]
    batch = client.post("/predict/batch", files=[("files", one) for one in pictures]).json()
    assert [one["novelty"] for one in batch] == pytest.approx([one["novelty"] for one in single], abs=1e-3)
    assert ["warning" in one for one in batch] == ["warning" in one for one in single] == [False, True, True]


def test_each_digit_of_a_number_has_its_novelty(client: TestClient) -> None:
    number = (Path(__file__).parent.parent / "examples" / "number.jpg").read_bytes()
    found = client.post("/predict?read=number", files={"file": number}).json()
    assert all(0 <= digit["novelty"] <= 1 for digit in found["digits"])


def test_other_protocols_have_probabilities_alone(client: TestClient) -> None:
    images = {"name": "input", "datatype": "UINT8", "shape": [1, 1, 28, 28], "data": [0] * 784}
    found = client.post("/v2/models/digits/infer", json={"inputs": [images]}).json()
    assert {tuple(one["shape"]) for one in found["outputs"] if one["datatype"] == "FP32"} == {(1, 10)}


@pytest.mark.parametrize("name", ["digits", "garments"])
def test_its_layers_are_recognised_without_a_card(name: str) -> None:
    expected = (name, {"classes": 10, "background": True})
    assert identify(build(name, background=True).state_dict()) == expected


def test_the_serving_form_judges_as_the_model_does(sample: Dataset) -> None:
    classifier = Classifier.load(WEIGHTS / "digits.pth", CPU)
    form = InferenceModel(classifier)
    form.freeze()
    images = torch.cat([sample.test.images[:20], unfamiliar(20, 0)])
    assert form(images).shape == (40, 11)
    torch.testing.assert_close(form(images), classifier.answers(images), rtol=1e-4, atol=1e-4)


def test_a_card_of_another_method_than_its_layers_is_refused(tmp_path: Path) -> None:
    classifier = Classifier.load(WEIGHTS / "cnn.pth", CPU)
    wrong = novelty([0.0, 1.0]).model_copy(update={"method": "background"})
    checkpoint.save(classifier.model, classifier.card.model_copy(update={"novelty": wrong}), tmp_path)
    with pytest.raises(CheckpointError, match="novelty"):
        load_verified(tmp_path / "cnn.pth", CPU)


def test_a_distance_scores_what_is_far_from_all_classes() -> None:
    """Also where a class had no pictures, a feature never changed, and features go together."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 2
    known = torch.randn(300, 4, generator=random) + 5 * labels[:, None]
    known[:, 2], known[:, 3] = 1, known[:, 0] + 0.01 * known[:, 3]
    distance = Distance(4, 3)
    distance.fit(known, torch.zeros(300, 3), labels)
    usual = distance(known, torch.zeros(300, 3)).quantile(0.99)
    between = torch.tensor([[2.5, 2.5, 1.0, 2.5]])
    apart, other = torch.tensor([[0.0, 0.0, 1.0, 2.0]]), torch.tensor([[0.0, 0.0, 3.0, 0.0]])
    for strange in (between, apart, other, 1e6 * other):
        assert distance(strange, torch.zeros(1, 3)) > usual
        assert distance(strange, torch.zeros(1, 3)).isfinite()


def test_a_distance_grows_where_no_logit_stands_out() -> None:
    random = torch.Generator().manual_seed(0)
    features, logits = torch.randn(200, 4, generator=random), torch.randn(200, 2, generator=random)
    distance = Distance(4, 2)
    distance.fit(features, logits, torch.arange(200) % 2)
    sure, unsure = torch.tensor([[4.0, -4.0]]), torch.tensor([[-4.0, -4.0]])
    assert distance(features[:1], unsure) > distance(features[:1], sure)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A model of small-image, trained on 400 digits as if these were pictures of one's own."""
    few = {"epochs": 4, "validation_images": 100}
    run = Run.create(tmp_path_factory.mktemp("own") / "run", RECIPES["small-image"].config(name="mine", **few))
    train(run, SAMPLE, CPU, lambda event: None)
    return load_verified(run.weights_path, CPU)[0]


def strange_pictures(known: Tensor) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    photographs = torch.nn.functional.interpolate(
        torch.rand(50, 1, 7, 7, generator=random), (28, 28), mode="bicubic"
    )
    return {
        "noise": torch.randint(0, 256, (50, 1, 28, 28), dtype=torch.uint8, generator=random),
        "blank": torch.linspace(0, 255, 50).byte().view(-1, 1, 1, 1).expand(-1, 1, 28, 28),
        "dark on light": 255 - known,
        "blurred": (photographs.clamp(0, 1) * 255).byte(),
    }


def test_a_model_of_ones_own_pictures_is_warned_by_what_it_saw(own: Classifier, sample: Dataset) -> None:
    assert own.card.novelty is not None
    assert own.card.novelty.method == "background"
    assert warned(own, sample.test.images) <= 0.05
    shares = {kind: warned(own, images) for kind, images in strange_pictures(sample.test.images).items()}
    assert min(shares.values()) > 0.95, shares


def test_darker_pictures_are_seldom_a_warning(own: Classifier, sample: Dataset) -> None:
    darker = (0.75 * sample.test.images.float()).byte()
    assert warned(own, darker) <= 0.06


def test_the_form_that_serves_measures_the_same_distance(own: Classifier, sample: Dataset) -> None:
    form = InferenceModel(own)
    form.freeze()
    images = torch.cat([sample.test.images[:20], *strange_pictures(sample.test.images[:20]).values()])
    assert form(images).shape == (len(images), 11)
    torch.testing.assert_close(form(images), own.answers(images), rtol=1e-4, atol=1e-4)
    assert own.logits(images).shape == (len(images), 10)


def test_a_model_from_before_distances_is_served_by_its_confidence(own: Classifier, tmp_path: Path) -> None:
    arguments = {name: value for name, value in own.card.arguments.items() if name != "background"}
    before = build("small-image", **arguments)
    known = own.model.state_dict()
    before.load_state_dict({name: known[name] for name in before.state_dict()})
    novelty_of_old = novelty([0.0, 0.5])
    card = own.card.model_copy(update={"arguments": arguments, "novelty": novelty_of_old})
    checkpoint.save(before, card, tmp_path)
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    old = load_verified(tmp_path / "mine.pth", CPU)[0]
    assert old.answers(images).shape == (2, 10)
    assert torch.allclose(old.probabilities(images), own.probabilities(images))


@pytest.mark.parametrize(("background", "others"), [(0, 2), (1, 2), (2, 0), (2, 1)])
def test_training_starts_from_weights_with_another_background(
    background: int, others: int, tmp_path: Path
) -> None:
    start, other = build("digits", background=background), build("digits", background=others)
    torch.save(start.state_dict(), tmp_path / "start.pth")
    checkpoint.load_into(other, tmp_path / "start.pth")
    assert torch.equal(other.state_dict()["fc2.weight"], start.state_dict()["fc2.weight"])


@pytest.mark.parametrize("background", [0, 1, 2])
def test_weights_without_a_card_tell_what_their_background_sees(background: int, tmp_path: Path) -> None:
    saved = build("digits", background=background).eval()
    torch.save({f"module.{name}": tensor for name, tensor in saved.state_dict().items()}, tmp_path / "bare.pth")
    found, name, arguments = checkpoint.load_bare(tmp_path / "bare.pth")
    assert isinstance(found, Digits)
    assert isinstance(saved, Digits)
    assert (name, arguments.get("background", 0)) == ("digits", background)
    images = torch.rand(3, 1, 28, 28)
    if background:
        assert torch.equal(found.eval().judge(images), saved.judge(images))


def test_a_background_that_fits_no_convolutions_is_refused(tmp_path: Path) -> None:
    weights = build("digits", background=1).state_dict()
    weights["background.0.weight"] = torch.zeros(64, 3 * 576)
    torch.save(weights, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"background.0.weight of shape \[64, 1728\]"):
        checkpoint.load_bare(tmp_path / "bare.pth")


@pytest.mark.parametrize("background", [3, -1, 1.5, "all", 10**12, [1], None])
def test_a_card_may_ask_for_no_other_background(background: object) -> None:
    with pytest.raises(UnknownArchitecture, match="does not take these arguments"):
        build("digits", background=background)


def test_a_background_that_learns_on_alone_leaves_the_answers_as_they_are(
    sample: Dataset, tmp_path: Path
) -> None:
    shipped = str(WEIGHTS / "digits.pth")
    kept = {"init_from": shipped, "teacher": shipped, "teacher_share": 1.0, "epochs": 1}
    run = Run.create(tmp_path / "run", config(unfamiliar_images=400, lr=0.003, background_epochs=3, **kept))
    train(run, SAMPLE, CPU, lambda event: None)
    before, after = (Classifier.load(path, CPU) for path in (WEIGHTS / "digits.pth", run.weights_path))
    images = sample.test.images
    assert torch.equal(after.logits(images), before.logits(images))
    known, other = (after.answers(some)[:, -1] for some in (images, unfamiliar(60, 9)))
    assert not torch.equal(known, before.answers(images)[:, -1])
    assert other.median() > known.median()


def test_a_teacher_is_followed_in_what_it_knows(sample: Dataset, tmp_path: Path) -> None:
    few = {"epochs": 1, "lr": 1e-9, "ema_decay": 0, "teacher_share": 0.75}
    run = Run.create(tmp_path / "run", config(teacher=str(WEIGHTS / "digits.pth"), **few))
    train(run, SAMPLE, CPU, lambda event: None)
    result = checkpoint.load(run.weights_path, CPU)[0].state_dict()["fc2.weight"]
    torch.manual_seed(0)
    fresh = build("digits", background=True).state_dict()["fc2.weight"]
    teacher = torch.load(WEIGHTS / "digits.pth", weights_only=True)["fc2.weight"]
    torch.testing.assert_close(result, 0.25 * fresh + 0.75 * teacher, rtol=0, atol=1e-4)


def config(**settings: object) -> Config:
    counts = {"synthetic_images": 40, "written_images": 40, "unfamiliar_images": 60, "validation_images": 300}
    return RECIPES["digits"].config(name="mine", **{**counts, **settings})


def test_simulated_pictures_are_made_once(sample: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "generated.npz"
    made = generated(config(), sample.train, 10, path)
    again = generated(config(seed=5), sample.train, 10, path)  # of a run that is resumed
    assert made is not None
    assert again is not None
    assert torch.equal(made.images, again.images)
    assert torch.equal(made.labels, again.labels)
    assert torch.bincount(made.labels, minlength=11)[10] == 60


def test_a_run_learns_what_is_no_digit(sample: Dataset, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config(epochs=4, unfamiliar_images=600, lr=0.004))
    card = train(run, SAMPLE, CPU, lambda event: None)
    classifier = Classifier.load(run.weights_path, CPU)
    assert card.novelty is not None
    assert card.novelty.method == "background"
    assert not run.files.generated.exists()
    known, other = (classifier.answers(images)[:, -1] for images in (sample.test.images, unfamiliar(60, 9)))
    assert other.median() > known.median()


def test_pictures_of_what_is_no_digit_are_for_digits() -> None:
    with pytest.raises(ValidationError, match="unfamiliar_images"):
        RECIPES["mlp"].config(unfamiliar_images=10)
    with pytest.raises(ValidationError, match="digits only"):
        RECIPES["fashion"].config(written_images=10)


def test_unfamiliar_pictures_are_repeatable() -> None:
    found = unfamiliar(30, 4)
    assert found.shape == (30, 1, 28, 28)
    assert torch.equal(found, unfamiliar(30, 4))
    assert Split(found, torch.zeros(30)).images.amax((1, 2, 3)).min() > 40
