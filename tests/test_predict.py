"""POST /predict and /predict/batch, as clients meet them."""

import base64
import io
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from starlette.testclient import TestClient

from app.errors import WrongArray
from app.web.uploads import images_array
from models.classifier import Classifier
from tests.conftest import SHIPPED, WEIGHTS
from tests.samples import PNG, is_problem, photograph, png_header
from training.datasets import Dataset
from training.evaluation import evaluate


@pytest.mark.parametrize("label", [str(i) for i in range(10)])
def test_a_real_digit_gets_its_label(client: TestClient, digits: dict[str, bytes], label: str) -> None:
    body = client.post("/predict", files={"file": digits[label]}).json()
    told = ["model", "version", "label", "index", "probability", "probabilities", "novelty", "input"]
    assert list(body) == told
    assert (body["model"], body["version"], body["label"], body["index"]) == ("digits", 1, label, int(label))
    assert body["input"] == {"size": [28, 28], "inverted": False, "box": [0, 0, 28, 28]}
    assert list(body["probabilities"]) == [str(i) for i in range(10)]
    assert sum(body["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert body["probability"] == max(body["probabilities"].values()) > 0.5


@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_answers_by_name(client: TestClient, digits: dict[str, bytes], name: str) -> None:
    body = client.post("/predict", params={"model": name}, files={"file": digits["3"]}).json()
    assert body["model"] == name
    assert sum(body["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_raw_body_gets_the_same_answer_as_a_form(client: TestClient, digits: dict[str, bytes]) -> None:
    form = client.post("/predict", files={"file": digits["4"]}).json()
    assert client.post("/predict", content=digits["4"], headers=PNG).json() == form
    untyped = {"content-type": "application/octet-stream"}
    assert client.post("/predict", content=digits["4"], headers=untyped).json() == form


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_every_format_is_read(client: TestClient, digits: dict[str, bytes], kind: str) -> None:
    stream = io.BytesIO()
    Image.open(io.BytesIO(digits["8"])).convert("RGB").save(stream, kind)
    assert client.post("/predict", files={"file": stream.getvalue()}).json()["label"] == "8"


def test_the_served_accuracy_is_the_cards(client: TestClient, sample: Dataset, cpu: object) -> None:
    """200 digits of the test set as uploads: as many right as the evaluation counts."""
    parts = []
    for image in sample.test.images:
        stream = io.BytesIO()
        Image.fromarray(image[0].numpy()).save(stream, "PNG")
        parts.append(("files", stream.getvalue()))
    answers = client.post("/predict/batch", params={"model": "softmax-mnist"}, files=parts).json()
    served = np.mean(
        [a["index"] == label for a, label in zip(answers, sample.test.labels.tolist(), strict=True)]
    )
    classifier = Classifier.load(WEIGHTS / "softmax-mnist.pth", cpu)  # type: ignore[arg-type]
    assert served == pytest.approx(evaluate(classifier, sample.test).metrics.accuracy)


def test_other_form_fields_are_refused(client: TestClient, digits: dict[str, bytes]) -> None:
    response = client.post("/predict", files={"file": digits["1"]}, data={"comment": "mine"})
    assert "'comment'" in str(is_problem(response, 422, "Wrong form fields")["detail"])


def test_an_empty_body(client: TestClient) -> None:
    is_problem(client.post("/predict", content=b"", headers=PNG), 422, "Empty body")
    form = {"content-type": "multipart/form-data; boundary=x"}
    is_problem(client.post("/predict", content=b"", headers=form), 422, "Empty body")


def test_an_empty_file(client: TestClient) -> None:
    is_problem(client.post("/predict", files={"file": b""}), 422, "Empty image")


def test_not_an_image(client: TestClient) -> None:
    is_problem(client.post("/predict", files={"file": b"hello"}), 422, "Not an image")


def test_a_truncated_image(client: TestClient, digits: dict[str, bytes]) -> None:
    is_problem(client.post("/predict", files={"file": digits["5"][:150]}), 422, "Broken image")


def test_a_bomb(client: TestClient) -> None:
    is_problem(client.post("/predict", files={"file": png_header(20_000, 20_000)}), 422, "Image too large")


def test_another_size(client: TestClient) -> None:
    stream = io.BytesIO()
    Image.new("L", (64, 48)).save(stream, "PNG")
    asked = client.post("/predict", params={"preprocess": "none"}, files={"file": stream.getvalue()})
    body = is_problem(asked, 422, "Wrong image size")
    assert "64x48" in str(body["detail"])
    assert "28x28" in str(body["detail"])
    is_problem(
        client.post("/predict", params={"preprocess": "all"}, files={"file": b"x"}), 422, "Invalid request"
    )


def test_a_blank_page(client: TestClient) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (640, 480), "white").save(stream, "JPEG")
    is_problem(client.post("/predict", files={"file": stream.getvalue()}), 422, "Nothing found")
    (answer,) = client.post("/predict/batch", files=[("files", stream.getvalue())]).json()
    assert answer["title"] == "Nothing found"


@pytest.mark.parametrize("size", [(400, 260), (1200, 900)])
def test_a_photograph_is_read_and_told_about(
    client: TestClient, digits: dict[str, bytes], size: tuple[int, int]
) -> None:
    """Below and above the size from which decoding leaves the event loop."""
    for label, digit in digits.items():
        answer = client.post("/predict", files={"file": photograph(digit, size)}).json()
        assert answer["label"] == label
        assert answer["input"]["size"] == list(size)
        assert answer["input"]["inverted"] is True
        left, top, right, bottom = answer["input"]["box"]
        assert 100 <= left < right <= 300
        assert 40 <= top < bottom <= 240
        batch = client.post("/predict/batch", files=[("files", photograph(digit, size))]).json()
        assert batch[0]["input"] == answer["input"]


def test_dark_ink_on_light_ground_is_told_also_at_the_models_own_size(
    client: TestClient, digits: dict[str, bytes]
) -> None:
    for label, digit in digits.items():
        stream = io.BytesIO()
        ImageOps.invert(Image.open(io.BytesIO(digit))).save(stream, "PNG")
        answer = client.post("/predict", files={"file": stream.getvalue()}).json()
        assert (answer["label"], answer["input"]["inverted"]) == (label, True)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_as_the_model_was_trained_is_not_touched(
    client: TestClient, sample: Dataset, name: str
) -> None:
    """The same probabilities with and without the search for a digit."""
    for image in sample.test.images[:20]:
        stream = io.BytesIO()
        Image.fromarray(image[0].numpy()).save(stream, "PNG")
        auto, none = (
            client.post(
                "/predict", params={"model": name, "preprocess": preprocess}, files={"file": stream.getvalue()}
            ).json()
            for preprocess in ("auto", "none")
        )
        assert auto.pop("input") == {"size": [28, 28], "inverted": False, "box": [0, 0, 28, 28]}
        assert auto == none


def picture(url: str) -> np.ndarray:
    """The pixels of a PNG as data URL."""
    start = "data:image/png;base64,"
    assert url.startswith(start)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url[len(start) :]))))


