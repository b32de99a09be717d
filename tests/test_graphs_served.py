"""ONNX models behind the API and at the command line: uploaded, asked, ended, exported."""

import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.cli import main
from app.home import Home
from app.main import create_app
from app.settings import Settings
from app.store.supervisors import Heartbeat
from models.graphs.module import Graph
from tests import onnx_files
from tests.conftest import ADMIN, ADMIN_KEY, SAMPLE
from tests.samples import is_problem

LINE = onnx_files.linear("Softmax").SerializeToString()
PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """With what reads weights beside it, as in a training worker."""
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), data_dir=SAMPLE, device="cpu", api_key=SecretStr(ADMIN_KEY)
    )
    with TestClient(create_app(settings), headers=ADMIN) as client:
        home = Home.open(settings)
        supervisor = home.weights_reader()
        thread = threading.Thread(target=supervisor.run)
        with Heartbeat(home.supervisors, "test"):
            thread.start()
            yield client
            supervisor.stop()
            thread.join()
        home.database.close()


def post(api: TestClient, name: str, data: bytes, **fields: str) -> Any:
    return api.post(f"/models/{name}/versions?wait=60", files={"weights": ("m.onnx", data)}, data=fields)


@pytest.fixture(scope="module")
def uploaded(api: TestClient) -> Any:
    """The model `line`."""
    response = post(api, "line", LINE, dataset="mnist", calibrate="true")
    assert response.status_code == 201, response.text
    return response


@pytest.fixture(scope="module")
def ours(api: TestClient) -> Any:
    """The model `again`: the export of the model `digits`."""
    response = post(api, "again", api.get("/models/digits/export?format=onnx").content)
    assert response.status_code == 201, response.text
    return response


def graph(api: TestClient, name: str) -> Graph:
    found = api.app_state["services"].registry.find(name).classifier.model
    assert isinstance(found, Graph)
    return found


def test_a_file_is_served_as_it_came(api: TestClient, uploaded: Any, digits: dict[str, bytes]) -> None:
    assert any("probabilities out" in note for note in uploaded.json()["notes"])
    card = api.get("/models/line").json()
    assert (card["architecture"], card["parameters"]) == ("onnx", 7850)
    assert any("temperature" in note for note in card["notes"])
    answer = api.post("/predict?model=line", content=digits["7"], headers=PNG).json()
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert api.get("/models/line/export?format=onnx").content == LINE
    held = torch.load(io.BytesIO(api.get("/models/line/export?format=pth").content), weights_only=True)
    assert bytes(held["onnx"].numpy()) == LINE
    refused = is_problem(api.get("/models/line/export?format=safetensors"), 409, "Conflict")
    assert "format=onnx" in str(refused["detail"])
    explained = api.post("/predict?model=line&explain=true", content=digits["7"], headers=PNG).json()
    assert explained["overlay"].startswith("data:image/png;base64,")


def test_our_own_export_answers_as_the_model_that_it_was(
    api: TestClient, ours: Any, digits: dict[str, bytes]
) -> None:
    for content in digits.values():
        answers = [
            api.post(f"/predict?model={name}", content=content, headers=PNG).json()["probabilities"]
            for name in ("digits", "again")
        ]
        assert answers[0] == pytest.approx(answers[1], abs=1e-4)


def test_many_pictures_at_once_and_tensors_of_v2(api: TestClient, ours: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
    stream = io.BytesIO()
    np.save(stream, pixels)
    many = [
        api.post(
            f"/predict/batch?model={name}",
            content=stream.getvalue(),
            headers={"content-type": "application/x-npy"},
        ).json()
        for name in ("digits", "again")
    ]
    first, second = many
    assert len(second) == 300
    assert [one["label"] for one in first] == [one["label"] for one in second]
    data = pixels[:2].ravel().tolist()
    tensor = {"name": "input", "shape": [2, 1, 28, 28], "datatype": "UINT8", "data": data}
    found = api.post("/v2/models/again/infer", json={"inputs": [tensor]}).json()
    probabilities = next(one for one in found["outputs"] if one["name"] == "probabilities")
    assert probabilities["shape"] == [2, 10]


def test_killed_while_serving(api: TestClient, ours: Any, digits: dict[str, bytes]) -> None:
    before = graph(api, "again").pid
    assert before is not None
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.3):
            if pid := graph(api, "again").pid:
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        until, answers = time.monotonic() + 2, []
        while time.monotonic() < until:
            answers.append(api.post("/predict?model=again", content=digits["7"], headers=PNG))
    finally:
        stop.set()
        killer.join()
    assert {one.status_code for one in answers} <= {200, 503}
    for one in answers:
        if one.status_code == 503:
            is_problem(one, 503, "Model failed")
    assert api.post("/predict?model=again", content=digits["7"], headers=PNG).status_code == 200
    assert api.post("/predict?model=digits", content=digits["7"], headers=PNG).status_code == 200
    assert graph(api, "again").pid not in (None, before)


def test_an_unloaded_model_ends_its_process(api: TestClient, uploaded: Any) -> None:
    pid = graph(api, "line").pid
    assert api.post("/v2/repository/models/line/unload").status_code == 200
    assert not Path(f"/proc/{pid}").exists()
    assert api.post("/v2/repository/models/line/load").status_code == 200
    assert graph(api, "line").pid not in (None, pid)


def test_what_is_refused_leaves_nothing(api: TestClient, uploaded: Any) -> None:
    problem = is_problem(post(api, "line", onnx_files.huge().SerializeToString()), 422, "Unusable weights")
    assert "gives no answers" in str(problem["detail"])
    assert [one["version"] for one in api.get("/models/line/versions").json()] == [1]


def test_the_command_line_publishes_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINIST_DATA_DIR", str(SAMPLE))
    file = tmp_path / "My Net.onnx"
    file.write_bytes(LINE)
    assert main(["publish", str(file)]) == 0
    told = capsys.readouterr().out
    assert "brought as an ONNX graph" in told
    assert "published my-net@1" in told
