"""POST /models/NAME/versions and `minist publish FILE`: a weights file becomes a version, or a sentence."""

import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr
from starlette.testclient import TestClient
from torch import nn

from app.cli import main
from app.home import Home
from app.jobs.job import Submitter
from app.jobs.weights import WeightsRequest
from app.main import create_app
from app.settings import Settings
from app.store.datasets import Source
from app.store.supervisors import Heartbeat
from models.networks import MLP
from tests.conftest import ADMIN, ADMIN_KEY, ROOT, SAMPLE, WEIGHTS
from tests.samples import is_problem
from training.datasets import load_dataset

SAID = {"mean": 0, "std": 1, "activation": "tanh"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        home=tmp_path_factory.mktemp("home"),
        data_dir=SAMPLE,
        device="cpu",
        api_key=SecretStr(ADMIN_KEY),
        max_weights_bytes=8 * 2**20,
        queue_limit=3,
    )


@pytest.fixture(scope="module")
def api(settings: Settings) -> Iterator[TestClient]:
    """With what reads weights beside it, as in a training worker."""
    with TestClient(create_app(settings), headers=ADMIN) as client:
        yield client


@pytest.fixture(scope="module")
def reader(api: TestClient, settings: Settings) -> Iterator[None]:
    home = Home.open(settings)
    supervisor = home.weights_reader()
    thread = threading.Thread(target=supervisor.run)
    with Heartbeat(home.supervisors, "test"):
        thread.start()
        yield
        supervisor.stop()
        thread.join()
    home.database.close()


