"""Pictures of several digits: the warning of a single answer, and `read=number`."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from models.card import read_card
from models.classifier import Classifier
from models.errors import ImageError, TooManyDigits
from models.numbers import MAX_DIGITS, Candidate, Candidates, choose
from models.preprocessing.decode import open_image
from models.preprocessing.several import read_digits
from tests.conftest import ADMIN, WEIGHTS
from tests.samples import PICTURES, is_problem
from training.datasets import Dataset, load_dataset
from training.synthetic.numbers import (
    Hand,
    boxed,
    drawn,
    line_of,
    on_table,
    page_of,
    photo,
    plain_line,
    postcode,
    scanned,
)
from training.synthetic.rendering import Writer
from training.synthetic.scenes import trimmed

DIGITS = read_card(WEIGHTS / "digits.json")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load(WEIGHTS / "digits.pth", torch.device("cpu"))


def writer_of(data: Dataset, seed: int = 0) -> Writer:
    """Writes the test digits of a data set as they are."""
    split = data.test
    random = np.random.default_rng(seed)
    return Writer(split.images[:, 0].numpy(), split.labels.numpy(), random, our_share=0)


@pytest.fixture
def writer(sample: Dataset) -> Writer:
    return writer_of(sample)


def hand(height: int = 48, touching: float = 0.0) -> Hand:
    return Hand(height, None, 0.35, 0.02, touching, copied=True)


def number_of(classifier: Classifier, data: bytes) -> str:
    """As the service reads it: lines are separated by newlines."""
    with open_image(data) as image:
        _, _, candidates = read_digits(image, classifier.card.picture, "auto", "number")
    assert candidates is not None
    return "\n".join(text_of(classifier, candidates))


def text_of(classifier: Classifier, candidates: Candidates) -> list[str]:
    pixels = torch.frombuffer(bytearray(candidates.pixels), dtype=torch.uint8).view(-1, 1, 28, 28)
    digits = choose(candidates, classifier.answers(pixels).tolist(), len(classifier.card.classes))
    lines = [""] * (digits[-1].line + 1 if digits else 0)
    for digit in digits:
        lines[digit.line] += classifier.card.classes[digit.index]
    return lines


def posted(client: TestClient, data: bytes, **params: str) -> dict[str, object]:
    response = client.post("/predict", content=data, params=params, headers={"content-type": "image/png"})
    assert response.status_code == 200, response.text
    found: dict[str, object] = response.json()
    return found


# -- the answers ------------------------------------------------------------------------------------


def test_all_digits_of_a_picture_in_reading_order(client: TestClient, writer: Writer) -> None:
    lines = [line_of(writer, "4711", hand()), line_of(writer, "20895", hand())]
    data, _ = scanned(page_of(lines, 48, 0, writer.random), writer.random)
    found = client.post("/predict?read=number", files={"file": data}).json()
    assert found["number"] == "4711\n20895"
    assert found["lines"] == ["4711", "20895"]
    assert [digit["label"] for digit in found["digits"]] == list("471120895")
    assert [digit["line"] for digit in found["digits"]] == [0] * 4 + [1] * 5
    product = np.prod([digit["probability"] for digit in found["digits"]])
    assert found["probability"] == pytest.approx(product)
    assert set(found) == {"model", "version", "number", "lines", "probability", "digits", "input"}


def test_a_box_is_where_the_digit_was_drawn(client: TestClient, sample: Dataset) -> None:
    """x, y, width and height in the picture as it is shown, its rotation undone."""
    digit = next(image for image, label in sample_pairs(sample) if label == 3)
    sheet = Image.new("L", (400, 200), 255)
    for left in (40, 160, 280):
        sheet.paste(0, (left, 60), Image.fromarray(digit).resize((84, 84), Image.Resampling.BICUBIC))
    ys, xs = np.nonzero(digit > 100)
    wanted = [3 * xs.min(), 60 + 3 * ys.min(), 3 * (np.ptp(xs) + 1), 3 * (np.ptp(ys) + 1)]
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    stream = io.BytesIO()
    sheet.rotate(90, expand=True).save(stream, "JPEG", quality=95, exif=exif)
    found = client.post("/predict?read=number", files={"file": stream.getvalue()}).json()
    assert found["number"] == "333"
    assert found["input"]["size"] == [400, 200]
    for left, one in zip((40, 160, 280), found["digits"], strict=True):
        assert np.allclose(one["box"], [wanted[0] + left, *wanted[1:]], atol=5)


def sample_pairs(data: Dataset) -> list[tuple[np.ndarray, int]]:
    return list(zip(data.test.images[:, 0].numpy(), data.test.labels.tolist(), strict=True))


def test_an_answer_for_one_digit_warns_of_several(client: TestClient, writer: Writer) -> None:
    data, _ = drawn(page_of([line_of(writer, "4711", hand())], 48, 0, writer.random), writer.random)
    warning = posted(client, data)["warning"]
    assert isinstance(warning, dict)
    assert (warning["type"], warning["count"]) == ("several", 4)
    assert "read=number" in str(warning["detail"])
    batch = client.post("/predict/batch", files=[("files", data), ("files", data)]).json()
    assert [one["warning"] for one in batch] == [warning, warning]


def test_a_small_picture_may_have_several_as_well(client: TestClient, writer: Writer) -> None:
    page = page_of([line_of(writer, "807", hand(24))], 24, 0, writer.random)
    page = np.pad(page, ((0, 0), (0, 120 - page.shape[1])))  # is looked at in half its size
    data, _ = drawn(page, writer.random)
    warning = posted(client, data)["warning"]
    assert isinstance(warning, dict)
    assert warning["count"] == 3


def test_single_digits_are_not_taken_for_several(client: TestClient, digits: dict[str, bytes]) -> None:
    """The development set of the preprocessing: 1 % false alarms at most."""
    labels = json.loads((PICTURES / "labels.json").read_text())
    files = [("files", (PICTURES / name).read_bytes()) for name in labels]
    answers = client.post("/predict/batch", files=files).json()
    several = [answer.get("warning", {}).get("type") == "several" for answer in answers]
    assert sum(several) <= 0.01 * len(answers)
    assert all("warning" not in posted(client, png) for png in digits.values())


def test_a_number_may_have_one_digit(client: TestClient, digits: dict[str, bytes]) -> None:
    for label in "058":
        assert posted(client, digits[label], read="number")["number"] == label


def test_numbers_in_a_batch_with_problems_in_their_place(client: TestClient, writer: Writer) -> None:
    files = []
    for number in ("12", "345"):
        data, _ = scanned(page_of([line_of(writer, number, hand())], 48, 0, writer.random), writer.random)
        files += [("files", data), ("files", b"no picture")]
    answers = client.post("/predict/batch?read=number", files=files).json()
    assert [answer.get("number") for answer in answers] == ["12", None, "345", None]
    assert answers[1]["status"] == 422


def test_the_option_may_stand_in_the_form(client: TestClient, writer: Writer) -> None:
    data, _ = drawn(page_of([line_of(writer, "86", hand())], 48, 0, writer.random), writer.random)
    found = client.post("/predict", files={"file": data}, data={"read": "number"}).json()
    assert found["number"] == "86"


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("read=number&preprocess=none", "preprocess"),
        ("read=number&explain=true", "explain"),
        ("read=number&model=fashion", "digits"),
        ("read=letters", "number"),
    ],
)
def test_what_does_not_go_with_a_number(
    client: TestClient, digits: dict[str, bytes], query: str, hint: str
) -> None:
    response = client.post(f"/predict?{query}", files={"file": digits["1"]})
    assert response.status_code == 422
    assert hint in response.text


def test_an_array_and_a_blank_page_have_no_number(client: TestClient) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros((2, 28, 28), np.uint8))
    headers = {"content-type": "application/x-npy"}
    response = client.post("/predict/batch?read=number", content=stream.getvalue(), headers=headers)
    is_problem(response, 422, "Invalid request")
    blank = io.BytesIO()
    Image.new("L", (300, 200), 255).save(blank, "PNG")
    response = client.post("/predict?read=number", files={"file": blank.getvalue()})
    is_problem(response, 422, "Nothing found")


def test_each_digit_can_be_corrected(settings: Settings, tmp_path: Path, writer: Writer) -> None:
    """Its picture is kept as the model saw it."""
    data, _ = drawn(page_of([line_of(writer, "473", hand())], 48, 0, writer.random), writer.random)
    with TestClient(create_app(settings.model_copy(update={"home": tmp_path, "feedback": True}))) as api:
        found = posted(api, data, read="number")
        wrong = found["digits"][1]  # type: ignore[index]
        correction = api.post("/feedback", json={"prediction": wrong["id"], "label": "1"})
        assert correction.status_code == 201, correction.text
        assert correction.json()["predicted"] == "7"
        kept = api.get("/feedback", headers=ADMIN).json()["items"][0]["image"]
    assert wrong["id"] != found["digits"][0]["id"]  # type: ignore[index]
    assert kept.startswith("data:image/png;base64,")


# -- the segmentation -------------------------------------------------------------------------------


@pytest.mark.parametrize("tilt", [-11, 7])
def test_tilted_lines_are_read(classifier: Classifier, writer: Writer, tilt: float) -> None:
    page = page_of([line_of(writer, "402867", hand())], 48, tilt, writer.random)
    assert number_of(classifier, scanned(page, writer.random)[0]) == "402867"


def test_a_postcode_in_printed_boxes(classifier: Classifier, writer: Writer) -> None:
    page = page_of([boxed(writer, "80331", hand())], 48, 1, writer.random)
    assert number_of(classifier, scanned(page, writer.random)[0]) == "80331"


def png_of(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def form(
    writer: Writer, digits: str, apart: int = 0, lines: int = 255, gap: int = 0, at: str = "middle"
) -> Image.Image:
    """Digits in boxes of 60x80 pixels; `at` says where in them: the middle, the left side, high and low."""
    image = Image.new("L", (len(digits) * (60 + apart) + 60, 200), 0)
    draw = ImageDraw.Draw(image)
    for number, digit in enumerate(digits):
        left, top = 30 + number * (60 + apart), 60
        draw.rectangle((left, top, left + 60, top + 80), outline=lines, width=2)
        for begin in range(left + 15, left + 60, 20) if gap else []:
            draw.rectangle((begin, top, begin + gap - 1, top + 1), fill=0)
        if digit == " ":
            continue
        ink = trimmed(writer.copied(int(digit), 56))
        tall, wide = ink.shape
        x = 1 if at == "side" else (60 - wide) // 2
        y = (4, 76 - tall)[number % 2] if at == "high and low" else 40 - tall // 2
        image.paste(255, (left + x, top + y), Image.fromarray((ink * 255).astype(np.uint8)))
    return image


@pytest.mark.parametrize(
    "boxes",
    [
        {"at": "side"},
        {"at": "side", "apart": 9},
        {"at": "high and low"},
        {"at": "high and low", "apart": 9},
        {"lines": 70},
        {"gap": 4, "apart": 9},
        {"gap": 4, "lines": 110},
    ],
    ids=str,
)
def test_digits_touch_their_boxes_and_lines_are_pale_or_broken(
    classifier: Classifier, writer: Writer, boxes: dict[str, Any]
) -> None:
    assert number_of(classifier, png_of(ImageOps.invert(form(writer, "480317", **boxes)))) == "480317"


@pytest.mark.parametrize("apart", [0, 9])
@pytest.mark.parametrize("margin", [3, 12])
def test_empty_boxes_are_no_digits(classifier: Classifier, writer: Writer, apart: int, margin: int) -> None:
    image = form(writer, "62 5   9", apart)
    box = image.getbbox()
    assert box is not None
    image = ImageOps.expand(image.crop(box), margin)
    assert number_of(classifier, png_of(ImageOps.invert(image))) == "6259"


def test_only_a_postcode_is_read_on_squared_paper(classifier: Classifier, writer: Writer) -> None:
    """Its squares are boxes, too, but hardly anything is written into them."""
    sheet = Image.new("L", (700, 420), 235)
    draw = ImageDraw.Draw(sheet)
    for at in range(20, 700, 45):
        draw.line([(at, 0), (at, 419)], fill=190, width=2)
        draw.line([(0, at), (699, at)], fill=190, width=2)
    sheet.paste(30, (150, 110), form(writer, "62509"))
    assert number_of(classifier, png_of(sheet)) == "62509"


@pytest.mark.full_data
def test_postcodes_are_read_right(classifier: Classifier, full_data: Path) -> None:
    """Drawn, scanned, photographed on white paper and on a table: four fifths."""
    writer = writer_of(load_dataset("mnist", full_data), seed=2)
    scenes = (drawn, scanned, photo("white"), on_table)
    made = [postcode(writer, scenes[i % len(scenes)]) for i in range(80)]
    right = sum(number_of(classifier, data) == number for number, (data, _) in made)
    assert right >= 0.8 * len(made)


@pytest.mark.parametrize("text", ["030.224.670", "030-224-670", "+030 224 670", "030/224670"])
def test_separators_are_no_digits(classifier: Classifier, writer: Writer, text: str) -> None:
    page = page_of([line_of(writer, text, hand())], 48, 0, writer.random)
    assert number_of(classifier, drawn(page, writer.random)[0]) == "030224670"


def test_touching_digits_are_cut_apart(classifier: Classifier, writer: Writer) -> None:
    ink = line_of(writer, "2640", hand(60))
    ink[-9:-6] = 1  # one stroke through all of them
    assert len(number_of(classifier, drawn(page_of([ink], 60, 0, writer.random), writer.random)[0])) == 4


def test_small_digits_on_a_large_sheet(classifier: Classifier, writer: Writer) -> None:
    page = page_of([line_of(writer, "95027", hand(40))], 40, 0, writer.random)
    page = np.pad(page, ((500, 300), (700, 300)))
    assert number_of(classifier, scanned(page, writer.random)[0]) == "95027"


@pytest.mark.full_data
def test_five_digits_are_read_right(classifier: Classifier, full_data: Path) -> None:
    """Lines of MNIST's test digits that stand apart, drawn and scanned: 97 % of the numbers."""
    writer = writer_of(load_dataset("mnist", full_data), seed=1)
    made = [plain_line(writer, (drawn, scanned)[i % 2], copied=True) for i in range(200)]
    right = sum(number_of(classifier, data) == number for number, (data, _) in made)
    assert right >= 0.97 * len(made)


