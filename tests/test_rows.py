"""Models of tables, asked over HTTP: a row, many rows, explanations, schemas; and what pictures are told."""

import csv
import gzip
import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from app.main import create_app
from app.web.rows import INLINE_BYTES
from models.tables import encode_row
from tests.conftest import ADMIN
from tests.people import (
    CLASSES,
    ROW,
    SPEC,
    WIDE,
    counts,
    of_otto_s_shape,
    rows,
    serve_tables,
    trained,
    wrong_labels,
)
from tests.samples import PNG, is_problem

BATCH = "/predict/batch?model=people"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = serve_tables(tmp_path_factory.mktemp("tables"), log_requests=False, feedback=True)
    with TestClient(create_app(settings)) as client:
        registry = client.app_state["services"].registry
        registry.refresh()
        registry.freeze()
        yield client


def expected(row: dict[str, Any]) -> list[float]:
    """What the network says of a row, without the service."""
    with torch.inference_mode():
        found: list[float] = trained()[0](torch.from_numpy(encode_row(SPEC, row))[None])[0].softmax(0).tolist()
    return found


def test_a_row_is_answered_as_the_network_answers_it(asked: TestClient) -> None:
    for row in (ROW, {**ROW, "age": 80}, {**ROW, "work": "astronaut", "age": None}, dict.fromkeys(ROW)):
        answer = asked.post("/predict?model=people", json=row).json()
        assert list(answer["probabilities"]) == list(CLASSES)
        assert list(answer["probabilities"].values()) == pytest.approx(expected(row), abs=1e-5)
        assert answer["label"] == CLASSES[answer["index"]]
        assert (answer["model"], answer["version"]) == ("people", 1)
        assert "input" not in answer


def test_the_fast_path_and_the_documented_route_say_the_same(asked: TestClient) -> None:
    """The second is taken where a parameter comes beside the model."""
    paths = "/predict?model=people", "/predict?model=people&explain=false"
    for body in (json.dumps(ROW), "{", json.dumps({**ROW, "age": "x"})):
        one, other = (
            asked.post(path, content=body, headers={"content-type": "application/json"}) for path in paths
        )
        assert one.status_code == other.status_code
        same = [{**answer.json(), "id": None} for answer in (one, other)]
        assert same[0] == same[1]


def test_a_large_row_is_read_in_a_decoder(asked: TestClient) -> None:
    body = json.dumps(ROW) + " " * INLINE_BYTES
    answer = asked.post("/predict?model=people", content=body, headers={"content-type": "application/json"})
    assert (
        answer.json()["probabilities"] == asked.post("/predict?model=people", json=ROW).json()["probabilities"]
    )
    is_problem(
        asked.post("/predict?model=people", content=" " * INLINE_BYTES + "[" * 100_000), 422, "Wrong table"
    )


def test_versions_and_defaults(tmp_path: Path) -> None:
    settings = serve_tables(tmp_path, log_requests=False, default_model="people")
    with TestClient(create_app(settings)) as client:
        assert client.get("/readyz").status_code == 200
        for path in ("/predict", "/predict?model=people@1", "/predict?model=people@production"):
            assert client.post(path, json=ROW).json()["model"] == "people"
        is_problem(client.post("/predict", content=b"\x89PNG", headers=PNG), 415, "Wrong content type")


def test_rows_are_answered_in_order_and_bad_ones_are_problems_in_their_places(asked: TestClient) -> None:
    rows = [ROW, {**ROW, "age": "old"}, {**ROW, "age": 80}, 3]
    answers = asked.post(BATCH, json=rows).json()
    assert [answer.get("label") for answer in answers] == ["rowing", None, "chess", None]
    assert (answers[1]["title"], answers[1]["status"]) == ("Wrong row", 422)
    assert answers[1]["detail"] == "row 2: column 'age' holds 'old', where a number is expected"
    assert "row 4" in answers[3]["detail"]
    nothing = asked.post(BATCH, json=[3]).json()
    assert [answer["title"] for answer in nothing] == ["Wrong row"]