@pytest.mark.parametrize("name", SHIPPED)
def test_an_explanation_shows_what_was_seen_and_what_counted(
    client: TestClient, digits: dict[str, bytes], name: str
) -> None:
    asked = {"explain": "true", "model": name}
    answer = client.post("/predict", params=asked, files={"file": digits["6"]}).json()
    assert np.array_equal(picture(answer["seen"]), np.asarray(Image.open(io.BytesIO(digits["6"]))))
    saliency = picture(answer["saliency"])
    assert saliency.shape == (28, 28)
    assert saliency.max() == 255
    assert len(np.unique(saliency)) > 20
    most = np.unravel_index(saliency.argmax(), saliency.shape)
    red, _, blue = picture(answer["overlay"])[most].tolist()
    assert abs(red - blue) > 80  # orange or blue


def test_pixels_that_were_given_as_an_array_have_no_input(client: TestClient, array: np.ndarray) -> None:
    answers = client.post(
        "/predict/batch", content=npy(array), headers={"content-type": "application/x-npy"}
    ).json()
    assert all("input" not in answer for answer in answers)


def test_a_body_over_the_limit_announced_and_chunked(client: TestClient) -> None:
    big = bytes(16 * 1024 * 1024 + 1)

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    body = is_problem(client.post("/predict", content=big, headers=PNG), 413, "Body too large")
    assert "16,777,216" in str(body["detail"])
    is_problem(client.post("/predict", content=chunks(), headers=PNG), 413, "Body too large")


