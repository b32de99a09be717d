"""Weights that were trained elsewhere: what is told from names and shapes, what is tried, what is refused."""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from models import checkpoint
from models.architectures import build
from models.card import Card, Input, read_card
from models.classifier import Classifier
from models.errors import CheckpointError, ModelError, UnknownArchitecture
from models.inference import InferenceModel
from models.layers import costs, describe, read_layers, summary
from models.verification import load_verified
from tests.conftest import WEIGHTS
from training.datasets import Dataset
from training.errors import TrainingError
from training.foreign.adoption import Adopted, adopt
from training.foreign.advice import advised
from training.foreign.order import Order, check_order
from training.foreign.parts import row_of
from training.foreign.readings import readings


class Example(nn.Module):
    """The layers of PyTorch's MNIST example, and its forward."""

    def __init__(self, first: int = 32, second: int = 64, hidden: int = 128) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, first, 3, 1)
        self.conv2 = nn.Conv2d(first, second, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(144 * second, hidden)
        self.fc2 = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        x = F.relu(self.fc1(self.dropout1(x).flatten(1)))
        return F.log_softmax(self.fc2(x), dim=1)


class Tutorial(nn.Module):
    """The network of PyTorch's quickstart, narrower, with another activation."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU, width: int = 48) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(784, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear_relu_stack(self.flatten(x))
        return logits


class Old(nn.Module):
    """conv1, conv2, fc1, fc2 with pooling after each convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, 10)


class Apart(nn.Module):
    """All convolutions first, then what normalises them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3)
        self.bn1, self.bn2 = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16 * 144, 10)


class Named(nn.Module):
    """Names whose order in the alphabet is another."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layer, self.hidden = nn.Linear(784, 100), nn.Linear(100, 50)
        self.output = nn.Linear(50, 10, bias=False)


def lenet() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            c1=nn.Conv2d(1, 6, 5, padding=2), c2=nn.Conv2d(6, 16, 5),
            f1=nn.Linear(400, 120), f2=nn.Linear(120, 84), f3=nn.Linear(84, 10),
        )
    )  # fmt: skip