def test_answers_as_csv(asked: TestClient) -> None:
    rows = [ROW, {**ROW, "age": "old"}, {**ROW, "age": 20, "smokes": True}]
    answer = asked.post(BATCH, json=rows, headers={"accept": "text/csv, application/json"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert list(lines[0]) == ["label", "probability", *CLASSES, "problem"]
    assert [line["label"] for line in lines] == ["rowing", "", "=none"]
    assert [float(lines[0][label]) for label in CLASSES] == pytest.approx(expected(ROW), abs=1e-5)
    assert lines[0]["probability"] == lines[0]["rowing"]
    assert "column 'age' holds 'old'" in lines[1]["problem"]
    both = asked.post(BATCH, json=rows, headers={"accept": "application/json, text/csv"})
    assert both.headers["content-type"] == "application/json"


def test_the_otto_challenge_s_answer_is_what_comes_back(asked: TestClient) -> None:
    """A row's probabilities do not depend on what is sent with it, nor on the format."""
    numbers = counts(700)
    names = [column.name for column in WIDE.columns]
    text = "\n".join(
        [
            ",".join(["id", *names]),
            *(f"{row}," + ",".join(map(str, cells)) for row, cells in enumerate(numbers)),
        ]
    )
    path = "/predict/batch?model=wide"
    as_csv = asked.post(path, content=gzip.compress(text.encode()), headers={"content-encoding": "gzip"}).json()
    as_json = asked.post(path, json={"columns": names, "data": numbers.tolist()}).json()
    with torch.inference_mode():
        truth = of_otto_s_shape()[0](torch.from_numpy(numbers).float()).softmax(1).numpy()
    for answers in (as_csv, as_json):
        found = np.array([list(answer["probabilities"].values()) for answer in answers])
        np.testing.assert_allclose(found, truth, atol=1e-5)


def test_pictures_and_rows_each_to_their_models(asked: TestClient, digits: dict[str, bytes]) -> None:
    is_problem(asked.post("/predict?model=people", content=digits["1"], headers=PNG), 415, "Wrong content type")
    body = is_problem(
        asked.post("/predict", files={"file": digits["1"]}, data={"model": "people"}), 415, "Wrong content type"
    )
    assert '?model=people) and send a row as application/json, {"age": 39' in str(body["hint"])
    is_problem(
        asked.post("/predict/batch", files={"files": digits["1"]}, data={"model": "people"}),
        415,
        "Wrong content type",
    )
    row = is_problem(asked.post("/predict", json=ROW), 422, "Wrong form fields")
    assert "for the row of a table, name its model" in str(row["hint"])
    is_problem(
        asked.post("/predict/batch", content="a,b\n1,2", headers={"content-type": "text/csv"}),
        415,
        "Wrong content type",
    )
    is_problem(asked.post("/predict?model=people&preprocess=none", json=ROW), 422, "Invalid request")


def test_the_contributions_of_the_columns_sum_to_the_difference_of_logits(asked: TestClient) -> None:
    network = trained()[0]
    for row in (ROW, {**ROW, "age": 80}, dict.fromkeys(ROW), {**ROW, "smokes": "yes", "work": "astronaut"}):
        answer = asked.post("/predict?model=people&explain=true", json=row).json()
        assert list(answer["contributions"]) == list(ROW)
        ends = torch.stack([torch.from_numpy(encode_row(SPEC, row)), network.columns.typical()])
        with torch.inference_mode():
            logit, typical = network(ends)[:, answer["index"]].tolist()
        assert sum(answer["contributions"].values()) == pytest.approx(logit - typical, abs=0.05, rel=0.03)
    answer = asked.post("/predict?model=people&explain=true", json={**ROW, "age": 80}).json()
    assert max(answer["contributions"], key=lambda name: abs(answer["contributions"][name])) == "age"
    assert answer["typical"]["work"] == "private"
    assert 40 < answer["typical"]["age"] < 65


def test_the_typical_row_owes_nothing_to_any_column(asked: TestClient) -> None:
    typical = asked.post("/predict?model=people&explain=true", json=ROW).json()["typical"]
    again = {**typical, "since": ROW["since"]}
    found = asked.post("/predict?model=people&explain=true", json=again).json()["contributions"]
    assert max(abs(found[name]) for name in ("age", "weight, kg", "work", "smokes")) < 1e-3


def test_a_schema_says_what_a_row_is(asked: TestClient) -> None:
    schema = asked.get("/models/people/schema").json()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == list(ROW)
    assert schema["properties"]["age"]["x-minimum"] == 18
    assert schema["properties"]["work"]["examples"] == ["private", "state", "none"]
    (example,) = schema["examples"]
    assert asked.post("/predict?model=people", json=example).status_code == 200
    picture = asked.get("/models/digits/schema").json()
    assert picture["required"] == ["image"]
    is_problem(asked.get("/models/nobody/schema"), 404, "Unknown model")


def test_the_openapi_document_shows_the_rows_of_the_models_that_are_served(asked: TestClient) -> None:
    document = asked.get("/openapi.json").json()
    one = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert {"$ref": "#/components/schemas/Row.people"} in one["schema"]["anyOf"]
    assert list(document["components"]["schemas"]["Row.people"]["properties"])[: len(ROW)] == list(ROW)
    for name, example in one["examples"].items():
        assert asked.post(f"/predict?model={name}", json=example["value"]).status_code == 200
    kinds = {model["name"]: model["input"] for model in asked.get("/models").json()}
    assert (kinds["people"], kinds["digits"]) == ("table", "picture")


def test_while_many_rows_are_answered_others_are_too(asked: TestClient, digits: dict[str, bytes]) -> None:
    """The event loop is held for one slice of them at a time."""
    names = [column.name for column in WIDE.columns]
    body = json.dumps({"columns": names, "data": counts(10_000).tolist()})
    done = threading.Event()
    waited: list[float] = []

    def ask() -> None:
        while not done.is_set():
            begun = time.perf_counter()
            assert asked.post("/predict", files={"file": digits["1"]}).status_code == 200
            waited.append(time.perf_counter() - begun)

    other = threading.Thread(target=ask)
    other.start()
    answers = asked.post(
        "/predict/batch?model=wide", content=body, headers={"content-type": "application/json"}
    )
    done.set()
    other.join()
    assert len(answers.json()) == 10_000
    assert len(waited) > 10


def test_a_row_can_be_corrected_and_is_kept_as_the_model_read_it(asked: TestClient) -> None:
    known = asked.post("/predict?model=people", json={**ROW, "work": "astronaut", "age": None}).json()["id"]
    wrong = asked.post("/feedback", json={"prediction": known, "label": "nothing"})
    is_problem(wrong, 422, "Invalid request")
    kept = asked.post("/feedback", json={"prediction": known, "label": "chess"}).json()
    row = {"age": None, "weight, kg": 72.5, "work": "other", "smokes": "no", "since": "1999-12-31"}
    assert (kept["label"], kept["image"], kept["row"]) == ("chess", None, row)
    (item,) = asked.get("/feedback?model=people", headers=ADMIN).json()["items"]
    assert item["row"] == row
    archive = zipfile.ZipFile(io.BytesIO(asked.get("/feedback/export", headers=ADMIN).content))
    assert json.loads(archive.read(f"{known}.json")) == row
    made = asked.post("/datasets?name=again&from_corrections=people", headers=ADMIN)
    assert made.status_code == 202, made.text
    said = made.json()["options"]
    assert (said["target"], said["roles"]["since"], "age" in said["roles"]) == ("club", "date", False)


def test_versions_are_evaluated_on_the_test_rows_of_their_table(asked: TestClient) -> None:
    values, labels = rows()[0].clone(), wrong_labels()
    values[0, 2] = 3  # what the import calls `retired`
    with torch.inference_mode():
        found = trained()[0](values[::5]).argmax(1)
    expected = [[int(((labels[::5] == t) & (found == p)).sum()) for p in range(3)] for t in range(3)]
    table = asked.get("/models/people/versions/1/confusion").json()
    assert (table["matrix"], table["images"]) == (expected, 120)
    mistakes = asked.get("/models/people/versions/1/mistakes").json()
    assert len(mistakes) >= 10
    for mistake in mistakes:
        assert mistake["image"] is None
        assert (
            asked.post("/predict?model=people", json=sent(mistake["row"])).json()["label"]
            == mistake["predicted"]
        )
    same = asked.get("/models/people/compare?a=1&b=1").json()
    assert (same["agreement"], same["differ"]) == (1, [])
    is_problem(asked.get("/models/wide/versions/1/confusion"), 409, "The test set is not here")


def sent(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it was shown, as it can be sent."""
    day = row["since"] and ".".join(reversed(row["since"].split("-")))
    return {**row, "since": day}
