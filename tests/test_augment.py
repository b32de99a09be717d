"""Each image its own draw."""

import pytest
import torch

from tests.samples import config
from training.augment import PRESETS
from training.datasets import Dataset

ACTIVE = [name for name, draw in PRESETS.items() if draw is not None]


def drawn(name: str, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    draw = PRESETS[name]
    assert draw is not None
    return draw(images.float(), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ACTIVE)
def test_images_stay_images(name: str, sample: Dataset) -> None:
    images = drawn(name, sample.train.images)
    assert images.shape == sample.train.images.shape
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 255


@pytest.mark.parametrize("name", ACTIVE)
def test_every_image_has_its_own_draw(name: str, sample: Dataset) -> None:
    same = sample.train.images[:1].repeat(30, 1, 1, 1)
    assert len(torch.unique(drawn(name, same).flatten(1), dim=0)) > 25


@pytest.mark.parametrize("name", ACTIVE)
def test_a_seed_repeats_the_draw_and_the_original_stays(name: str, sample: Dataset) -> None:
    before = sample.train.images.clone()
    assert torch.equal(drawn(name, sample.train.images), drawn(name, sample.train.images))
    assert not torch.equal(drawn(name, sample.train.images), drawn(name, sample.train.images, seed=1))
    assert torch.equal(before, sample.train.images)


def test_digits_keep_their_ink_and_their_place(sample: Dataset) -> None:
    """On average neither thinned out nor moved."""
    images = sample.train.images.float()
    new = drawn("strong", images)
    assert 0.6 < new.mean() / images.mean() < 1.5
    rows = torch.arange(28.0)
    for dims in ((0, 1, 2), (0, 1, 3)):
        centres = [(batch.sum(dims) @ rows / batch.sum()).item() for batch in (images, new)]
        assert centres[0] == pytest.approx(centres[1], abs=0.4)


def test_none_is_none(sample: Dataset, cpu: torch.device) -> None:
    assert PRESETS[config().augment] is None
