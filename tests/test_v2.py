"""The Open Inference Protocol over REST: answers are those of /predict, errors are `{"error": ..}`."""

import base64
import gzip
import io
import json
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import app.web.v2.infer_path
from app.errors import TooSlow
from app.main import create_app
from app.serving.decoding.tensors import TYPES, text_bytes
from app.settings import Settings
from app.web.problems import problem_of
from app.web.protocol import ProbesOnly, _raw_answer
from app.web.v2.errors import is_theirs
from tests.conftest import ADMIN
from tests.people import CLASSES, ROW, serve_tables
from tests.samples import PNG, photograph, png_header

INFER = "/v2/models/minist/infer"
PEOPLE = "/v2/models/people/infer"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service of its own, with a model of a table: models are unloaded here."""
    settings = serve_tables(tmp_path_factory.mktemp("v2"), log_requests=False)
    with TestClient(create_app(settings)) as client:
        client.app_state["services"].registry.refresh()
        yield client


@pytest.fixture(scope="module")
def pixels() -> dict[str, np.ndarray]:
    root = Path(__file__).parent.parent / "examples"
    return {str(label): np.asarray(Image.open(root / f"{label}.png").convert("L")) for label in range(10)}


def tensor(array: Any, datatype: str = "UINT8", name: str = "input", **more: Any) -> dict[str, Any]:
    found = np.asarray(array)
    return {"name": name, "shape": list(found.shape), "datatype": datatype, "data": found.tolist(), **more}


def body(*inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inputs": list(inputs), **more}


def binary(inputs: list[tuple[str, str, tuple[int, ...], bytes]], **more: Any) -> tuple[bytes, dict[str, str]]:
    """A body with raw tensors, and its header."""
    said = [
        {"name": name, "datatype": kind, "shape": list(shape), "parameters": {"binary_data_size": len(raw)}}
        for name, kind, shape, raw in inputs
    ]
    head = json.dumps({"inputs": said, **more}).encode()
    return head + b"".join(raw for *_, raw in inputs), {"inference-header-content-length": str(len(head))}


def outputs(response: Any) -> dict[str, np.ndarray]:
    """Of a JSON or binary answer, by name; arrays of their shapes."""
    assert response.status_code == 200, response.text
    size = int(response.headers.get("inference-header-content-length", len(response.content)))
    said, rest, found = json.loads(response.content[:size]), response.content[size:], {}
    for one in said["outputs"]:
        if "data" in one:
            array = np.array(one["data"])
        else:
            raw, rest = (
                np.frombuffer(rest, "u1", one["parameters"]["binary_data_size"]),
                rest[one["parameters"]["binary_data_size"] :],
            )
            array = _texts(raw.tobytes()) if one["datatype"] == "BYTES" else raw.view("<f4")
        found[one["name"]] = array.reshape(one["shape"])
    assert not rest
    return found


def _texts(raw: bytes) -> np.ndarray:
    found, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        found.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array(found)


def refused(response: Any, status: int, words: str = "") -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()
    assert list(error) == ["error"]
    assert words in error["error"]
    return str(error["error"])


def test_what_the_server_says_of_itself(asked: TestClient) -> None:
    for path in ("/v2", "/v2/"):
        found = asked.get(path).json()
        assert found["name"] == "minist"
        assert {"binary_tensor_data", "classification", "model_repository", "statistics"} <= {
            *found["extensions"]
        }
    assert asked.get("/v2/health/live").json() == {"live": True}
    assert asked.get("/v2/health/ready").json() == {"ready": True}


def test_metadata_of_pictures_and_of_tables(asked: TestClient) -> None:
    found = asked.get("/v2/models/minist").json()
    assert (found["name"], found["versions"]) == ("minist", ["1"])
    assert found["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": [-1, 1, 28, 28]},
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
    ]
    assert found["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
    ]
    table = asked.get("/v2/models/people/versions/1").json()
    assert [(one["name"], one["datatype"], one["shape"]) for one in table["inputs"]] == [
        ("features", "FP32", [-1, 5]), ("age", "FP32", [-1]), ("weight, kg", "FP32", [-1]),
        ("work", "BYTES", [-1]), ("smokes", "BYTES", [-1]), ("since", "BYTES", [-1]),
    ]  # fmt: skip
    assert asked.get("/v2/models/minist/ready").json() == {"name": "minist", "ready": True}
    assert asked.get("/v2/models/minist/versions/production/ready").json()["ready"] is True
    for path in ("/v2/models/none", "/v2/models/minist/versions/9", "/v2/models/none/ready"):
        refused(asked.get(path), 404, "there is no model")


def test_answers_are_those_of_predict(
    asked: TestClient, digits: dict[str, bytes], pixels: dict[str, np.ndarray]
) -> None:
    """In JSON and binary, as pixels of several types and as files, by name, version and alias."""
    for label in ("3", "7"):
        expected = asked.post("/predict?model=minist", content=digits[label], headers=PNG).json()
        image = pixels[label][None, None]
        ways = [
            asked.post(INFER, json=body(tensor(image))),
            asked.post(INFER, json=body(tensor(image.ravel()[None]))),
            asked.post(INFER, json=body(tensor(image / 255, "FP64"))),
            asked.post("/v2/models/minist/versions/1/infer", json=body(tensor(image[0]))),
            asked.post("/v2/models/minist@production/infer", json=body(tensor(image[..., None][0], "INT32"))),
            asked.post(INFER, json=body(tensor([base64.b64encode(digits[label]).decode()], "BYTES", "image"))),
        ]
        for kind in ("UINT8", "FP32", "FP16"):
            raw = (image if kind == "UINT8" else image / 255).astype(TYPES[kind]).tobytes()
            content, headers = binary([("input", kind, image.shape, raw)])
            ways.append(asked.post(INFER, content=content, headers=headers))
        content, headers = binary([("image", "BYTES", (1,), text_bytes([digits[label]]))])
        ways.append(asked.post(INFER, content=content, headers=headers))
        for response in ways:
            found = outputs(response)
            assert response.json()["model_version"] == "1"
            assert found["label"].tolist() == [label]
            np.testing.assert_allclose(
                found["probabilities"][0], list(expected["probabilities"].values()), rtol=0, atol=2e-6
            )


def test_many_images_of_all_kinds_come_back_in_order(
    asked: TestClient, digits: dict[str, bytes], pixels: dict[str, np.ndarray]
) -> None:
    labels = [str(i % 10) for i in range(300)]
    images = np.stack([pixels[label] for label in labels])
    content, headers = binary([("input", "FP32", images.shape, (images / 255).astype("<f4").tobytes())])
    files = [
        photograph(digits[label], (400, 260)) if i % 50 == 0 else digits[label]
        for i, label in enumerate(labels)
    ]
    large, sized = binary([("image", "BYTES", (300,), text_bytes(files))])
    for response in (
        asked.post(INFER, json=body(tensor(images))),  # JSON of a megabyte: read in a decoder
        asked.post(INFER, content=content, headers=headers),
        asked.post(INFER, content=large, headers=sized),
    ):
        assert outputs(response)["label"].tolist() == labels


def test_outputs_are_what_is_asked_for(asked: TestClient, pixels: dict[str, np.ndarray]) -> None:
    given = tensor(np.stack([pixels["4"], pixels["9"]]))
    every = outputs(asked.post(INFER, json=body(given)))
    raw = asked.post(INFER, json=body(given, parameters={"binary_data_output": True}, id="id 1"))
    assert raw.headers["content-type"] == "application/octet-stream"
    assert json.loads(raw.content[: int(raw.headers["inference-header-content-length"])])["id"] == "id 1"
    np.testing.assert_allclose(outputs(raw)["probabilities"], every["probabilities"], rtol=1e-6)
    assert outputs(raw)["label"].tolist() == ["4", "9"]

    mixed = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "probabilities"}]
    assert list(outputs(asked.post(INFER, json=body(given, outputs=mixed)))) == ["label", "probabilities"]
    assert list(outputs(asked.post(INFER, json=body(given, outputs=[{"name": "label"}])))) == ["label"]

    for binary_data in (False, True):
        wanted = {"name": "probabilities", "parameters": {"classification": 3, "binary_data": binary_data}}
        found = outputs(asked.post(INFER, json=body(given, outputs=[wanted])))["probabilities"]
        assert found.shape == (2, 3)
        for row, texts in zip(every["probabilities"], found, strict=True):
            parts = [text.split(":") for text in texts]
            best = np.argsort(-row)[:3]
            assert [int(index) for _, index, _ in parts] == best.tolist()
            assert [label for *_, label in parts] == [str(index) for index in best]
            np.testing.assert_allclose([float(value) for value, *_ in parts], row[best], rtol=1e-6)
    wanted = {"name": "probabilities", "parameters": {"classification": 99}}
    assert outputs(asked.post(INFER, json=body(given, outputs=[wanted])))["probabilities"].shape == (2, 10)


def people(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        tensor([row["age"] for row in rows], "FP32", "age"),
        tensor([str(row["weight, kg"]) for row in rows], "BYTES", "weight, kg"),
        tensor([[row["work"]] for row in rows], "BYTES", "work"),
        tensor([row["smokes"] for row in rows], "BOOL", "smokes"),
        tensor([row["since"] for row in rows], "BYTES", "since"),
    ]


def test_rows_come_as_columns_or_as_features(asked: TestClient) -> None:
    others = [ROW, {**ROW, "age": 80}, {**ROW, "work": "astronaut", "smokes": True}]
    expected = [asked.post("/predict?model=people", json=row).json() for row in others]
    probabilities = [list(one["probabilities"].values()) for one in expected]
    days = (np.datetime64("1999-12-31") - np.datetime64("1970-01-01")).astype(int)
    features = [[39, 72.5, 1, 0, days], [80, 72.5, 1, 0, days], [39, 72.5, 3, 1, days]]
    raw = np.array(features, "<f4")
    content, headers = binary([("features", "FP32", raw.shape, raw.tobytes())])
    for response in (
        asked.post(PEOPLE, json=body(*people(*others))),
        asked.post(PEOPLE, json=body(tensor(features, "FP64", "features"))),
        asked.post(PEOPLE, content=content, headers=headers),
    ):
        found = outputs(response)
        np.testing.assert_allclose(found["probabilities"], probabilities, rtol=0, atol=2e-6)
        assert found["label"].tolist() == [one["label"] for one in expected]
        assert {*found["label"]} <= {*CLASSES}


def test_many_rows_are_read_in_a_decoder(asked: TestClient) -> None:
    rows = [{**ROW, "age": 18 + i % 70} for i in range(3_000)]
    found = outputs(asked.post(PEOPLE, json=body(*people(*rows))))
    some = outputs(asked.post(PEOPLE, json=body(*people(*rows[:70]))))
    np.testing.assert_allclose(found["probabilities"][:70], some["probabilities"], atol=1e-6)
    rows[2_000]["since"] = "yesterday"
    refused(asked.post(PEOPLE, json=body(*people(*rows))), 422, "row 2001: column 'since'")


def test_missing_cells_are_nan_or_empty(asked: TestClient) -> None:
    expected = asked.post("/predict?model=people", json=dict.fromkeys(ROW)).json()
    missing = dict.fromkeys(("weight, kg", "work", "since"), "")
    columns = people({**ROW, **missing, "age": float("nan")})
    columns[3] = tensor([""], "BYTES", "smokes")
    for given in ([tensor([[float("nan")] * 5], "FP32", "features")], columns):
        found = outputs(asked.post(PEOPLE, content=json.dumps(body(*given))))
        np.testing.assert_allclose(
            found["probabilities"][0], list(expected["probabilities"].values()), atol=2e-6
        )


@pytest.mark.parametrize(("cell", "datatype"), [("old", "BYTES"), (float("inf"), "FP32")])
def test_cells_that_cannot_be_read_are_named(asked: TestClient, cell: Any, datatype: str) -> None:
    given = people(ROW)
    given[0] = tensor([cell], datatype, "age")
    refused(asked.post(PEOPLE, content=json.dumps(body(*given))), 422, "column 'age'")


def test_features_are_checked(asked: TestClient) -> None:
    days = 10_000
    for features, words in (
        ([[39, 72.5, 1, 0]], "takes [N, 5]"),
        ([[39, 72.5, 0.5, 0, days]], "row 1: column 'work'"),
        ([[39, 72.5, -1, 0, days]], "row 1: column 'work'"),
        ([[39, 72.5, 1, 0, days], [39, float("inf"), 1, 0, days]], "row 2: column 'weight, kg'"),
        ([[39, 72.5, 1, 0, 1e9]], "row 1: column 'since'"),
    ):
        given = body(tensor(features, "FP64", "features"))
        refused(asked.post(PEOPLE, content=json.dumps(given)), 422, words)
    refused(asked.post(PEOPLE, json=body(*people(ROW)[:4])), 422, "column 'since' is missing")
    refused(asked.post(PEOPLE, json=body(*people(ROW), tensor([1], "FP32", "sice"))), 422, "no column 'sice'")
    uneven = [*people(ROW)[:4], tensor(["31.12.1999"] * 2, "BYTES", "since")]
    refused(asked.post(PEOPLE, json=body(*uneven)), 422, "same N")


def test_errors_are_theirs_whoever_finds_them(
    asked: TestClient, digits: dict[str, bytes], pixels: dict[str, np.ndarray]
) -> None:
    good = body(tensor(pixels["1"][None]))
    refused(asked.post("/v2/models/none/infer", json=good), 404, "no model 'none'")
    refused(asked.post("/v2/models/minist/versions/7/infer", json=good), 404, "minist@7")
    refused(asked.post("/v2/models/minist/versions/" + "9" * 400 + "/infer", json=good), 404)
    refused(asked.get("/v2/nothing"), 404)
    assert asked.get(INFER).headers["allow"] == "POST"
    refused(asked.get(INFER), 405)
    refused(asked.post("/v2/health/live"), 405)
    refused(asked.post(INFER, content=bytes(70_000_000)), 413, "more than the")
    refused(asked.post("/v2/repository/index", content=bytes(70_000)), 413)
    refused(asked.post(INFER, content=b"x", headers={"content-encoding": "br"}), 415, "br")
    refused(asked.post(INFER, content=b""), 422, "no bytes")
    refused(asked.post(INFER, content=b"\xff"), 422, "not JSON")
    refused(asked.post(INFER, json=body(tensor(["x"], "BYTES", "image"))), 422, "not an image")
    refused(
        asked.post(INFER, json=body(tensor(pixels["1"][None]), tensor(["x"], "BYTES", "image"))),
        422,
        "send one",
    )
    refused(asked.post(INFER, json=body(tensor([[1.0]], "FP32", "features"))), 422, "send one: 'input'")
    refused(asked.post(PEOPLE, json=body(tensor(["x"], "BYTES", "image"))), 422, "no column 'image'")
    refused(asked.post(PEOPLE, json=body(*people(ROW), parameters={"preprocess": "none"})), 422, "preprocess")
    for size in ("0", "-1", "x", "99999", "9" * 50):
        headers = {"inference-header-content-length": size}
        refused(asked.post(INFER, json=good, headers=headers), 422, "Inference-Header-Content-Length")
    files = [digits["1"], png_header(30_000, 30_000), b"x"]
    content, headers = binary([("image", "BYTES", (3,), text_bytes(files))])
    refused(asked.post(INFER, content=content, headers=headers), 422, "image 2: ")
    options = {"parameters": {"preprocess": "none"}}
    large = tensor([base64.b64encode(photograph(digits["1"], (400, 260))).decode()], "BYTES", "image")
    assert asked.post(INFER, json=body(large)).status_code == 200
    refused(asked.post(INFER, json={**body(large), **options}), 422, "400x260")


def test_packed_bodies_are_unpacked_within_the_limit(asked: TestClient, pixels: dict[str, np.ndarray]) -> None:
    """The announced length is that of the JSON before it is packed."""
    raw = pixels["6"].tobytes()
    content, headers = binary([("input", "UINT8", (1, 1, 28, 28), raw)])
    for name, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        packed = asked.post(INFER, content=pack(content), headers={**headers, "content-encoding": name})
        assert outputs(packed)["label"].tolist() == ["6"]
    bomb = {"content-encoding": "gzip"}
    refused(asked.post(INFER, content=gzip.compress(bytes(100_000_000), 1), headers=bomb), 413, "unpacked")
    refused(asked.post(INFER, content=b"no gzip", headers=bomb), 422, "gzip")


def test_keys_and_rate_limits_are_as_elsewhere(settings: Settings, pixels: dict[str, np.ndarray]) -> None:
    closed = settings.model_copy(update={"open_predict": False, "rate_limit": "20/minute"})
    good = body(tensor(pixels["1"][None]))
    with TestClient(create_app(closed)) as client:
        for path in ("/v2/models/minist", "/v2/models/minist/stats", "/v2/models/stats"):
            refused(client.get(path), 401)
            assert client.get(path, headers=ADMIN).status_code == 200
        refused(client.post(INFER, json=good), 401, "API key")
        assert client.post(INFER, json=good, headers=ADMIN).status_code == 200
        refused(client.post("/v2/repository/index"), 401)
        for _ in range(40):
            assert client.get("/v2/health/live").status_code == 200  # probes are free
            response = client.post(INFER, json=good, headers=ADMIN)
        refused(response, 429, "20 per 1 minute")
        assert int(response.headers["retry-after"]) > 0


def test_what_is_too_much_is_503_and_the_server_not_ready(
    settings: Settings, pixels: dict[str, np.ndarray]
) -> None:
    narrow = settings.model_copy(update={"max_waiting_bytes": 1})
    with TestClient(create_app(narrow)) as client:
        client.app_state["services"].batcher.admit(1)
        response = client.post(INFER, json=body(tensor(pixels["1"][None])))
        refused(response, 503, "bytes of requests")
        assert int(response.headers["retry-after"]) >= 1
        ready = client.get("/v2/health/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)


def test_a_model_can_be_taken_out_of_service(asked: TestClient, digits: dict[str, bytes]) -> None:
    """For every door, also after a restart; its versions stay, and the default model is kept."""
    refused(asked.post("/v2/repository/models/cnn/unload"), 401)
    assert asked.post("/v2/repository/models/cnn/unload", headers=ADMIN).status_code == 200
    again = asked.post(
        "/v2/repository/models/cnn/unload", headers=ADMIN, json={"parameters": {"unload_dependents": False}}
    )
    assert (again.status_code, again.content) == (200, b"")
    ready = asked.get("/v2/models/cnn/ready")
    assert (ready.status_code, ready.json()["ready"]) == (409, False)
    for name in ("cnn", "cnn@1", "cnn@production"):
        refused(asked.post(f"/v2/models/{name}/infer", json={}), 409, "out of service")
        answer = asked.post(f"/predict?model={name}", content=digits["1"], headers=PNG)
        assert (answer.status_code, answer.json()["title"]) == (409, "Unloaded model")
    assert "cnn" not in [one["name"] for one in asked.get("/models").json()]
    assert [one["version"] for one in asked.get("/models/cnn/versions").json()] == [1]
    assert asked.get("/models/cnn/audit").json()[0]["action"] == "unload"
    assert asked.get("/readyz").json()["degraded"] == []
    index = {one["name"]: one for one in asked.post("/v2/repository/index").json()}
    assert index["cnn"] == {"name": "cnn", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
    assert index["minist"]["state"] == "READY"
    only = asked.post("/v2/repository/index", json={"ready": True}).json()
    assert "cnn" not in [one["name"] for one in only]

    settings = asked.app_state["services"].settings
    with TestClient(create_app(settings)) as other:  # another process of the same service
        refused(other.post("/v2/models/cnn/infer", json={}), 409, "out of service")
        assert asked.post("/v2/repository/models/cnn/load", headers=ADMIN, content=b"").status_code == 200
        deadline = time.monotonic() + 20
        while other.get("/v2/models/cnn/ready").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert other.post("/predict?model=cnn", content=digits["1"], headers=PNG).json()["label"] == "1"
    assert asked.post("/predict?model=cnn", content=digits["1"], headers=PNG).json()["label"] == "1"

    refused(asked.post("/v2/repository/models/digits/unload", headers=ADMIN), 409, "name no model")
    for what in ("load", "unload"):
        refused(asked.post(f"/v2/repository/models/none/{what}", headers=ADMIN), 404)
        refused(asked.post(f"/v2/repository/models/cnn/{what}", headers=ADMIN, content=b"["), 422)
    config = {"parameters": {"config": "{}"}}
    refused(
        asked.post("/v2/repository/models/cnn/load", headers=ADMIN, json=config),
        422,
        "not loaded from requests",
    )


def test_statistics_metrics_and_the_log_count_it(asked: TestClient, pixels: dict[str, np.ndarray]) -> None:
    def stats(path: str = "/v2/models/softmax-mnist/stats") -> dict[str, Any]:
        (found,) = asked.get(path).json()["model_stats"]
        return dict(found)

    url = "/v2/models/softmax-mnist/infer"
    before, executions = stats()["inference_count"], stats()["execution_count"]
    assert asked.post(url, json=body(tensor(np.stack([pixels["1"]] * 3)))).status_code == 200
    refused(asked.post(url, json=body(tensor([[1]]))), 422)
    found = stats("/v2/models/softmax-mnist/versions/1/stats")
    assert (found["name"], found["version"]) == ("softmax-mnist", "1")
    assert found["inference_count"] == before + 3
    assert found["execution_count"] == executions + 1
    times = found["inference_stats"]
    assert (times["success"]["count"], times["fail"]["count"]) == (1, 1)
    parts = [times[part] for part in ("queue", "compute_input", "compute_infer", "compute_output")]
    assert all(part["count"] == 1 and part["ns"] > 0 for part in parts)
    assert sum(part["ns"] for part in parts[:3]) <= times["success"]["ns"]
    assert abs(found["last_inference"] / 1000 - time.time()) < 60
    assert len(asked.get("/v2/models/stats").json()["model_stats"]) > 2
    page = asked.get("/metrics").text
    assert 'minist_requests_total{route="/v2/models/{name}/infer",status="200"}' in page
    assert 'minist_requests_total{route="/v2/models/{name}/infer",status="422"}' in page


def test_both_ways_give_the_same_answers(
    asked: TestClient, pixels: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short way, and the documented route."""
    content, headers = binary([("input", "UINT8", (1, 1, 28, 28), pixels["2"].tobytes())], id="x")
    asks: list[tuple[str, bytes, dict[str, str]]] = [
        (INFER, content, headers),
        ("/v2/models/minist/versions/1/infer", content, headers),
        (INFER, content, {}),
        ("/v2/models/none/infer", content, headers),
        (INFER, content, {**headers, "content-encoding": "br"}),
        (INFER, bytes(70_000_000), {}),
    ]

    def answers() -> list[tuple[int, bytes, dict[str, str]]]:
        found = [asked.post(path, content=sent, headers=said) for path, sent, said in asks]
        kept = [{key: one.headers[key] for key in one.headers if key != "x-request-id"} for one in found]
        return [(one.status_code, one.content, more) for one, more in zip(found, kept, strict=True)]

    quick = answers()
    monkeypatch.setattr(app.web.v2.infer_path, "_usual", lambda scope: None)
    assert answers() == quick
    assert [status for status, *_ in quick] == [200, 200, 422, 404, 415, 413]


