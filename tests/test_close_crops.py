"""Digits that fill their picture, stand beside parts of others, or fade."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from models.classifier import Classifier, Prediction
from models.preprocessing.decode import Grey
from models.preprocessing.preprocess import preprocess_digit
from tests.conftest import SAMPLE, WEIGHTS
from tests.test_preprocessing import alike, fitted, seven

CROPS = SAMPLE / "crops"
Line = list[tuple[int, int]]


def written(
    *lines: Line, size: tuple[int, int] = (160, 200), width: int = 12, sheet: int = 235, ink: int = 70
) -> Image.Image:
    """Strokes on paper with a little grain."""
    image = Image.new("L", size, sheet)
    draw = ImageDraw.Draw(image)
    for line in lines:
        draw.line(line, fill=ink, width=width, joint="curve")
    grain = np.random.default_rng(0).normal(0, 2, (size[1], size[0]))
    page = np.asarray(image.filter(ImageFilter.GaussianBlur(0.7))) + grain
    return Image.fromarray(page.clip(0, 255).astype(np.uint8))


def seen(image: Image.Image) -> Grey:
    return preprocess_digit(image)[0]


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (12, 16), (24, 24)])
@pytest.mark.parametrize("thick", [3, 4, 5])
def test_a_ring_that_reaches_all_sides_is_told_from_its_corners_and_its_hole(
    thick: int, size: tuple[int, int], inverted: bool
) -> None:
    image = Image.new("L", size, 0)
    ImageDraw.Draw(image).ellipse((0, 0, size[0] - 1, size[1] - 1), outline=255, width=thick * size[1] // 16)
    pixels, was_inverted, _ = preprocess_digit(ImageOps.invert(image) if inverted else image)
    assert was_inverted == inverted
    assert pixels[14, 14] < 60  # the hole
    ring = np.pad(np.asarray(image), 8)
    assert alike(pixels, seen(Image.fromarray(ring))) > 0.9


def test_soft_strokes_that_leave_little_ground_are_ink_and_no_noise() -> None:
    """A ring of 16x16 whose grey edges are more than two thirds of the picture."""
    large = Image.new("L", (160, 160), 255)
    ImageDraw.Draw(large).ellipse((0, 0, 159, 159), outline=0, width=45)
    soft = large.filter(ImageFilter.GaussianBlur(9)).resize((16, 16), Image.Resampling.BOX)
    pixels = seen(soft)
    assert pixels[14, 14] < 128  # the hole
    assert (pixels[14] > 200).sum() >= 4  # the ring's two sides


@pytest.mark.parametrize("mirrored", [False, True])
def test_part_of_a_digit_that_the_picture_cuts_off_is_left_out(mirrored: bool) -> None:
    digit: Line = [(50, 40), (120, 40), (80, 160)]
    part: Line = [(200, 50), (147, 55), (145, 100), (200, 105)]  # of a 5, say
    alone, beside = written(digit, size=(190, 200)), written(digit, part, size=(190, 200))
    if mirrored:
        alone, beside = ImageOps.mirror(alone), ImageOps.mirror(beside)
    assert alike(seen(beside), seen(alone)) > 0.95


def test_of_two_digits_the_whole_one_goes_before_the_heavier_that_is_cut_off() -> None:
    stick: Line = [(60, 40), (60, 160)]
    part: Line = [(200, 40), (110, 45), (110, 95), (160, 90), (185, 120), (150, 160), (105, 150)]
    beside = seen(written(stick, part, size=(180, 200)))
    assert alike(beside, seen(written(stick, size=(180, 200)))) > 0.95


@pytest.mark.parametrize("turned", [False, True])
def test_a_bar_as_wide_as_a_close_crop_is_no_ruled_line(turned: bool) -> None:
    four = written([(60, 0), (20, 110)], [(0, 110), (160, 112)], [(110, 20), (110, 199)], width=8)
    roomy = ImageOps.expand(four, 60, 235)
    if turned:
        four, roomy = four.transpose(Image.Transpose.ROTATE_90), roomy.transpose(Image.Transpose.ROTATE_90)
    assert alike(seen(four), seen(roomy)) > 0.85


@pytest.mark.parametrize("label", [4, 5, 6, 7])
def test_strokes_that_fill_a_close_crop_are_whole(label: int) -> None:
    """The bar of the 4 and the bowl of the 5 are no ruled lines; the 6 and the 7 have more than edges."""
    crop = Image.open(CROPS / f"{label}.jpg").convert("L")
    ground = int(np.percentile(np.asarray(crop), 90))
    roomy = ImageOps.expand(crop, int(0.6 * max(crop.size)), ground)
    assert alike(seen(crop), seen(roomy)) > 0.9


def test_the_shipped_model_reads_close_crops(cpu: torch.device) -> None:
    """A strip that is as narrow as its 9, too: it has no ruled lines."""
    classifier = Classifier.load(WEIGHTS / "digits.pth", cpu)
    paths = sorted(CROPS.iterdir())
    answers = classifier.classify([path.read_bytes() for path in paths])
    labels = [answer.label if isinstance(answer, Prediction) else answer for answer in answers]
    assert labels == [path.stem for path in paths]


def test_a_ruled_line_through_a_close_crop_is_still_left_out() -> None:
    """It is paler than the ink."""
    image = written([(20, 4), (140, 4), (60, 199)])
    lined = image.copy()
    ImageDraw.Draw(lined).line([(0, 120), (160, 121)], fill=190, width=2)
    assert alike(seen(lined), seen(image)) > 0.95


@pytest.mark.parametrize("strength", [0.2, 0.25])
def test_a_ring_stays_closed_where_the_pen_hardly_pressed(strength: float) -> None:
    ring = Image.new("L", (200, 220), 0)
    ImageDraw.Draw(ring).ellipse((60, 40, 140, 180), outline=255, width=9)
    ink = np.asarray(ring.filter(ImageFilter.GaussianBlur(0.7)), np.float32) / 255
    fading = np.interp(np.arange(200), [60, 90, 110], [1, 1, strength])
    page = 235 * (1 - 0.8 * ink * fading) + np.random.default_rng(1).normal(0, 1, ink.shape)
    pixels = seen(Image.fromarray(page.clip(0, 255).astype(np.uint8)))
    whole = seen(Image.fromarray((235 * (1 - 0.8 * ink)).astype(np.uint8)))
    assert alike(pixels, whole) > 0.9
    assert (pixels[:, 15:].max(1)[6:22] > 100).all()  # the faint side, from top to bottom


def test_a_7_is_not_longer_for_a_soft_shadow_that_it_meets() -> None:
    image = np.asarray(seven(), np.float32)
    shade = 1 - 0.25 / (1 + np.exp(-(np.arange(300) - 180) / 12))
    shadowed = Image.fromarray((image * shade[:, None]).clip(0, 255).astype(np.uint8))
    assert alike(seen(shadowed), seen(seven())) > 0.9


def test_counts_of_zero_to_sixteen_are_levels() -> None:
    """8x8 digits as scikit-learn has them, saved as they are."""
    counts = np.zeros((8, 8), np.uint8)
    counts[:, 4] = (13, 16, 12, 8, 7, 3, 14, 9)
    counts[2:7, 3] = (4, 4, 8, 8, 2)
    pixels, _ = fitted(Image.fromarray(counts))
    brighter, _ = fitted(Image.fromarray(counts * 15))
    assert alike(pixels, brighter) > 0.99