def test_a_missing_field_is_told_with_those_that_came(client: TestClient, digits: dict[str, bytes]) -> None:
    body = is_problem(client.post("/predict", files={"picture": digits["1"]}), 422, "Wrong form fields")
    assert "'picture'" in str(body["detail"])
    assert "image" in str(body["hint"])


def test_a_repeated_field_points_to_the_batch(client: TestClient, digits: dict[str, bytes]) -> None:
    two = [("file", digits["1"]), ("file", digits["2"])]
    body = is_problem(client.post("/predict", files=two), 422, "Wrong form fields")
    assert "/predict/batch" in str(body["hint"])


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "application/x-www-form-urlencoded", ""])
def test_a_wrong_content_type(client: TestClient, kind: str) -> None:
    is_problem(client.post("/predict", content=b"x", headers={"content-type": kind}), 415, "Wrong content type")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary here"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc'),
        ("multipart/form-data; boundary=x", b"--x\r\nNo colon\r\n\r\nabc\r\n--x--\r\n"),
    ],
)
def test_a_malformed_form(client: TestClient, kind: str, body: bytes) -> None:
    is_problem(client.post("/predict", content=body, headers={"content-type": kind}), 400, "Malformed form")


def test_an_unknown_model_lists_the_known(client: TestClient, digits: dict[str, bytes]) -> None:
    body = is_problem(
        client.post("/predict", params={"model": "nope"}, files={"file": digits["1"]}), 404, "Unknown model"
    )
    assert all(name in str(body["hint"]) for name in SHIPPED)


def test_unknown_paths_and_methods_are_problems_too(client: TestClient) -> None:
    is_problem(client.get("/nothing"), 404, "Not found")
    is_problem(client.get("/predict"), 405, "Method not allowed")


def test_a_batch_of_files_is_answered_in_order(client: TestClient, digits: dict[str, bytes]) -> None:
    labels = list("9310272")
    answers = client.post("/predict/batch", files=[("files", digits[label]) for label in labels]).json()
    assert [answer["label"] for answer in answers] == labels
    assert answers[0] == client.post("/predict", files={"file": digits["9"]}).json() | {
        key: pytest.approx(answers[0][key]) for key in ("probability", "probabilities")
    }


def test_a_bad_item_is_a_problem_in_its_place(client: TestClient, digits: dict[str, bytes]) -> None:
    files = [("files", digits["1"]), ("files", b"junk"), ("files", b""), ("files", digits["2"])]
    response = client.post("/predict/batch", files=files)
    assert response.status_code == 200
    one, junk, empty, two = response.json()
    assert (one["label"], two["label"]) == ("1", "2")
    assert (junk["title"], empty["title"]) == ("Not an image", "Empty image")
    assert junk["status"] == 422
    assert junk["hint"]


@pytest.fixture(scope="module")
def array(digits: dict[str, bytes]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(digits[str(i)]))) for i in range(10)])


def npy(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)  # type: ignore[arg-type]
    return stream.getvalue()


def idx(array: np.ndarray) -> bytes:
    return b"\x00\x00\x08\x03" + struct.pack(">3I", *array.shape) + array.tobytes()


