"""What is written by hand, against torch.nn, autograd and the textbook's own numbers."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from models.architectures import build
from models.classifier import Classifier
from tests.conftest import SAMPLE
from training import regression, scratch
from training.__main__ import main
from training.datasets import Dataset
from training.errors import TrainingError
from training.loop import Trainer
from training.recipes import FROM_SCRATCH, RECIPES
from training.run import Run, train

TOLERANCE = 1e-6


def tensors(rows: int, columns: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def test_the_textbooks_cross_entropy_of_logits() -> None:
    loss = scratch.softmax_loss(torch.tensor([[0.2, 0.1, -0.1]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(0.9730, abs=1e-4)  # 0.97292; the notes round it up


@pytest.mark.parametrize(
    ("predicted", "nats"), [([0.4, 0.3, 0.05, 0.05, 0.2], 0.916), ([0.98, 0.01, 0.0, 0.0, 0.01], 0.0202)]
)
def test_the_textbooks_cross_entropy_of_distributions(predicted: list[float], nats: float) -> None:
    """Against a one-hot target it is the divergence too, and the negative log-likelihood."""
    target, q = torch.tensor([1.0, 0, 0, 0, 0]), torch.tensor(predicted)
    assert scratch.cross_entropy(target, q).item() == pytest.approx(nats, abs=5e-4)
    assert scratch.entropy(target) == 0
    assert scratch.kl_divergence(target, q).item() == pytest.approx(-q[0].log().item(), abs=TOLERANCE)


@given(seed=st.integers(0, 10_000))
def test_cross_entropy_is_divergence_plus_entropy(seed: int) -> None:
    p, q = tensors(4, 6, seed).softmax(1), tensors(4, 6, seed + 1).softmax(1)
    divergence = F.kl_div(q.log(), p, reduction="none").sum(1)
    torch.testing.assert_close(scratch.kl_divergence(p, q), divergence, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(scratch.cross_entropy(p, q), divergence + scratch.entropy(p))
    assert (scratch.kl_divergence(p, q) >= 0).all()


@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1.0, 30.0, 1e4]))
def test_softmax_and_its_loss_are_the_librarys(seed: int, scale: float) -> None:
    logits, labels = tensors(5, 7, seed, scale), torch.arange(5) % 7
    torch.testing.assert_close(scratch.softmax(logits), logits.softmax(1), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(
        scratch.softmax_loss(logits, labels), F.cross_entropy(logits, labels), atol=TOLERANCE, rtol=TOLERANCE
    )


@given(rows=st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_softmax_stays_a_distribution_for_any_logits(rows: list[list[float]]) -> None:
    """In float32, where exp(1e4) overflows; rows may lie far from one another."""
    logits = torch.tensor(rows)
    probabilities = scratch.softmax(logits)
    assert probabilities.isfinite().all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(rows)))
    assert scratch.log_softmax(logits).isfinite().all()
    assert scratch.softmax_loss_gradient(logits, torch.zeros(len(rows), dtype=torch.long)).isfinite().all()


def test_each_row_loses_its_own_maximum() -> None:
    """The maximum of the whole batch would round a row that lies far below it to 0 / 0."""
    logits = torch.tensor([[1e4, 0.0], [-1e4, -1e4]])
    assert scratch.softmax(logits).tolist() == [[1, 0], [0.5, 0.5]]


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_losses_and_gradients_are_autograds(name: str, sample: Dataset) -> None:
    """Same start, same batch: the serving module with the library's loss, and the hand-written pass."""
    torch.manual_seed(0)
    model = build(name).double()
    images, labels = sample.train.images[:64].double() / 255, sample.train.labels[:64]
    logits = model(images)
    expected = F.cross_entropy(logits, labels)
    torch.autograd.backward(expected)
    gradients = {key: weight.grad for key, weight in model.named_parameters()}
    loss, by_hand = scratch.backward(name, model, images, labels)
    torch.testing.assert_close(loss, expected.detach(), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(by_hand, logits.detach(), atol=TOLERANCE, rtol=0)
    for key, weight in model.named_parameters():
        assert weight.grad is not gradients[key]
        torch.testing.assert_close(weight.grad, gradients[key], atol=TOLERANCE, rtol=0)


def test_w_and_b_map_onto_the_linear_layers_of_torch_nn() -> None:
    by_hand, linear = build("softmax-scratch"), build("softmax")
    weights = by_hand.state_dict()
    linear.load_state_dict({"linear.weight": weights["W"].T, "linear.bias": weights["b"]})
    images = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(by_hand(images), linear(images), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_a_whole_epoch_by_hand_ends_where_the_library_ends(
    name: str, sample: Dataset, cpu: torch.device
) -> None:
    def after_one_epoch(optimizer: str) -> nn.Module:
        config = RECIPES[name].config(optimizer=optimizer, batch_size=32, validation_images=0)
        trainer = Trainer(config, sample.train, 10, cpu)
        trainer.run_epoch(lambda event: None)
        return trainer.model

    ours, theirs = after_one_epoch("from-scratch"), after_one_epoch("sgd")
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=0)  # float32, 16 steps


def test_squared_loss_and_its_gradients_are_autograds() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = scratch.synthetic_line(torch.tensor([2.0, -1.2]), 3.1, 10, 0.01, generator)
    layer = nn.Linear(2, 1)
    expected = F.mse_loss(layer(x).squeeze(1), y) / 2
    torch.autograd.backward(expected)
    weights = {"w": layer.weight.detach()[0], "b": layer.bias.detach()[0]}
    loss, _, gradients = scratch.linear_regression(weights, x, y)
    assert layer.weight.grad is not None
    torch.testing.assert_close(loss, expected.detach(), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(gradients["w"], layer.weight.grad[0], atol=TOLERANCE, rtol=TOLERANCE)
    assert layer.bias.grad is not None
    torch.testing.assert_close(gradients["b"], layer.bias.grad[0], atol=TOLERANCE, rtol=TOLERANCE)


@given(rows=st.integers(1, 40), size=st.integers(1, 50))
def test_minibatches_hold_every_row_once(rows: int, size: int) -> None:
    x = torch.arange(rows)
    batches = list(scratch.minibatches(x, -x, size, torch.Generator().manual_seed(rows)))
    assert sorted(int(i) for features, _ in batches for i in features) == list(range(rows))
    assert all(torch.equal(features, -targets) for features, targets in batches)
    assert all(len(features) == size for features, _ in batches[:-1])


@pytest.mark.parametrize(
    "other",
    [{"momentum": 0.5}, {"weight_decay": 0.1}, {"loss": "double-softmax"}, {"architecture": "mlp"}],
)
def test_what_is_not_written_by_hand_is_refused_by_field(other: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="choose optimizer sgd") as refused:
        RECIPES["mlp-scratch"].config(**other)
    (field,) = refused.value.errors()[0]["loc"]
    assert field in (*other, "optimizer")
    RECIPES["mlp-scratch"].config(**other, optimizer="sgd")


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_a_result_by_hand_is_served_like_any_other(
    name: str, tmp_path: Path, sample: Dataset, cpu: torch.device
) -> None:
    config = RECIPES[name].config(dataset="mnist", epochs=4, batch_size=16, validation_images=100)
    train(Run.create(tmp_path / "run", config), SAMPLE, cpu, lambda event: None)
    classifier = Classifier.load(tmp_path / "run" / f"{name}.pth", cpu)
    predicted = torch.tensor([prediction.index for prediction in classifier.predict(sample.test.images)])
    assert (predicted == sample.test.labels).float().mean() > 0.5


def test_linear_regression_recovers_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipe", "linear-regression", "--out", str(tmp_path / "line")]) == 0
    assert "off by at most 0.00" in capsys.readouterr().out
    weights = torch.load(tmp_path / "line" / "linear-regression.pth", weights_only=True)
    torch.testing.assert_close(weights["w"], torch.tensor([2.0, -1.2]), atol=0.01, rtol=0)
    torch.testing.assert_close(weights["b"], torch.tensor(3.1), atol=0.01, rtol=0)
    names = {"config.json", "metrics.jsonl", "resume.pt", "curves.png"}
    names |= {"linear-regression.pth", "linear-regression.json"}
    assert {path.name for path in (tmp_path / "line").iterdir()} == names
    assert main(["report", str(tmp_path / "line")]) == 1
    assert "has no report" in capsys.readouterr().err
    lines = (tmp_path / "line" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_an_interrupted_line_ends_with_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(epoch: regression.LineEpoch) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    for name in ("undisturbed", "broken"):
        regression.create(tmp_path / name, regression.Config(epochs=4))
    regression.train(tmp_path / "undisturbed", lambda epoch: None)
    with pytest.raises(KeyboardInterrupt):
        regression.train(tmp_path / "broken", interrupt)
    assert main(["--resume", str(tmp_path / "broken")]) == 0
    assert "epoch 3/4" in capsys.readouterr().out
    weights = [(tmp_path / name / "linear-regression.pth").read_bytes() for name in ("undisturbed", "broken")]
    assert weights[0] == weights[1]


def test_a_line_is_not_overwritten_and_takes_only_its_own_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    regression.create(tmp_path, regression.Config())
    with pytest.raises(TrainingError, match="--resume"):
        regression.create(tmp_path, regression.Config())
    assert main(["--recipe", "linear-regression", "--momentum", "0.5", "--out", str(tmp_path / "new")]) == 2
    assert "error: momentum: Extra inputs are not permitted" in capsys.readouterr().err
