"""Handwriting of our own: many ways of each digit, in hands that differ."""

import numpy as np
import pytest
import torch

from models.classifier import Classifier
from tests import hard_shapes
from tests.conftest import WEIGHTS
from training.synthetic.hands import WAYS, Hand, Way, drawn, hand_written, ink_of, moved
from training.synthetic.rendering import Writer

EVERY_WAY = [(label, way) for label, ways in WAYS.items() for _, way in ways]


@pytest.fixture(scope="module")
def digits() -> Classifier:
    return Classifier.load(WEIGHTS / "digits.pth", torch.device("cpu"))


def share_right(digits: Classifier, images: np.ndarray, labels: list[int]) -> float:
    with torch.inference_mode():
        found = digits.logits(torch.from_numpy(images)).argmax(1)
    return float((found == torch.tensor(labels)).float().mean())


def test_a_seed_repeats_the_images() -> None:
    labels = np.arange(30) % 10
    images = hand_written(labels, 3)
    assert images.shape == (30, 1, 28, 28)
    assert images.dtype == np.uint8
    assert (images == hand_written(labels, 3)).all()
    assert (images != hand_written(labels, 4)).any()


def test_images_are_as_the_preprocessing_leaves_them() -> None:
    images = hand_written(np.arange(60) % 10, 5)[:, 0]
    assert (images.reshape(60, -1).max(1) >= 250).all()
    for image in images:
        rows, columns = np.nonzero(image > 40)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in range(17, 22)  # scaled into a box of 20


@pytest.mark.parametrize(("label", "way"), EVERY_WAY, ids=lambda v: getattr(v, "__name__", str(v)))
def test_every_way_keeps_to_its_box_and_differs_each_time(label: int, way: Way) -> None:
    random = np.random.default_rng(label)
    for _ in range(40):
        points = np.concatenate(way(random))
        assert np.isfinite(points).all()
        assert -0.75 < points[:, 0].min() < points[:, 0].max() < 1.25
        assert -0.3 < points[:, 1].min() < points[:, 1].max() < 1.3
    one, other = way(random), way(random)
    assert [len(stroke) for stroke in one] != [len(s) for s in other] or not np.allclose(one[0], other[0])


def test_a_hand_keeps_its_slant_and_its_pen() -> None:
    random = np.random.default_rng(0)
    hand = Hand.any(random)
    upright = [np.array([[0.3, 0.0], [0.3, 1.0]])]
    slants = [np.subtract(*(moved(upright, hand, random)[0][[0, -1], 0])) for _ in range(20)]
    assert np.std(slants) < 0.12
    thin, thick = (drawn(upright, hand, 100, pen, random) for pen in (0.03, 0.12))
    assert thin.sum() * 2 < thick.sum()


@pytest.mark.parametrize("side", [12, 64, 300])
def test_ink_fills_the_size_that_was_asked_for(side: int) -> None:
    random = np.random.default_rng(1)
    ink = ink_of(4, Hand.any(random), side, random)
    assert abs(max(ink.shape) - side) <= 1
    assert ink.dtype == np.float32
    assert ink.max() == 1
    assert (ink > 0.2).any(0).mean() > 0.8  # no room around it


def test_a_writer_of_our_own_needs_no_other_digits() -> None:
    writer = Writer(
        np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64), np.random.default_rng(2), our_share=1
    )
    for label in range(10):
        ink = writer.ink(label, 100, 0.05)
        assert ink.shape == (100, 100)
        assert 60 <= np.ptp(np.nonzero(ink > 0.5)[0]) + 1 <= 72 or np.ptp(np.nonzero(ink > 0.5)[1]) >= 60


def test_the_shipped_model_reads_most_of_what_they_write(digits: Classifier) -> None:
    labels = [i % 10 for i in range(400)]
    assert share_right(digits, hand_written(labels, 11), labels) >= 0.94


def test_the_shipped_model_reads_most_hard_shapes(digits: Classifier) -> None:
    images, labels, _ = hard_shapes.images()
    assert share_right(digits, images[:, None], labels) >= 0.91