def network() -> nn.Sequential:
    """Trained for a moment."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.Tanh(), nn.Linear(24, 10))
    train = load_dataset("mnist", SAMPLE).train
    images = train.images.float() / 255
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), train.labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net


def saved(what: object) -> bytes:
    stream = io.BytesIO()
    torch.save(what, stream)
    return stream.getvalue()


def post(api: TestClient, name: str, data: bytes, query: str = "?wait=60", **fields: str) -> Any:
    return api.post(f"/models/{name}/versions{query}", files={"weights": ("model.pth", data)}, data=fields)


@pytest.fixture(scope="module")
def uploaded(api: TestClient, reader: None) -> Any:
    """The first version of the model `mine`."""
    fields = {"dataset": "mnist", "card": json.dumps(SAID), "calibrate": "true"}
    response = post(api, "mine", saved(network().state_dict()), **fields)
    assert response.status_code == 201, response.text
    return response


def test_a_file_becomes_a_version_that_answers(
    api: TestClient, uploaded: Any, settings: Settings, digits: dict[str, bytes]
) -> None:
    body = uploaded.json()
    assert uploaded.headers["location"] == "/models/mine@1"
    assert (body["version"], body["promoted"], body["job"]["kind"]) == (1, True, "weights")
    assert any("1 (linear 784-24), tanh, 3 (linear 24-10)" in note for note in body["notes"])
    card = api.get(uploaded.headers["location"]).json()
    assert card["metrics"]["test"]["accuracy"] == body["accuracy"] > 0.6
    assert card["architecture"] == "sequential"
    assert card["dataset"]["name"] == "mnist"
    answer = api.post("/predict?model=mine", content=digits["7"], headers={"content-type": "image/png"}).json()
    assert len(answer["probabilities"]) == 10
    exported = torch.load(io.BytesIO(api.get("/models/mine/export?format=pth").content), weights_only=True)
    network().load_state_dict(exported)
    assert api.get("/models/mine/versions/1/confusion").status_code == 200
    run = settings.home / "runs" / body["job"]["id"]
    assert not (run / "upload").exists()


def test_what_cannot_be_used_is_a_sentence_and_nothing_is_left(
    api: TestClient, uploaded: Any, settings: Settings
) -> None:
    problem = is_problem(post(api, "mine", saved(network())), 422, "Unusable weights")
    assert "torch.save(model.state_dict()" in str(problem["detail"])
    assert str(settings.home) not in str(problem)
    assert [one["version"] for one in api.get("/models/mine/versions").json()] == [1]
    assert not list(settings.home.glob("runs/*/upload"))
    assert not list(settings.home.glob("datasets/.incoming-*"))


def test_the_rule_of_promotion_is_that_of_jobs(api: TestClient, uploaded: Any) -> None:
    worse = saved(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).state_dict())
    body = post(api, "mine", worse).json()
    assert (body["version"], body["promoted"], body["accuracy"]) == (2, False, None)
    assert "not known" in body["reason"]
    assert api.get("/models/mine").json()["arguments"]["layers"][1]["outputs"] == 24


def test_without_a_worker_the_job_waits_and_says_so(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, data_dir=SAMPLE, device="cpu", api_key=SecretStr(ADMIN_KEY), queue_limit=2
    )
    with TestClient(create_app(settings), headers=ADMIN) as client:
        body = client.post("/models/mine/versions?promote=never", content=saved(network().state_dict()))
        assert body.status_code == 202
        job = body.json()["job"]
        assert body.headers["location"] == f"/train/{job['id']}"
        assert (job["status"], job["promote"]) == ("queued", "never")
        assert "no training worker" in job["warning"]
        assert client.get("/train?kind=weights").json()["jobs"][0]["id"] == job["id"]
        assert client.get("/train").json()["jobs"] == []
        assert post(client, "mine", b"x", query="").status_code == 202
        is_problem(post(client, "mine", b"x", query=""), 429, "Queue is full")
        assert client.delete(f"/train/{job['id']}").json()["status"] == "cancelled"
        assert client.get(f"/train/{job['id']}/artifacts").json() == []  # what was sent is not shown


def test_what_is_wrong_with_the_request_is_told_at_once(api: TestClient) -> None:
    data = saved(network().state_dict())
    for fields, told in (
        ({"card": "{"}, "no JSON"),
        ({"card": "[]"}, "no JSON object"),
        ({"card": '{"clases": ["a"]}'}, "clases"),
        ({"card": '{"std": [0], "mean": [0]}'}, "positive"),
        ({"promote": "perhaps"}, "promote"),
        ({"dataset": "nobodys"}, "nobodys"),
        ({"calibrate": "true"}, "data set"),
        ({"datset": "mnist"}, "did you mean 'dataset'"),
    ):
        response = post(api, "mine", data, **fields)
        assert response.status_code == 422, response.text
        assert told in response.text
    is_problem(post(api, "Mine", data), 422, "Invalid request")
    is_problem(
        api.post("/models/mine/versions", data={"dataset": "mnist"}, files={"x": b""}), 422, "Wrong form fields"
    )
    is_problem(api.post("/models/mine/versions", content=b""), 422, "Empty body")
    is_problem(api.post("/models/mine/versions", json={}), 415, "Wrong content type")
    is_problem(post(api, "mine", bytes(9 * 2**20)), 413, "Body too large")


def test_what_a_dead_process_left_is_removed_at_a_start(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, device="cpu")
    home = Home.open(settings)
    for name in ("abandoned", "new"):  # moved there, and the transaction was never committed
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "upload").write_bytes(b"x")
    (tmp_path / "datasets").mkdir(exist_ok=True)
    waiting = tmp_path / "datasets" / ".incoming-1"
    waiting.write_bytes(b"x")
    request = WeightsRequest("mine", Source(waiting, "", 1), {}, None, False, "never")
    job = home.weights.submit(request, Submitter("test", True))
    home.database.close()
    for path in tmp_path.glob("runs/[!n]*/upload"):
        os.utime(path, (0, 0))
    Home.open(settings).database.close()
    assert {path.parent.name for path in tmp_path.glob("runs/*/upload")} == {"new", job.id}


def test_keys_decide_who_may(api: TestClient, settings: Settings) -> None:
    home = Home.open(settings)
    trainer = home.keys.create("trainer", ("train",))
    reads = home.keys.create("reader", ("predict",))
    home.database.close()
    data = saved(network().state_dict())
    path = "/models/digits/versions"
    is_problem(api.post(path, content=data, headers={"authorization": ""}), 401, "Unauthorized")
    is_problem(api.post(path, content=data, headers={"authorization": f"Bearer {reads}"}), 403, "Forbidden")
    allowed = {"authorization": f"Bearer {trainer}"}
    is_problem(api.post(f"{path}?promote=always", content=data, headers=allowed), 403, "Forbidden")
    fields = {"promote": "always"}
    refused = api.post(path, files={"weights": data}, data=fields, headers=allowed)
    is_problem(refused, 403, "Forbidden")


def test_the_command_line_publishes_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINIST_DATA_DIR", str(SAMPLE))
    file = tmp_path / "My Net.pt"
    torch.save({f"module.{key}": value for key, value in MLP().state_dict().items()}, file)
    assert main(["publish", str(file), "--dataset", "mnist", "--card", '{"mean": 0, "std": 1}']) == 0
    told = capsys.readouterr().out
    assert "architecture 'mlp'" in told
    assert "published my-net@1; production points at it: it is the model's first version" in told
    for words, said in (
        (["--card", "{"], "error"),
        (["--card", '{"clases": []}'], "clases"),
        (["--name", "Mine"], "no name"),
        (["--dataset", "nobodys"], "nobodys"),
        (["--calibrate"], "--dataset"),
    ):
        assert main(["publish", str(file), *words]) == 1
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["publish", str(ROOT / "examples"), "--name", "mine"])
    assert main(["publish", str(WEIGHTS / "train.sh"), "--name", "script"]) == 1
    assert "a program, not weights" in capsys.readouterr().err