# -- bounds -----------------------------------------------------------------------------------------


def noise(random: np.random.Generator) -> Image.Image:
    return Image.fromarray(random.integers(0, 256, (500, 500), np.uint8))


def strokes(random: np.random.Generator) -> Image.Image:
    """Far more of them than digits are read."""
    image = Image.new("L", (1600, 1600), 255)
    draw = ImageDraw.Draw(image)
    for x, y in random.integers(0, 1580, (4000, 2)):
        draw.line([(x, y), (x + 9, y + 16)], fill=0, width=3)
    return image


def bars(_: np.random.Generator) -> Image.Image:
    """One wide component with a cut everywhere."""
    image = Image.new("L", (2000, 60), 255)
    draw = ImageDraw.Draw(image)
    draw.line([(10, 30), (1990, 30)], fill=0, width=4)
    for x in range(20, 1990, 12):
        draw.line([(x, 5), (x, 55)], fill=0, width=3)
    return image


def frames(_: np.random.Generator) -> Image.Image:
    """Boxes in boxes: each may be a printed one."""
    image = Image.new("L", (1600, 1600), 255)
    draw = ImageDraw.Draw(image)
    for inset in range(4, 790, 10):
        draw.rectangle((inset, inset, 1599 - inset, 1599 - inset), outline=0, width=2)
    return image