def numbered(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


def trained(net: nn.Module, sample: Dataset, mean: float, std: float, epochs: int) -> nn.Module:
    """On the pictures that are not held out."""
    torch.manual_seed(0)
    train, _ = sample.hold_out(100, 0)
    images, labels = (train.images.float() / 255 - mean) / std, train.labels
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for index in torch.split(torch.randperm(len(labels)), 50):
            optimizer.zero_grad()
            F.cross_entropy(net(images[index]), labels[index]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return net.eval()


def accuracy(net: nn.Module, sample: Dataset, mean: float, std: float) -> float:
    with torch.inference_mode():
        answers = net((sample.test.images.float() / 255 - mean) / std).argmax(1)
    return (answers == sample.test.labels).double().mean().item()


def saved(what: object) -> bytes:
    stream = io.BytesIO()
    torch.save(what, stream)
    return stream.getvalue()


def read(data: bytes, dataset: Dataset | None = None, fit: bool = False, **card: Any) -> Adopted:
    return adopt("mine", data, Order.model_validate(check_order(card)), dataset, fit)


@pytest.fixture(scope="module")
def example(sample: Dataset) -> nn.Module:
    torch.manual_seed(1)
    return trained(Example(6, 8, 32), sample, 0.1307, 0.3081, 5)


@pytest.fixture(scope="module")
def tutorial(sample: Dataset) -> nn.Module:
    torch.manual_seed(1)
    return trained(Tutorial(nn.Tanh, 32), sample, 0.0, 1.0, 25)


# -- what names and shapes tell --------------------------------------------------------------------------

TOLD: Mapping[str, tuple[Callable[[], nn.Module], str]] = {
    "PyTorch's example": (
        Example,
        "conv1 (conv2d 1-32 3x3), relu, conv2 (conv2d 32-64 3x3), relu, maxpool 2, flatten, "
        "fc1 (linear 9216-128), relu, fc2 (linear 128-10)",
    ),
    "two poolings": (
        Old,
        "conv1 (conv2d 1-10 5x5), relu, maxpool 2, conv2 (conv2d 10-20 5x5), relu, maxpool 2, flatten, "
        "fc1 (linear 320-50), relu, fc2 (linear 50-10)",
    ),
    "LeNet": (
        lenet,
        "c1 (conv2d 1-6 5x5 padding 2), relu, maxpool 2, c2 (conv2d 6-16 5x5), relu, maxpool 2, flatten, "
        "f1 (linear 400-120), relu, f2 (linear 120-84), relu, f3 (linear 84-10)",
    ),
    "quickstart": (
        Tutorial,
        "flatten, linear_relu_stack.0 (linear 784-48), relu, linear_relu_stack.2 (linear 48-48), relu, "
        "linear_relu_stack.4 (linear 48-10)",
    ),
    "normalised apart": (
        Apart,
        "conv1 (conv2d 1-16 3x3), bn1 (batchnorm), relu, conv2 (conv2d 16-16 3x3), bn2 (batchnorm), relu, "
        "maxpool 2, flatten, fc (linear 2304-10)",
    ),
    "names in no order": (
        Named,
        "flatten, input_layer (linear 784-100), relu, hidden (linear 100-50), relu, output (linear 50-10)",
    ),
    "numbers tell where pooling is": (
        lambda: numbered(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 49, 10),
        ),
        "0 (conv2d 1-8 3x3 padding 1), relu, 2 (conv2d 8-8 3x3 padding 1), relu, maxpool 2, "
        "5 (conv2d 8-16 3x3 padding 1), relu, 7 (conv2d 16-16 3x3 padding 1), relu, maxpool 2, flatten, "
        "11 (linear 784-10)",
    ),
    "numbers tell that there is no activation": (
        lambda: numbered(nn.BatchNorm1d(784), nn.Linear(784, 20), nn.Linear(20, 10)),
        "flatten, 0 (batchnorm), 1 (linear 784-20), 2 (linear 20-10)",
    ),
    "layernorm": (
        lambda: numbered(nn.Linear(784, 20), nn.LayerNorm(20), nn.GELU(), nn.Linear(20, 10)),
        "flatten, 0 (linear 784-20), 1 (layernorm), relu, 3 (linear 20-10)",
    ),
    "colour": (
        lambda: numbered(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 196, 4)),
        "0 (conv2d 3-6 5x5), relu, maxpool 2, flatten, 4 (linear 1176-4)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOLD)
@pytest.mark.parametrize("ordered", [True, False], ids=["pth", "safetensors"])
def test_layers_are_told_from_names_and_shapes(kind: str, ordered: bool) -> None:
    make, expected = TOLD[kind]
    net = make()
    weights = net.state_dict() if ordered else dict(sorted(net.state_dict().items()))
    best = readings(row_of(weights, ordered), None)[0]
    assert summary(best.layers()) == expected
    model = build("sequential", layers=describe(best.layers()), input_shape=best.shape)
    model.load_state_dict(net.state_dict(), strict=True)


WRAPPED: Mapping[str, Callable[[dict[str, Tensor]], bytes]] = {
    "DataParallel": lambda w: saved({f"module.{key}": value for key, value in w.items()}),
    "torch.compile": lambda w: saved({f"_orig_mod.{key}": value for key, value in w.items()}),
    "checkpoint": lambda w: saved({"epoch": 3, "model_state_dict": w}),
    "safetensors": lambda w: safetensors(dict(w)),
    "parameters": lambda w: saved({key: nn.Parameter(value) for key, value in w.items()}),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_are_taken_off_and_peoples_own_keys_stay(
    kind: str, example: nn.Module, tmp_path: Path
) -> None:
    weights = example.state_dict()
    adopted = read(WRAPPED[kind](weights), mean=0.1307, std=0.3081)
    card = checkpoint.save(adopted.classifier.model, adopted.classifier.card, tmp_path)
    assert card.architecture == "sequential"
    kept = torch.load(tmp_path / "mine.pth", weights_only=True)
    assert {key: value.shape for key, value in kept.items()} == {k: v.shape for k, v in weights.items()}
    Example(6, 8, 32).load_state_dict(kept)
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    with torch.inference_mode():
        expected = example((images.float() / 255 - 0.1307) / 0.3081).double().softmax(1)
    loaded, served = load_verified(tmp_path / "mine.pth", torch.device("cpu"))
    for answers in (loaded.probabilities(images), served(images)):
        assert torch.allclose(answers, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_is_taken_counters_too(dtype: torch.dtype) -> None:
    net = Apart()
    adopted = read(saved({key: value.to(dtype) for key, value in net.state_dict().items()}))
    found = adopted.classifier.model.state_dict()
    assert {value.dtype for value in found.values()} == {torch.float32, torch.int64}
    assert torch.allclose(found["fc.weight"], net.fc.weight, atol=1e-3)


def test_a_lightning_module_keeps_its_names() -> None:
    weights = {f"net.{key}": value for key, value in Tutorial().state_dict().items()}
    adopted = read(saved({"pytorch-lightning_version": "2.4", "state_dict": weights, "callbacks": {}}))
    assert list(adopted.classifier.model.state_dict()) == list(weights)


def test_registered_architectures_come_first(sample: Dataset) -> None:
    data = (WEIGHTS / "cnn.pth").read_bytes()
    card = read(data, sample).classifier.card
    assert card.architecture == "cnn"
    shipped = read_card(WEIGHTS / "cnn.json")
    classifier = Classifier.load(WEIGHTS / "cnn.pth", torch.device("cpu"))
    right = classifier.probabilities(sample.test.images).argmax(1) == sample.test.labels
    assert abs(card.metrics["test"].accuracy - right.double().mean().item()) < 0.01
    assert isinstance(card.input, Input)
    assert card.input.preprocessing == shipped.picture.preprocessing


def test_a_whole_card_says_it_all_and_its_figures_count_for_nothing() -> None:
    shipped = read_card(WEIGHTS / "digits.json")
    order = Order.model_validate(shipped.model_dump(mode="json"))
    adopted = adopt("mine", (WEIGHTS / "digits.pth").read_bytes(), order, None, False)
    card = adopted.classifier.card
    assert (card.input, card.classes, card.temperature) == (shipped.input, shipped.classes, shipped.temperature)
    assert (card.name, card.metrics, card.dataset) == ("mine", {}, None)


# -- what is tried on pictures ---------------------------------------------------------------------------


def test_normalisation_and_pooling_are_found_by_pictures(example: nn.Module, sample: Dataset) -> None:
    adopted = read(saved(example.state_dict()), sample, fit=True)
    card = adopted.classifier.card
    assert card.metrics["test"].accuracy >= accuracy(example, sample, 0.1307, 0.3081) - 0.02
    assert card.metrics["test"].images == 200
    assert card.temperature != 1
    notes = " ".join(card.notes)
    for told in (
        "conv1 (conv2d 1-6 3x3)",
        "inferred",
        "validation pictures",
        "MNIST's mean and std",
        "measured on",
    ):
        assert told in notes
    assert card.classes == sample.classes
    assert (card.picture.preprocessing, card.picture.polarity) == ("digit", "light-on-dark")


def test_the_activation_is_found_by_validation_pictures(tutorial: nn.Module, sample: Dataset) -> None:
    card = read(saved(tutorial.state_dict()), sample).classifier.card
    assert card.metrics["test"].accuracy == accuracy(tutorial, sample, 0.0, 1.0)
    assert {layer["kind"] for layer in card.arguments["layers"]} == {"flatten", "linear", "tanh"}
    said = read(saved(tutorial.state_dict()), sample, activation="sigmoid").classifier.card
    assert "tanh" not in {layer["kind"] for layer in said.arguments["layers"]}


def test_what_the_card_says_is_not_tried(example: nn.Module, sample: Dataset) -> None:
    card = read(
        saved(example.state_dict()), sample, mean=0.5, std=0.25, polarity="dark-on-light"
    ).classifier.card
    assert (card.picture.mean, card.picture.std, card.picture.polarity) == ((0.5,), (0.25,), "dark-on-light")


def test_a_card_that_is_not_so_is_refused(sample: Dataset) -> None:
    data = saved(nn.Sequential(nn.Linear(400, 10)).state_dict())
    layers = [{"kind": "flatten"}, {"kind": "linear", "name": "0", "inputs": 400, "outputs": 10}]
    arguments = {"layers": layers, "input_shape": [1, 20, 20]}
    assert read(data, architecture="sequential", arguments=arguments).classifier.card.input_shape == (1, 20, 20)
    with pytest.raises(ModelError, match="does not take the pictures of mnist"):
        read(data, sample, architecture="sequential", arguments=arguments)
    with pytest.raises(ModelError, match="gets 784 numbers"):
        read(data, sample, architecture="sequential", arguments={"layers": layers})
    with pytest.raises(ModelError, match="no architecture 'resnet'"):
        read(data, architecture="resnet")


def test_an_activation_that_is_said_is_taken_for_known_keys_too() -> None:
    card = read(saved(build("mlp-256").state_dict()), activation="tanh").classifier.card
    assert [layer["kind"] for layer in card.arguments["layers"]] == ["flatten", "linear", "tanh", "linear"]
    assert read(saved(build("mlp-256").state_dict())).classifier.card.architecture == "mlp-256"


def test_without_a_data_set_every_assumption_is_said(example: nn.Module) -> None:
    card = read(saved(example.state_dict())).classifier.card
    notes = " ".join(card.notes)
    for told in ("relu between the layers", "maxpool behind conv2", "ways that fit", "pixels 0..1", "classes"):
        assert told in notes
    assert card.metrics == {}
    named = read(saved(example.state_dict()), classes=[f"c{i}" for i in range(10)], mean=0.1307, std=0.3081)
    assert named.classifier.card.classes[9] == "c9"
    assert named.classifier.card.picture.preprocessing == "size"


def test_random_weights_are_measured_and_said_to_be_no_better_than_chance(sample: Dataset) -> None:
    torch.manual_seed(0)
    card = read(saved(nn.Sequential(nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10)).state_dict()), sample)
    assert card.classifier.card.metrics["test"].accuracy < 0.3


def test_what_does_not_go_with_the_data_set_is_refused(example: nn.Module, sample: Dataset) -> None:
    data = saved(example.state_dict())
    with pytest.raises(TrainingError, match="classes are not those of mnist"):
        read(data, sample, classes=[f"c{i}" for i in range(10)])
    with pytest.raises(TrainingError, match="7 outputs, mnist has 10"):
        read(saved(nn.Sequential(nn.Linear(784, 7)).state_dict()), sample)
    with pytest.raises(ModelError, match="takes 400 numbers in a row, and gets 784"):
        read(saved(nn.Sequential(nn.Linear(400, 10)).state_dict()), sample)
    with pytest.raises(TrainingError, match="name one"):
        read(data, fit=True)
    with pytest.raises(CheckpointError, match="10 outputs, the card names 2 classes"):
        read(data, classes=["a", "b"])


# -- what is refused -------------------------------------------------------------------------------------


class Runs:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.path,)


def stack(**changes: Tensor) -> bytes:
    return saved({**nn.Sequential(nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10)).state_dict(), **changes})


def scripted() -> bytes:
    stream = io.BytesIO()
    traced = torch.jit.trace(nn.Sequential(nn.Linear(784, 10)), torch.zeros(1, 784))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, stream)
    return stream.getvalue()


