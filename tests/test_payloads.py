"""The ways in which clients send an image and its options; and names that nobody asked for."""

import base64
import contextlib
import gzip
import io
import json
import time
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app.errors import RequestError
from app.web import payloads
from app.web.payloads import JSON, unpacked
from models.errors import ImageError
from tests.conftest import ADMIN
from tests.samples import PNG, is_problem, photograph

FORM = "multipart/form-data; boundary=abc"


def form(*parts: tuple[str, bytes]) -> bytes:
    head = b'--abc\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    return b"".join(head % (name.encode(), content) for name, content in parts) + b"--abc--\r\n"


def label(response: Any) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["label"])


def data_url(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()


# -- one image -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["file", "files", "image", "images", "upload", "file[]", "files[]"])
def test_the_usual_names_of_a_file_are_accepted(
    client: TestClient, digits: dict[str, bytes], name: str
) -> None:
    assert label(client.post("/predict", files={name: digits["4"]})) == "4"
    batch = client.post("/predict/batch", files=[(name, digits["4"]), (name, digits["5"])])
    assert [answer["label"] for answer in batch.json()] == ["4", "5"]


@pytest.mark.parametrize("kind", [None, "", "application/x-www-form-urlencoded", "application/octet-stream"])
def test_a_body_with_a_clients_default_type_is_what_it_is(
    client: TestClient, digits: dict[str, bytes], kind: str | None
) -> None:
    headers = {} if kind is None else {"content-type": kind}
    for image in (digits["6"], photograph(digits["6"], (400, 260))):
        assert label(client.post("/predict", content=image, headers=headers)) == "6"
    text = json.dumps({"image": data_url(digits["6"])}).encode()
    assert label(client.post("/predict", content=text, headers=headers)) == "6"
    stream = io.BytesIO()
    np.save(stream, np.zeros((2, 28, 28), np.uint8))
    assert len(client.post("/predict/batch", content=stream.getvalue(), headers=headers).json()) == 2


def test_a_default_type_of_something_else_is_no_image(client: TestClient) -> None:
    for kind, status in (
        ("", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/octet-stream", 422),
    ):
        answer = client.post("/predict", content=b"a=1&b=2", headers={"content-type": kind})
        assert answer.status_code == status, kind


def encodings(image: bytes) -> dict[str, str]:
    """The ways in which libraries write base64."""
    plain = base64.b64encode(image).decode()
    return {
        "plain": plain,
        "data URL": data_url(image),
        "data URL with parameters": f"data:image/png;charset=utf-8;base64,{plain}",
        "upper case": f"DATA:IMAGE/PNG;BASE64,{plain}",
        "URL-safe": base64.urlsafe_b64encode(image).decode(),
        "without padding": plain.rstrip("="),
        "in lines": base64.encodebytes(image).decode(),
    }


@pytest.mark.parametrize("way", encodings(b""))
def test_an_image_in_base64_is_read(client: TestClient, digits: dict[str, bytes], way: str) -> None:
    for image in (digits["2"], photograph(digits["2"], (500, 300))):
        text = encodings(image)[way]
        assert label(client.post("/predict", json={"image": text})) == "2"
        assert (
            label(
                client.post("/predict", content=form(("image", text.encode())), headers={"content-type": FORM})
            )
            == "2"
        )


@pytest.mark.parametrize("escape", [("/", "\\/"), ("+", "\\u002B"), ("/", "\\u002f"), ("=", "\\u003d")])
def test_base64_that_a_json_library_has_escaped_is_read(
    client: TestClient, digits: dict[str, bytes], escape: tuple[str, str]
) -> None:
    image = photograph(digits["8"], (500, 300))
    text = base64.b64encode(image).decode()
    assert escape[0] in text or escape[0] == "="
    body = '{ "image" : "' + text.replace(*escape) + '" ,\n"model":"digits"}'
    assert label(client.post("/predict", content=body, headers={"content-type": JSON})) == "8"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"{}", b'"x"', b"null", b'{"image": 1', b'{"image": {"base64": "x"}}',
        b'{"image": ["x"]}',
        b'{"image": "%%%%"}', b'{"image": "data:image/png,abc"}', b'{"image": "iVBORw0KGgoAAAANSUhEUg=x"}',
        b'{"image": "aGVsbG8gd29ybGQgaGVsbG8="}', b'{"image": null}', b'{"image": "x"} more', b"[" * 100_000,
        b'{"image": "' + b"\\" * 1000 + b'"}', b'{"a":' * 50_000, b'{"file": "x", "image": "y"}',
    ],
)  # fmt: skip
def test_json_that_carries_no_image_is_422(client: TestClient, body: bytes) -> None:
    answer = client.post("/predict", content=body, headers={"content-type": JSON})
    assert answer.status_code == 422, answer.text
    assert answer.json()["hint"]


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200), kind=st.sampled_from([JSON, FORM, "", "application/octet-stream"]))
def test_no_body_raises_anything_else(body: bytes, kind: str) -> None:
    starts = (
        b"",
        b'{"image": "',
        b'{"model": ',
        b'--abc\r\nContent-Disposition: form-data; name="image"\r\n\r\n',
    )
    for start in starts:
        for read in (payloads.one, payloads.many):
            with contextlib.suppress(RequestError, ImageError):
                read(kind, start + body)


@settings(max_examples=200, deadline=None)
@given(image=st.binary(min_size=40, max_size=600))
def test_base64_gives_the_bytes_that_were_encoded(image: bytes) -> None:
    image = b"\x89PNG" + image
    for text in encodings(image).values():
        assert payloads.one(JSON, json.dumps({"file": text}).encode()).images == [image]