def test_large_json_does_not_hold_up_others(asked: TestClient, pixels: dict[str, np.ndarray]) -> None:
    """Eight megabytes of numbers: /livez is answered while they are read."""
    large = json.dumps(body(tensor(np.stack([pixels["1"]] * 2_500)), outputs=[{"name": "label"}]))
    assert len(large) > 6_000_000
    waits: list[float] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            begun = time.monotonic()
            assert asked.get("/livez").status_code == 200
            waits.append(time.monotonic() - begun)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert outputs(asked.post(INFER, content=large))["label"].tolist() == ["1"] * 2_500
    finally:
        done.set()
        asking.join()
    assert len(waits) > 3


def test_the_pool_of_decoders_survives_what_is_no_tensor(asked: TestClient) -> None:
    deep = b'{"inputs": ' + b"[" * 200_000
    for content in (deep, b'{"inputs": [' + b"1," * 100_000 + b"1]}", b"[" + b" " * 100_000):
        for path in (INFER, PEOPLE):
            refused(asked.post(path, content=content), 422)
    lost = asked.app_state["services"].counters.decoders_lost
    assert not lost


def test_openapi_lists_them_with_their_errors(asked: TestClient) -> None:
    document = asked.get("/openapi.json").json()
    paths = {path: [*operations] for path, operations in document["paths"].items() if path.startswith("/v2")}
    assert paths["/v2/models/{name}/infer"] == ["post"]
    assert {"/v2", "/v2/health/live", "/v2/models/{name}/versions/{version}/ready", "/v2/repository/index"} <= {
        *paths
    }
    errors = document["paths"]["/v2/models/{name}/infer"]["post"]["responses"]
    schema = {"$ref": "#/components/schemas/ProtocolError"}
    assert {"401", "404", "413", "415", "422", "429", "503", "504"} <= {*errors}
    contents = [one["content"] for status, one in errors.items() if status > "400"]
    assert all(list(content) == ["application/json"] for content in contents)
    assert all(content["application/json"]["schema"] == schema for content in contents)


