"""ONNX models: what a graph takes and gives, its process, and what is refused."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import models.graphs.runner
from models import checkpoint
from models.classifier import Classifier
from models.errors import CheckpointError, GraphFailed
from models.export import to_onnx
from models.graphs.module import Graph
from models.graphs.runner import Limits
from models.verification import load_verified
from tests import onnx_files
from tests.conftest import WEIGHTS
from training.datasets import Dataset
from training.foreign.adoption import adopt
from training.foreign.order import Order, check_order

PICTURES = torch.randint(
    0, 256, (300, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def adopted(data: bytes, dataset: Dataset | None = None, **said: object) -> Classifier:
    return adopt("mine", data, Order.model_validate(check_order(said)), dataset, False).classifier


def graph(classifier: Classifier) -> Graph:
    assert isinstance(classifier.model, Graph)
    return classifier.model


@pytest.fixture(scope="module")
def served() -> Classifier:
    return adopted(onnx_files.linear().SerializeToString())


@pytest.mark.parametrize("name", ["digits", "minist"])
def test_our_own_export_comes_back_as_the_same_model(name: str, cpu: torch.device, tmp_path: Path) -> None:
    original = Classifier.load(WEIGHTS / f"{name}.pth", cpu)
    data = to_onnx(original)
    found = adopted(data)
    assert (found.probabilities(PICTURES) - original.probabilities(PICTURES)).abs().max() < 1e-4
    kept = ("classes", "preprocessing", "polarity", "shape")
    assert [getattr(found.card.picture, name, None) for name in kept] == [
        getattr(original.card.picture, name, None) for name in kept
    ]
    assert found.card.classes == original.card.classes
    checkpoint.save(found.model, found.card, tmp_path)
    again, _ = load_verified(tmp_path / "mine.pth", cpu)
    assert torch.equal(again.probabilities(PICTURES), found.probabilities(PICTURES))
    assert again.card.parameters > 10_000
    whole = adopted((tmp_path / "mine.pth").read_bytes())  # its export as a state_dict
    assert bytes(graph(whole).onnx.numpy()) == data


def test_how_pixels_are_scaled_is_tried_on_pictures(sample: Dataset) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    train, _ = sample.hold_out(100, 0)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(30):
        optimizer.zero_grad()
        images = train.images.float() / 255 * 2 - 1
        nn.functional.cross_entropy(net(images), train.labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = adopted(onnx_files.exported(net, batch=1), sample)
    assert found.card.picture.mean == (0.5,)
    assert found.card.metrics["test"].accuracy > 0.6
    expected = net(PICTURES.float() / 255 * 2 - 1).softmax(1)
    assert (found.probabilities(PICTURES) - expected).abs().max() < 1e-4
    assert graph(found).fixed == 1


def test_layouts_types_and_softmax() -> None:
    weights = onnx_files.line()
    flat = PICTURES.flatten(1).numpy() / np.float32(255)
    expected = torch.from_numpy(flat @ weights["w"] + weights["b"]).softmax(1)
    whole = onnx_files.line(kind=np.float16)
    for model, layout, gives, fixed in (
        (onnx_files.linear(taken=("N", 784)), "flat", "logits", 0),
        (onnx_files.linear("Softmax", taken=("N", 28, 28, 1)), "nhwc", "probabilities", 0),
        (onnx_files.linear("LogSoftmax", taken=(7, 1, 28, 28)), "nchw", "logits", 7),
        (onnx_files.linear(kind=TensorProto.FLOAT16, weights=whole), "nchw", "logits", 0),
    ):
        found = adopted(model.SerializeToString())
        assert found.card.input_shape == (1, 28, 28)
        assert (graph(found).layout, graph(found).gives, graph(found).fixed) == (layout, gives, fixed)
        assert (found.probabilities(PICTURES) - expected).abs().max() < 0.02
        assert len(found.probabilities(PICTURES[:3])) == 3
    colour = onnx_files.linear(taken=("N", "H", "W", 3), weights=onnx_files.line(features=768))
    assert adopted(colour.SerializeToString(), size=16, channels=3).card.input_shape == (3, 16, 16)


def test_a_graph_that_takes_one_picture_at_a_time_gets_one() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "one"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]
    model = onnx_files.model(nodes, weights={"one": np.array([1, 784]), **onnx_files.line()})
    found = adopted(model.SerializeToString())
    assert graph(found).fixed == 1
    expected = adopted(onnx_files.linear().SerializeToString()).probabilities(PICTURES[:9])
    assert torch.allclose(found.probabilities(PICTURES[:9]), expected, atol=1e-5)


def of_bytes(data: bytes) -> bytes:
    return data


def damaged() -> bytes:
    model = onnx_files.linear()
    model.graph.initializer[0].raw_data = b"1234"
    return model.SerializeToString()


def inside_a_branch() -> bytes:
    """The path to another file hides in the attribute of a node of a branch."""
    tensor = numpy_helper.from_array(np.zeros(10, np.float32), "c")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../card.json"
    result = [helper.make_tensor_value_info("r", TensorProto.FLOAT, [10])]
    branch = helper.make_graph([helper.make_node("Constant", [], ["r"], value=tensor)], "b", [], result)
    nodes = [
        helper.make_node("If", ["yes"], ["c"], then_branch=branch, else_branch=branch),
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "c"], ["y"]),
    ]
    return onnx_files.model(nodes, weights={"yes": np.array(True), **onnx_files.line()}).SerializeToString()


NAN = {**onnx_files.line(), "b": np.full(10, np.nan, np.float32)}
REFUSED: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "other file": (lambda: onnx_files.outside().SerializeToString(), "weights in other files"),
    "absolute": (lambda: onnx_files.outside("/etc/passwd").SerializeToString(), "weights in other files"),
    "inside": (inside_a_branch, "weights in other files"),
    "domain": (
        lambda: onnx_files.model(
            [helper.make_node("Evil", ["x"], ["y"], domain="com.example")]
        ).SerializeToString(),
        "com.example.Evil",
    ),
    "NaN": (lambda: onnx_files.linear(weights=NAN).SerializeToString(), "infinities or NaN in 'b'"),
    "damaged": (damaged, "is damaged|cannot be read|can be read"),
    "truncated": (lambda: onnx_files.linear().SerializeToString()[:5000], "no ONNX model that can be read"),
    "two outputs": (
        lambda: onnx_files.linear(outputs=("y", "z")).SerializeToString(),
        "1 inputs and 2 outputs",
    ),
    "text": (lambda: onnx_files.linear(kind=TensorProto.STRING).SerializeToString(), "can be read|neither"),
    "channels": (lambda: onnx_files.linear(taken=("N", 4, 14, 14)).SerializeToString(), "4 channels"),
    "any size": (lambda: onnx_files.linear(taken=("N", 1, "H", "W")).SerializeToString(), "any size"),
    "other size": (lambda: onnx_files.linear(taken=("N", 1, 32, 32)).SerializeToString(), "gives no answers"),
    "rank": (lambda: onnx_files.linear(taken=("N", 28, 28)).SerializeToString(), "neither"),
    "one class": (
        lambda: onnx_files.linear(
            weights={"w": np.zeros((784, 1), np.float32), "b": np.zeros(1, np.float32)}
        ).SerializeToString(),
        "one figure",
    ),
    "not two axes": (
        lambda: onnx_files.model([helper.make_node("Identity", ["x"], ["y"])]).SerializeToString(),
        "gives no",
    ),
    "memory": (lambda: onnx_files.huge().SerializeToString(), "gives no answers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_served_is_a_sentence(name: str) -> None:
    make, said = REFUSED[name]
    with pytest.raises(CheckpointError, match=said) as found:
        adopted(make())
    assert "/" not in str(found.value).replace("[channels, height, width]", "")


def test_an_endless_loop_meets_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.graphs.runner, "LIMITS", Limits(cpu_seconds=1))
    with pytest.raises(CheckpointError, match="took more than 1 CPU seconds"):
        adopted(onnx_files.endless().SerializeToString())


def test_a_process_that_is_killed_is_replaced(served: Classifier) -> None:
    before, pid = served.probabilities(PICTURES[:5]), graph(served).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert torch.equal(served.probabilities(PICTURES[:5]), before)
    assert graph(served).pid not in (None, pid)


def test_a_process_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.graphs.runner, "LIMITS", Limits(wall_seconds=2.0))
    found = adopted(onnx_files.linear().SerializeToString())
    pid = graph(found).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(GraphFailed, match="did not answer within 2 s"):
        found.probabilities(PICTURES[:5])
    assert len(found.probabilities(PICTURES[:5])) == 5


def test_a_process_ends_with_its_model() -> None:
    found = adopted(onnx_files.linear().SerializeToString())
    pid = graph(found).pid
    assert pid is not None
    del found
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.1)
    pytest.fail("its process goes on")


def test_without_the_runtime_a_version_is_damaged(
    served: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    checkpoint.save(served.model, served.card, tmp_path)
    monkeypatch.setattr(models.graphs.runner, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"pip install 'minist\[onnx\]'"):
        load_verified(tmp_path / "mine.pth", cpu)
