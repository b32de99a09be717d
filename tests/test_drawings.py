"""Clean drawings, transparent ones, odd colours and odd levels: what a page, a stylus or a tool leaves."""

import io
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from models.card import Card, read_card
from models.classifier import Classifier, Prediction
from models.errors import NotAnImage, NothingFound
from models.preprocessing.decode import Grey, open_image
from models.preprocessing.preprocess import read
from tests.conftest import WEIGHTS
from tests.drawings import drawn
from tests.hostile import png_of_rows
from training.datasets import Dataset, load_dataset

DIGITS = read_card(WEIGHTS / "digits.json")
FASHION = read_card(WEIGHTS / "fashion-softmax.json")
WAYS = {1: 1, 4: 1}  # of each digit, the way that is most widely read
PLACES = [(0.5, 0.5), (0.02, 0.98), (0.9, 0.1)]


@pytest.fixture(scope="module")
def digits_model(cpu: torch.device) -> Classifier:
    return Classifier.load(WEIGHTS / "digits.pth", cpu)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def right(model: Classifier, pictures: list[tuple[int, bytes]]) -> float:
    answers = model.classify([data for _, data in pictures])
    hits = [
        isinstance(a, Prediction) and a.index == label for a, (label, _) in zip(answers, pictures, strict=True)
    ]
    return float(np.mean(hits))


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize(("pen", "size"), [(6, 0.3), (12, 1), (20, 0.5), (32, 0.7), (46, 1), (60, 1), (70, 1)])
def test_thick_strokes_stay_whole(digits_model: Classifier, pen: float, size: float, dark: bool) -> None:
    """They were taken for background: a thick 1 became a ring, a thick 0 a filled core."""
    pictures = []
    for label in range(10):
        for at in PLACES:
            ink = drawn(label, WAYS.get(label, 0), pen, size, at)
            pictures.append((label, encoded(Image.fromarray(255 - ink if dark else ink))))
    assert right(digits_model, pictures) >= 0.97


def test_a_thick_stroke_that_the_border_cuts_is_a_digit(digits_model: Classifier) -> None:
    ink = drawn(1, 0, 40, 0.7)[:, 125:]
    assert right(digits_model, [(1, encoded(Image.fromarray(255 - ink)))]) == 1


@pytest.mark.parametrize("side", [256, 400, 500])
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (250, 220, 60), (30, 60, 200)])
def test_ink_on_a_transparent_canvas(
    digits_model: Classifier, side: int, hard: bool, colour: tuple[int, int, int]
) -> None:
    """Under transparent pixels a canvas keeps black: it must not mix with the ink."""
    pictures = []
    for label in range(10):
        alpha = drawn(label, WAYS.get(label, 0), 10 * 280 / side, 1, side=side)
        pixels = np.zeros((side, side, 4), np.uint8)
        pixels[..., 3] = np.where(alpha > 127, 255, 0) if hard else alpha
        pixels[alpha > (127 if hard else 0), :3] = colour
        pictures.append((label, encoded(Image.fromarray(pixels))))
    assert right(digits_model, pictures) >= 0.97