def test_pictures_are_preprocessed_as_for_predict(asked: TestClient, digits: dict[str, bytes]) -> None:
    photo = photograph(digits["5"], (400, 260))
    expected = asked.post("/predict?model=minist", content=photo, headers={"content-type": "image/jpeg"}).json()
    stream = io.BytesIO()
    Image.open(io.BytesIO(photo)).save(stream, "PNG")
    for file in (photo, stream.getvalue()):
        content, headers = binary([("image", "BYTES", (1, 1), text_bytes([file]))])
        found = outputs(asked.post(INFER, content=content, headers=headers))
        assert found["label"].tolist() == ["5"] == [expected["label"]]


def test_refusals_before_the_application_are_theirs_too(settings: Settings) -> None:
    """A host that is not allowed; a connection too many; a body that comes too slowly."""
    guarded = settings.model_copy(update={"allowed_hosts": "example.org"})
    with TestClient(create_app(guarded)) as client:
        refused(client.get("/v2/models/minist"), 400, "Host header")
        connections = client.app_state["services"].connections

        async def unreached(scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError

        beyond = TestClient(ProbesOnly(unreached, connections))
        response = beyond.post("/prefix/v2/models/minist/infer", content=b"{}")
        refused(response, 503, "connections are open")
        assert response.headers["retry-after"] == "1"
    slow = _raw_answer(problem_of(TooSlow("the body came slowly", "send it faster")), plain=True)
    assert slow.startswith(b"HTTP/1.1 408 ")
    assert slow.endswith(b'{"error": "the body came slowly: send it faster"}')


@pytest.mark.parametrize(
    ("path", "theirs"),
    [
        ("/v2", True),
        ("/v2/nothing/of/ours", True),
        ("/v1/models/minist:predict", True),
        ("/tools/minist/v2/models/minist/infer", True),
        ("/tools/v1/models/minist:predict", True),
        ("/tools/v2/health/ready", True),
        ("/models/v2", False),
        ("/models/v2/versions/1", False),
        ("/models/v1/export", False),
        ("/predict", False),
        ("/v3/models/minist", False),
    ],
)
def test_errors_have_the_form_of_the_protocol_whose_path_it_is(path: str, theirs: bool) -> None:
    assert is_theirs(path) is theirs
