"""`POST /v1/models/NAME:predict`: scripts written for TF Serving and Vertex AI."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.main import create_app
from tests.people import ROW, serve_tables
from tests.samples import PNG, photograph
from tests.test_v2 import refused

URL = "/v1/models/minist:predict"
PEOPLE = "/v1/models/people:predict"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = serve_tables(tmp_path_factory.mktemp("v1"), log_requests=False)
    with TestClient(create_app(settings)) as client:
        client.app_state["services"].registry.refresh()
        yield client


def base64_of(file: bytes) -> str:
    return base64.b64encode(file).decode()


def test_pixels_and_files_are_answered_as_by_predict(asked: TestClient, digits: dict[str, bytes]) -> None:
    expected = asked.post("/predict?model=minist", content=digits["8"], headers=PNG).json()
    path = Path(__file__).parent.parent / "examples" / "8.png"
    grey = np.asarray(Image.open(path).convert("L"))
    file = base64_of(digits["8"])
    for instance in (
        grey.tolist(),
        grey.ravel().tolist(),
        (grey[..., None] / 255).tolist(),
        (grey[None] * 1.0).tolist(),
        {"input": grey.tolist()},
        {"b64": file},
        {"image_bytes": {"b64": file}},
        f"data:image/png;base64,{file}",
    ):
        answer = asked.post(URL, json={"instances": [instance, instance], "signature_name": "serving_default"})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        np.testing.assert_allclose(
            found["predictions"], [list(expected["probabilities"].values())] * 2, atol=2e-6
        )
        assert (found["labels"], found["model"], found["version"]) == (["8", "8"], "minist", 1)
        assert found["classes"][int(np.argmax(found["predictions"][0]))] == "8"
    photo = {"b64": base64_of(photograph(digits["8"], (400, 260)))}
    assert asked.post("/v1/models/minist/versions/1:predict", json={"instances": [photo]}).json()["labels"] == [
        "8"
    ]


@pytest.mark.parametrize("count", [2, 3_000])
def test_rows_are_objects_or_lists(asked: TestClient, count: int) -> None:
    """The latter are read in a decoder."""
    rows = [{**ROW, "age": 18 + i % 60} for i in range(count)]
    expected = [asked.post("/predict?model=people", json=row).json() for row in rows[:2]]
    for instances in (rows, [list(row.values()) for row in rows]):
        found = asked.post(PEOPLE, json={"instances": instances}).json()
        assert len(found["predictions"]) == count
        probabilities = [list(one["probabilities"].values()) for one in expected]
        np.testing.assert_allclose(found["predictions"][:2], probabilities, atol=2e-6)
        assert found["labels"][:2] == [one["label"] for one in expected]
    wrong: list[Any] = [*rows[:-1], {**ROW, "since": "never"}]
    refused(asked.post(PEOPLE, json={"instances": wrong}), 422, f"row {count}: column 'since'")


def test_many_pictures_are_read_in_a_decoder(asked: TestClient, digits: dict[str, bytes]) -> None:
    path = Path(__file__).parent.parent / "examples" / "8.png"
    pixels = (np.asarray(Image.open(path).convert("L")) / 255).round(4).tolist()
    answer = asked.post(URL, json={"instances": [pixels] * 300})
    assert answer.json()["labels"] == ["8"] * 300
    files = [{"b64": base64_of(digits[str(i % 10)])} for i in range(500)]
    assert asked.post(URL, json={"instances": files}).json()["labels"] == [str(i % 10) for i in range(500)]


def test_what_cannot_be_answered_is_an_error_of_theirs(asked: TestClient) -> None:
    refused(asked.post("/v1/models/none:predict", json={"instances": [[0]]}), 404, "no model")
    refused(asked.post("/v1/models/minist:explain", json={}), 404)
    refused(asked.get(URL), 405)
    refused(asked.post(URL, json={"inputs": []}), 422, "instances")
    refused(asked.post(URL, json={"instances": [[0, 1]]}), 422, "takes [N, 1, 28, 28]")
    refused(asked.post(URL, json={"instances": [{"b64": "eA=="}]}), 422, "not an image")
    refused(asked.post(PEOPLE, json={"instances": [{"b64": "eA=="}]}), 422, "row 1: there is no column")
    refused(asked.post(PEOPLE, content=b"[]"), 422, "instances")
    refused(asked.post(URL, content=json.dumps({"instances": [[float("nan")] * 784]})), 422, "no pixels")
    refused(asked.post(URL, content=bytes(70_000_000)), 413)


def test_the_state_of_versions(asked: TestClient) -> None:
    (found,) = asked.get("/v1/models/minist").json()["model_version_status"]
    assert found == {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    refused(asked.get("/v1/models/none"), 404)