def palette(ink: Grey, kind: str) -> bytes:
    image = Image.fromarray((ink > 127).astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    return encoded(image, kind, transparency=0)


@pytest.mark.parametrize(
    "save",
    [
        pytest.param(lambda ink: palette(ink, "PNG"), id="PNG with a palette"),
        pytest.param(lambda ink: palette(ink, "GIF"), id="GIF"),
        pytest.param(lambda ink: encoded(Image.fromarray(ink > 127)), id="PNG of one bit"),
        pytest.param(
            lambda ink: encoded(Image.fromarray(ink > 127), transparency=0), id="one bit, transparent"
        ),
        pytest.param(lambda ink: encoded(Image.fromarray(ink), "JPEG", quality=40), id="JPEG"),
        pytest.param(
            lambda ink: encoded(Image.fromarray((ink // 255).astype(np.uint16))), id="16 bits, 0 and 1"
        ),
    ],
)
def test_hard_edges_and_other_formats(digits_model: Classifier, save: Callable[[Grey], bytes]) -> None:
    pictures = [(label, save(drawn(label, WAYS.get(label, 0), 9, 1, side=300))) for label in range(10)]
    assert right(digits_model, pictures) >= 0.97


@pytest.mark.parametrize(
    ("ground", "ink"),
    [
        ((170, 216, 230), (255, 205, 60)),
        ((60, 150, 60), (220, 78, 60)),
        ((255, 255, 255), (255, 255, 0)),
        ((0, 0, 0), (0, 0, 160)),
        ((128, 128, 128), (180, 110, 85)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_ink_of_a_colour_whose_grey_is_the_grounds(
    digits_model: Classifier, ground: tuple[int, int, int], ink: tuple[int, int, int], kind: str
) -> None:
    pictures = []
    for label in range(10):
        share = drawn(label, WAYS.get(label, 0), 20, 0.8)[..., None] / 255
        colours = np.rint(np.array(ground) * (1 - share) + np.array(ink) * share).astype(np.uint8)
        pictures.append((label, encoded(Image.fromarray(colours), kind)))
    assert right(digits_model, pictures) >= 0.97


LEVELS: dict[str, Callable[[Grey], Grey]] = {
    "0 and 1": lambda digit: (digit > 127).astype(np.uint8),
    "0 to 15": lambda digit: digit // 17,
    "dim": lambda digit: digit // 3,
    "on dark grey": lambda digit: (60 + digit * (195 / 255)).astype(np.uint8),
    "on grey": lambda digit: (100 + digit * (155 / 255)).astype(np.uint8),
}


@pytest.mark.parametrize("levels", LEVELS)
def test_pictures_of_the_models_size_with_other_levels(cpu: torch.device, sample: Dataset, levels: str) -> None:
    model = Classifier.load(WEIGHTS / "minist.pth", cpu)
    images, labels = sample.test.images[:, 0].numpy(), sample.test.labels.numpy()
    pictures = [
        (int(label), encoded(Image.fromarray(LEVELS[levels](digit))))
        for digit, label in zip(images, labels, strict=True)
    ]
    assert right(model, pictures) >= 0.95


def test_a_dim_photograph_of_the_models_size(digits_model: Classifier) -> None:
    """Its paper is darker than the middle of all grey, and still paper."""
    pictures = []
    for label in range(10):
        paper = Image.fromarray(
            (230 - drawn(label, WAYS.get(label, 0), 24, 0.9) * (190 / 255)).astype(np.uint8)
        )
        small = np.asarray(paper.resize((28, 28), Image.Resampling.BOX)) * 0.45
        pictures.append((label, encoded(Image.fromarray(small.astype(np.uint8)))))
    assert right(digits_model, pictures) >= 0.9


@pytest.mark.full_data
@pytest.mark.parametrize(("dataset", "card"), [("mnist", DIGITS), ("fashion-mnist", FASHION)])
def test_test_images_go_their_way_bit_for_bit(full_data: Path, dataset: str, card: Card) -> None:
    for pixels in load_dataset(dataset, full_data).test.images[:, 0].numpy():
        found, done = read(Image.fromarray(pixels), card.picture)
        assert np.array_equal(found, pixels)
        assert done.box == (0, 0, 28, 28)


@pytest.mark.parametrize("size", [(20_000, 4), (50_000, 20), (2, 10_000_000), (4, 20_000), (3_000_000, 3)])
@pytest.mark.parametrize("card", [DIGITS, FASHION], ids=["digit", "size"])
def test_long_strips_cost_what_their_pixels_do(size: tuple[int, int], card: Card) -> None:
    """The square around 20000x4 pixels would be 400 MB."""
    image = open_image(png_of_rows(*size))
    tracemalloc.start()
    try:
        read(image, card.picture)
    except NothingFound:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 30_000_000


def test_a_strip_with_something_on_it() -> None:
    image = Image.new("L", (20_000, 40), 255)
    ImageDraw.Draw(image).line([(9_000, 5), (9_010, 35)], fill=0, width=8)
    pixels, done = read(open_image(encoded(image)), FASHION.picture)
    assert pixels.shape == (28, 28)
    assert done.box == (0, 0, 20_000, 40)


def test_a_heic_picture_as_telephones_write_it(digits_model: Classifier) -> None:
    """With the extra `heif`."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    image = Image.fromarray(255 - drawn(7, 0, 20, 0.8)).convert("RGB")
    assert right(digits_model, [(7, encoded(image, "HEIF", quality=80))]) == 1


def test_without_the_extra_a_heic_picture_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(NotAnImage, match=r"HEIC.*heif"):
        open_image(b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(99))