@pytest.mark.parametrize(
    "body", [b'{"image": "' + b"A" * 16_000_000 + b'"}', b'{"image": ' + b'"\\' * 8_000_000, b"{" * 16_000_000]
)
def test_a_large_json_body_costs_little(body: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(RequestError):
        payloads.one(JSON, body)
    assert time.process_time() - began < 1


# -- packed bodies -------------------------------------------------------------------------------------


def test_a_gzipped_body_is_unpacked(client: TestClient, digits: dict[str, bytes]) -> None:
    packed = {"content-encoding": "gzip"}
    assert label(client.post("/predict", content=gzip.compress(digits["9"]), headers={**PNG, **packed})) == "9"
    body = gzip.compress(form(("files", digits["1"]), ("files", digits["2"])))
    batch = client.post("/predict/batch", content=body, headers={"content-type": FORM, **packed})
    assert [answer["label"] for answer in batch.json()] == ["1", "2"]


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "x"])
def test_other_encodings_are_415(client: TestClient, encoding: str) -> None:
    for path, headers in (("/predict", PNG), ("/train", ADMIN)):
        answer = client.post(path, content=b"x", headers={**headers, "content-encoding": encoding})
        is_problem(answer, 415, "Wrong content type")


def test_a_gzip_bomb_is_413_and_costs_no_more_than_the_limit(client: TestClient) -> None:
    body = gzip.compress(bytes(200_000_000))
    began = time.process_time()
    answer = client.post("/predict", content=body, headers={**PNG, "content-encoding": "gzip"})
    is_problem(answer, 413, "Body too large")
    assert time.process_time() - began < 2


@pytest.mark.parametrize("body", [b"", b"junk", gzip.compress(b"x" * 1000, mtime=0)[:-9], zlib.compress(b"x")])
def test_what_is_no_gzip_is_a_problem(body: bytes) -> None:
    with pytest.raises(RequestError):
        unpacked("gzip", body, 10_000)


# -- options -------------------------------------------------------------------------------------------


def test_options_may_be_fields_of_the_body(client: TestClient, digits: dict[str, bytes]) -> None:
    given = {"model": "cnn", "preprocess": "none", "explain": "true"}
    by_form = client.post("/predict", files={"file": digits["7"]}, data=given)
    by_json = client.post("/predict", json={**given, "image": data_url(digits["7"]), "explain": True})
    by_query = client.post("/predict", files={"file": digits["7"]}, params=given)
    assert by_form.json() == by_json.json() == by_query.json()
    assert by_form.json()["model"] == "cnn"
    assert "saliency" in by_form.json()
    batch = client.post("/predict/batch", files={"files": digits["7"]}, data={"model": "cnn"})
    assert batch.json()[0]["model"] == "cnn"
    once = client.post("/predict?model=cnn", files={"file": digits["7"]}, data={"model": "cnn"})
    assert once.json()["model"] == "cnn"


@pytest.mark.parametrize(
    ("path", "fields", "status", "words"),
    [
        ("/predict", {"model": "nope"}, 404, "nope"),
        ("/predict", {"preprocess": "some"}, 422, "auto, none"),
        ("/predict", {"explain": "maybe"}, 422, "true or false"),
        ("/predict?model=digits", {"model": "cnn"}, 422, "say it once"),
        ("/predict", {"model": "x" * 1000}, 422, "short text"),
        ("/predict", {"modle": "cnn"}, 422, "did you mean 'model'?"),
        ("/predict", {"Model": "cnn"}, 422, "did you mean 'model'?"),
        ("/predict", {"comment": "x"}, 422, "leave it out"),
        ("/predict/batch", {"explain": "true"}, 422, "leave it out"),
    ],
)  # fmt: skip
def test_a_field_that_says_nothing_is_refused(
    client: TestClient, digits: dict[str, bytes], path: str, fields: dict[str, str], status: int, words: str
) -> None:
    answer = client.post(path, files={"file": digits["7"]}, data=fields)
    assert answer.status_code == status, answer.text
    assert words in answer.text


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("POST", "/predict?modle=cnn", "did you mean 'model'?"),
        ("POST", "/predict?Model=cnn", "did you mean 'model'?"),
        ("POST", "/predict?model=cnn&MODEL=x", "did you mean 'model'?"),
        ("POST", "/predict?pre-process=none", "did you mean 'preprocess'?"),
        ("POST", "/predict?explian", "did you mean 'explain'?"),
        ("POST", "/predict?model=cnn&model=digits", "twice"),
        ("POST", "/predict/batch?explain=true", "leave it out"),
        ("GET", "/train?stauts=queued", "did you mean 'status'?"),
        ("GET", "/train?offset=3", "status, limit, cursor"),
        ("GET", "/models?x=1", "there is none here"),
        ("GET", "/models/minist/versions/1/mistakes?tru=3", "did you mean 'true'?"),
    ],
)
def test_an_unknown_query_parameter_is_422_and_the_near_miss_is_named(
    client: TestClient, digits: dict[str, bytes], method: str, path: str, words: str
) -> None:
    answer = client.request(method, path, content=digits["7"] if method == "POST" else None, headers=PNG)
    body = is_problem(answer, 422, "Invalid request")
    assert words in f"{body['detail']} {body['hint']}"


def test_monitoring_may_ask_with_whatever_it_likes(client: TestClient) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert client.get(f"{path}?verbose&x=1").status_code == 200