@pytest.mark.parametrize("make", [noise, strokes, bars, frames])
def test_the_work_is_bounded(make: Callable[[np.random.Generator], Image.Image]) -> None:
    """Whatever the picture: so many candidates and no more, or a refusal that says why."""
    with open_image(png_of(make(np.random.default_rng(0)))) as image:
        try:
            _, _, candidates = read_digits(image, DIGITS.picture, "auto", "number")
        except ImageError:
            return
    assert candidates is not None
    candidates.checked()


def test_more_digits_than_are_read_are_refused(writer: Writer) -> None:
    lines = [line_of(writer, "1234567890", hand(24)) for _ in range(MAX_DIGITS // 10 + 1)]
    data, _ = drawn(page_of(lines, 24, 0, writer.random), writer.random)
    with open_image(data) as image, pytest.raises(TooManyDigits, match="part of it"):
        read_digits(image, DIGITS.picture, "auto", "number")
    with open_image(data) as image:
        candidates = read_digits(image, DIGITS.picture, "auto", "digit")[2]
    assert candidates is not None
    assert candidates.more


def test_candidates_of_a_decoder_are_not_believed() -> None:
    good = Candidate(0, 0, 1, (0, 0, 9, 9), 0.0)
    assert Candidates(b"", (good,), ((1.0,),)).checked()
    for bad in (
        Candidates(b"", (Candidate(1, 0, 1, (0, 0, 9, 9), 0.0),), ((1.0,),)),
        Candidates(b"", (Candidate(0, 0, 2, (0, 0, 9, 9), 0.0),), ((1.0,),)),
        Candidates(b"", (Candidate(0, 1, 1, (0, 0, 9, 9), 0.0),), ((1.0, 1.0),)),
        Candidates(b"", (good,), ((float("nan"),),)),
        Candidates(b"", (), ()),
    ):
        with pytest.raises(ValueError, match="candidate"):
            bad.checked()


def test_the_cheapest_path_is_chosen() -> None:
    """Two halves of a digit, or the whole: by probability and by cost."""
    found = (
        Candidate(0, 0, 1, (0, 0, 1, 1), 0.1),
        Candidate(0, 1, 2, (1, 0, 2, 1), 0.1),
        Candidate(0, 0, 2, (0, 0, 2, 1), 0.3),
    )
    candidates = Candidates(b"", found, ((5.0, 5.0),))
    sure, unsure = [0.99, 0.01], [0.4, 0.6]
    assert [one.candidate for one in choose(candidates, [sure, sure, unsure], 2)] == [0, 1]
    assert [one.candidate for one in choose(candidates, [unsure, unsure, sure], 2)] == [2]
    assert choose(Candidates(b"", found, ((0.0, 0.0),)), [unsure, unsure, unsure], 2) == []


def test_what_a_background_takes_for_no_digit_is_read_less() -> None:
    found = (
        Candidate(0, 0, 1, (0, 0, 1, 1), 0.1),
        Candidate(0, 1, 2, (1, 0, 2, 1), 0.1),
        Candidate(0, 0, 2, (0, 0, 2, 1), 0.1),
    )
    candidates = Candidates(b"", found, ((5.0, 5.0),))
    digit, other = [0.9, 0.1, -8.0], [0.9, 0.1, 8.0]  # the logit of the background is the last
    assert [one.candidate for one in choose(candidates, [digit, digit, other], 2)] == [0, 1]
    assert [one.candidate for one in choose(candidates, [other, digit, digit], 2)] == [2]
    assert [one.probability for one in choose(candidates, [other, other, digit], 2)] == [0.9]
