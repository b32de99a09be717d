"""What counted for an answer, on models of which that is known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import occlusion
from models.architectures import arguments_for, build
from models.preprocessing.pictures import Pixels
from models.tensors import normalise


def ink(places: tuple[tuple[slice, slice], ...], size: tuple[int, ...] = (28, 28)) -> Pixels:
    """Bright rectangles on black."""
    pixels = np.zeros(size, np.uint8)
    for place in places:
        pixels[place] = 255
    return pixels


TOP, BOTTOM = (slice(4, 8), slice(10, 18)), (slice(20, 24), slice(10, 18))


def top_against_bottom(images: Tensor) -> Tensor:
    """Logits: what is in the upper half speaks for the first class, what is in the lower for the second."""
    shares = images.float() / 255
    middle = images.shape[2] // 2
    return torch.stack([shares[:, :, :middle].sum((1, 2, 3)), shares[:, :, middle:].sum((1, 2, 3)) / 2], 1)


@pytest.mark.parametrize("colours", [(), (3,)])
@pytest.mark.parametrize("scale", [1, 4])  # 28x28, and 112x112: few large parts
def test_what_spoke_for_and_against_is_where_it_was_drawn(scale: int, colours: tuple[int, ...]) -> None:
    pixels = ink((TOP, BOTTOM)).repeat(scale, 0).repeat(scale, 1)
    if colours:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    found = occlusion.effects(top_against_bottom, pixels)
    assert found.shape == pixels.shape[:2]
    for_it, against = (found[6 * scale, 14 * scale], found[22 * scale, 14 * scale])
    assert for_it > 0 > against
    assert for_it == pytest.approx(-2 * against, rel=0.3)
    assert np.abs(found[:, : 2 * scale]).max() < for_it / 100, "nothing is there to cover"
    overlay = occlusion.laid_over(pixels, found).astype(int)
    red, _, blue = overlay[6 * scale, 14 * scale]
    assert red > blue + 80, "orange"
    red, _, blue = overlay[22 * scale, 14 * scale]
    assert blue > red + 80, "blue"


def test_more_is_lighter_whichever_way_it_counted() -> None:
    """And lighter than the picture below it: lightness says how much, without a look at the hue."""
    steps = np.linspace(0.2, 1, 30, dtype=np.float32)
    weights = np.array([0.2126, 0.7152, 0.0722])
    for sign in (1, -1):
        found = np.stack([sign * steps, np.zeros(30, np.float32)])
        overlay = occlusion.laid_over(np.full((2, 30), 255, np.uint8), found)
        light = (overlay / 255) ** 2.2 @ weights
        assert (np.diff(light[0][8:]) > 0).all()
        assert light[0, -1] > 4 * light[1, 0]


def test_a_picture_with_nothing_on_it_has_nothing_that_counted() -> None:
    found = occlusion.effects(top_against_bottom, ink(()))
    assert not found.any()
    assert not occlusion.strength(found).any()
    assert not occlusion.laid_over(ink(()), found).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (300, 300, 3), (64, 64)])
def test_so_many_pictures_are_asked_about_and_no_more(size: tuple[int, ...]) -> None:
    """Of any size; and never so many at once that memory would run out."""
    asked: list[int] = []

    def logits(images: Tensor) -> Tensor:
        asked.append(len(images))
        assert images.numel() <= max(occlusion.BATCH_VALUES, images[0].numel())
        return top_against_bottom(images)

    pixels = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    found = occlusion.effects(logits, pixels)
    assert found.shape == size[:2]
    assert sum(asked) <= (257 if max(size[:2]) <= occlusion.SMALL else 65)


@pytest.mark.parametrize("name", ["softmax", "mlp", "cnn", "efficientnet-lite0"])
def test_every_kind_of_model_can_be_asked(name: str) -> None:
    shape = (3, 32, 32) if name.startswith("efficient") else (1, 28, 28)
    coarse = name.startswith("efficient")
    torch.manual_seed(0)
    model: nn.Module = build(name, **arguments_for(name, 4, shape)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, shape[1:] + shape[:1] * (shape[0] > 1), np.uint8)
    with torch.inference_mode():
        found = occlusion.effects(
            lambda images: model(normalise(images, (0.5,) * shape[0], (0.5,) * shape[0])), pixels, coarse
        )
    assert found.any()
    assert np.isfinite(found).all()