def zipped(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return stream.getvalue()


SHARED = torch.zeros(16, 16)
REFUSED: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "TorchScript": (scripted, r"TorchScript.*torch\.jit\.load\(\"model\.pt\"\)\.state_dict\(\)"),
    "whole model": (lambda: saved(Tutorial()), r"Python objects .*torch\.save\(model\.state_dict\(\)"),
    "pickle": (lambda: pickle.dumps({"w": [1.0]}), "damaged|state_dict"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "Keras"),
    "Keras": (lambda: zipped(**{"config.json": b"{}", "model.weights.h5": b"\x89HDF"}), "Keras"),
    "TensorFlow": (lambda: b"\x08\x01\x12\xae\x05\n" + bytes(100), "TensorFlow"),
    "ONNX": (lambda: b"\x08\x08\x12\x07pytorch" + bytes(100), "no ONNX model that can be read"),
    "joblib": (lambda: b"x\x9c" + bytes(100), "joblib"),
    "truncated": (lambda: stack()[:3000], "damaged"),
    "NaN": (lambda: stack(**{"0.bias": torch.full((16,), float("nan"))}), "infinities or NaN in 0.bias"),
    "complex": (lambda: stack(**{"0.bias": torch.zeros(16, dtype=torch.complex64)}), "complex64"),
    "integers": (lambda: stack(**{"0.bias": torch.zeros(16, dtype=torch.int8)}), "int8"),
    "sparse": (lambda: stack(**{"0.weight": torch.zeros(16, 784).to_sparse()}), "sparse"),
    "expanded": (lambda: stack(**{"0.weight": torch.zeros(1, 1).expand(16, 784)}), "expanded"),
    "shared": (
        lambda: saved({f"{i}.weight": SHARED if i else torch.zeros(16, 784) for i in range(40)}),
        "share their numbers",
    ),
    "residual": (
        lambda: saved({"layer1.0.conv1.weight": torch.zeros(4, 4, 3, 3), "fc.weight": torch.zeros(3, 4)}),
        "not of layers in a row.*fits best",
    ),
    "attention": (lambda: saved(nn.MultiheadAttention(16, 2).state_dict()), "in_proj_weight"),
    "pruned": (lambda: stack(**{"0.weight_mask": torch.zeros(16, 784)}), "prune.remove"),
    "nearest": (
        lambda: saved({key: value for key, value in build("cnn").state_dict().items() if "conv2" not in key}),
        r"'cnn' fits best: missing conv2\.weight, conv2\.bias",
    ),
    "odd width": (lambda: saved(nn.Sequential(nn.Linear(123, 10)).state_dict()), "input_shape"),
    "two orders": (
        lambda: safetensors({f"{n}.weight": torch.zeros(9, 9) for n in "ab"} | {"c.weight": torch.zeros(9, 5)}),
        "more than one order|do not follow",
    ),
    "one output": (lambda: saved(nn.Sequential(nn.Linear(784, 1)).state_dict()), "do not fit|two or more"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_everything_else_is_refused_with_what_to_do(kind: str) -> None:
    make, expected = REFUSED[kind]
    with pytest.raises(ModelError) as caught:
        read(make())
    sentence = advised(str(caught.value))
    assert re.search(expected, sentence), sentence
    assert "\n" not in sentence
    assert "weights_only" not in sentence
    assert len(sentence) < 1500


def test_what_is_too_costly_to_serve_is_refused() -> None:
    wide = nn.Sequential(nn.Conv2d(1, 512, 3), nn.Conv2d(512, 4, 1))
    with pytest.raises(ModelError, match="numbers at a time for a picture"):
        read(saved(wide.state_dict()), input_shape=[1, 224, 224])


def test_a_payload_does_not_run(tmp_path: Path) -> None:
    for data in (saved({"w": Runs(tmp_path / "owned")}), pickle.dumps(Runs(tmp_path / "owned"))):
        with pytest.raises(ModelError):
            read(data)
    assert not (tmp_path / "owned").exists()


def test_a_card_cannot_ask_for_more_than_is_served() -> None:
    wide = {"kind": "linear", "name": "a", "inputs": 784, "outputs": 2**24}
    for layers, told in (
        ([{"kind": "flatten"}, wide, {**wide, "name": "b", "inputs": 2**24}], "at most"),
        ([{"kind": "conv2d", "name": "a", "inputs": 1, "outputs": 9, "kernel": [30, 30]}], "smaller"),
        ([{"kind": "flatten"}, {**wide, "name": "forward", "outputs": 3}], "cannot be called"),
        ([{"kind": "softmax"}], "cannot be read"),
        ([{"kind": "linear", "name": "a", "inputs": 5, "outputs": 3}], "takes 5 numbers in a row"),
        ([{"kind": "relu"}], "two or more classes"),
    ):
        with pytest.raises(UnknownArchitecture, match=told), torch.device("meta"):
            build("sequential", layers=layers)


def test_a_card_is_checked_before_the_file() -> None:
    for card, told in (
        ({"mean": 0.1}, "go together"),
        ({"std": [0.0], "mean": [0.0]}, "positive"),
        ({"classes": ["a", "a"]}, "different"),
        ({"clases": ["a", "b"]}, "Extra inputs"),
        ({"height": 28}, "go together"),
        ({"mean": float("nan"), "std": 1}, "finite"),
    ):
        with pytest.raises(ValueError, match=told):
            check_order(card)
    assert check_order({"size": 28, "channels": 3, "mean": 0.5, "std": 0.5})["mean"] == [0.5, 0.5, 0.5]
    assert check_order({"input_shape": [3, 32, 48]}) == {"channels": 3, "height": 32, "width": 48}


def test_the_form_that_serves_layers_in_a_row_is_the_fast_one(example: nn.Module, tmp_path: Path) -> None:
    adopted = read(saved(example.state_dict()), mean=0.1307, std=0.3081)
    form = InferenceModel(adopted.classifier)
    form.freeze()
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    assert torch.allclose(form(images), adopted.classifier.probabilities(images), atol=1e-5)


def test_costs_follow_the_layers() -> None:
    layers = read_layers(describe(readings(row_of(Example().state_dict(), True), None)[0].layers()))
    found = costs(layers, (1, 28, 28))
    assert (found.classes, found.multiplications) == (
        10,
        26 * 26 * 32 * 9 + 24 * 24 * 64 * 288 + 9216 * 128 + 1280,
    )


def test_the_card_of_such_a_model_is_read_back(example: nn.Module, tmp_path: Path) -> None:
    adopted = read(saved(example.state_dict()))
    card = checkpoint.save(adopted.classifier.model, adopted.classifier.card, tmp_path)
    assert Card.model_validate_json(card.model_dump_json()) == card
    order = Order.model_validate(card.model_dump(mode="json"))
    again = adopt("mine", (tmp_path / "mine.pth").read_bytes(), order, None, False)
    assert again.classifier.card.arguments == card.arguments