def test_npy_and_idx_bodies(client: TestClient, array: np.ndarray) -> None:
    for kind, body in (("application/x-npy", npy(array)), ("application/x-idx", idx(array))):
        answers = client.post("/predict/batch", content=body, headers={"content-type": kind}).json()
        assert [answer["label"] for answer in answers] == list("0123456789")


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 28, 28), np.float32),
        np.zeros((28, 28), np.uint8),
        np.zeros((0, 28, 28), np.uint8),
        np.zeros((2, 32, 32), np.uint8),
        np.asfortranarray(np.zeros((2, 28, 28), np.uint8)),
        np.array([{"a": 1}], dtype=object),
    ],
    ids=["float", "one image", "none", "32x32", "Fortran", "pickle"],
)
def test_arrays_of_another_kind(client: TestClient, wrong: np.ndarray) -> None:
    stream = io.BytesIO()
    np.save(stream, wrong, allow_pickle=True)
    response = client.post(
        "/predict/batch", content=stream.getvalue(), headers={"content-type": "application/x-npy"}
    )
    body = is_problem(response, 422, "Wrong array")
    assert "[N, 28, 28]" in str(body["hint"])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-npy", b"not numpy"),
        ("application/x-idx", b"\x00\x00\x08\x01\x00\x00"),
        ("application/x-idx", b"\x00\x00\x08\x03" + struct.pack(">3I", 2**31, 28, 28) + bytes(784)),
        ("application/x-npy", npy(np.zeros((2, 28, 28), np.uint8))[:-1]),
    ],
)
def test_arrays_that_are_broken(client: TestClient, kind: str, body: bytes) -> None:
    is_problem(client.post("/predict/batch", content=body, headers={"content-type": kind}), 422, "Wrong array")


def test_batch_mistakes(client: TestClient, digits: dict[str, bytes]) -> None:
    is_problem(client.post("/predict/batch", files={"picture": digits["1"]}), 422, "Wrong form fields")
    is_problem(client.post("/predict/batch", content=digits["1"], headers=PNG), 415, "Wrong content type")
    is_problem(
        client.post("/predict/batch", content=b"", headers={"content-type": "application/x-npy"}),
        422,
        "Empty body",
    )


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=400), kind=st.sampled_from(["application/x-npy", "application/x-idx", "form"]))
def test_arbitrary_bodies_are_never_a_server_error(client: TestClient, body: bytes, kind: str) -> None:
    content_type = "multipart/form-data; boundary=abc" if kind == "form" else kind
    if kind == "form":
        body = b'--abc\r\nContent-Disposition: form-data; name="files"\r\n\r\n' + body + b"\r\n--abc--\r\n"
    response = client.post("/predict/batch", content=body, headers={"content-type": content_type})
    assert response.status_code in (200, 400, 422)


HEADER = st.sampled_from(
    [
        "{", "}", "'descr': '|u1'", "'descr': 'O'", "'fortran_order': False", "'shape': (1, 28, 28)",
        "'shape': ", ", ", "(", ")", "-1", "1e9", "28", "True", "9" * 40, "None", "'", "\n", "[" * 99,
        "__import__('os')", "\x00",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.one_of(
        st.lists(HEADER, max_size=12),
        st.permutations(["'descr': '|u1', ", "'fortran_order': False, ", "'shape': (1, 28, 28), "]).map(
            lambda found: ["{", *found, "}"]
        ),
    ),
    version=st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"]),
    pixels=st.sampled_from([0, 783, 784, 785]),
)
def test_an_npy_header_gives_the_pixels_that_came_or_a_problem(
    pieces: list[str], version: bytes, pixels: int
) -> None:
    header = "".join(pieces).encode()
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    body = b"\x93NUMPY" + version + length + header + bytes(pixels)
    try:
        found, count = images_array("application/x-npy", body, (1, 28, 28))
    except WrongArray:
        return
    assert (count, len(found)) == (1, pixels) == (1, 784)
