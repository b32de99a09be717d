"""The simulator that the development set comes from."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.samples import PICTURES
from training.datasets import Dataset
from training.synthetic.development_set import simulate
from training.synthetic.rendering import Writer, skeletonize
from training.synthetic.scenes import KINDS
from training.synthetic.split import synthetic_split


@pytest.fixture(scope="module")
def writer(sample: Dataset) -> Writer:
    images, labels = sample.train.images[:, 0].numpy(), sample.train.labels.numpy()
    return Writer(images, labels, np.random.default_rng(3))


def test_every_kind_of_picture_is_an_image(writer: Writer) -> None:
    pictures = simulate(writer, 3)
    assert {kind for kind, _, _ in pictures} == set(KINDS)
    for kind, label, (data, ending) in pictures:
        image = Image.open(io.BytesIO(data))
        assert image.format == {"png": "PNG", "jpg": "JPEG"}[ending]
        assert 0 <= label <= 2
        side = 8 if kind == "small-counts" else 16
        assert image.size == (side, side) or not kind.startswith("small")
        assert (image.mode == "RGBA") == (kind == "tablet")


def test_the_shipped_set_is_small_and_whole() -> None:
    labels = json.loads((PICTURES / "labels.json").read_text())
    assert set(labels) == {path.name for path in PICTURES.iterdir()} - {"labels.json"}
    assert {name.rsplit("-", 1)[0] for name in labels} == set(KINDS)
    assert set(labels.values()) == set(range(10))
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 2_000_000


def test_a_seed_repeats_the_pictures(sample: Dataset) -> None:
    one, two = synthetic_split(sample.train, 24, 7), synthetic_split(sample.train, 24, 7)
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.labels, two.labels)
    assert one.images.shape == (24, 1, 28, 28)
    assert one.images.dtype == torch.uint8


def test_a_thinned_line_is_one_pixel_wide() -> None:
    thick = np.zeros((40, 40), np.bool_)
    thick[10:17, 5:35] = True
    line = skeletonize(thick)
    assert line.any()
    assert (line.sum(0) <= 1).all()
    assert not (line & ~thick).any()
