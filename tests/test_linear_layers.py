"""Linear layers forward and back without autograd."""

import copy

import pytest
import torch
from torch.nn import functional as F

from tests.samples import config
from training.datasets import Dataset
from training.linear_layers import cross_entropy
from training.loop import Trainer


@pytest.mark.parametrize("recipe", ["mlp", "mlp-adam", "fashion-mlp", "softmax", "softmax-mnist"])
def test_gradients_are_autograds_to_the_last_bit(recipe: str, sample: Dataset, cpu: torch.device) -> None:
    trainer = Trainer(config(recipe), sample.train, 10, cpu)
    images, labels = sample.train.images[:64].float() / 255, sample.train.labels[:64]
    expected = copy.deepcopy(trainer.model)
    logits = expected(images)
    torch.autograd.backward(F.cross_entropy(logits, labels))
    assert trainer.layers is not None
    by_hand = trainer.layers.forward(images)
    loss, gradient = cross_entropy(by_hand, labels)
    trainer.layers.backward(gradient)
    assert torch.equal(by_hand, logits)
    assert torch.equal(loss, F.cross_entropy(logits, labels))
    for ours, theirs in zip(trainer.model.parameters(), expected.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("loss", ["cross-entropy", "brier", "double-softmax"])
@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_an_epoch_by_hand_ends_with_the_weights_of_an_epoch_by_autograd(
    loss: str, smoothing: float, sample: Dataset, cpu: torch.device
) -> None:
    by_hand, by_autograd = (
        Trainer(config(loss=loss, label_smoothing=smoothing), sample.train, 10, cpu) for _ in range(2)
    )
    by_autograd.layers = None
    assert by_hand.run_epoch(lambda event: None) == by_autograd.run_epoch(lambda event: None)
    for ours, theirs in zip(by_hand.model.parameters(), by_autograd.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_other_layers_and_other_precisions_are_left_to_autograd(sample: Dataset, cpu: torch.device) -> None:
    assert Trainer(config("cnn"), sample.train, 10, cpu).layers is None
    assert Trainer(config(precision="bfloat16"), sample.train, 10, cpu).layers is None
