"""Requests that are shared among versions, and candidates that are compared where nobody waits for them."""

import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.cli.publish import publish
from app.home import Home
from app.main import create_app
from app.serving.batching import Batcher
from app.serving.registry import Registry
from app.serving.shadow import MOST_WAITING, Shadow
from app.serving.split import Split
from app.settings import Settings
from app.store.database import Database
from app.store.traffic import Compared, Outcome, Traffic, TrafficRows
from app.telemetry.counters import Counters
from app.web.traffic import errs
from models import checkpoint
from models.classifier import Classifier
from tests.conftest import ADMIN, ADMIN_KEY, SAMPLE, WEIGHTS
from tests.processes import wait_for
from tests.samples import PNG, is_problem

SHARES = {"production": 70, "canary": 30}


def test_a_key_gets_the_same_alias_and_shares_are_kept() -> None:
    split = Split.of("digits", SHARES)
    keys = [f"user-{number}".encode() for number in range(4000)]
    found = Counter(split.choose(key) for key in keys)
    assert found["digits@canary"] / len(keys) == pytest.approx(0.3, abs=0.03)
    assert [split.choose(key) for key in keys] == [Split.of("digits", SHARES).choose(key) for key in keys]


def test_a_part_that_grows_keeps_whom_it_has() -> None:
    small, large = Split.of("digits", SHARES), Split.of("digits", {"production": 40, "canary": 60})
    keys = [str(number).encode() for number in range(1000)]
    canary = {key for key in keys if small.choose(key) == "digits@canary"}
    assert canary < {key for key in keys if large.choose(key) == "digits@canary"}


# -- rows ----------------------------------------------------------------------------------------------


@pytest.fixture
def rows(database: Database) -> TrafficRows:
    return TrafficRows(database)


def begun(rows: TrafficRows) -> Traffic:
    rows.begin("digits", SHARES, "candidate", "me", "a try")
    found = rows.get("digits")
    assert found is not None
    return found


def test_what_processes_have_seen_is_added_up(rows: TrafficRows) -> None:
    since = begun(rows).since
    rows.add("digits", since, Outcome({"canary": 2}, {}, Compared(compared=4, agreed=3, confidence=3.5)))
    total = rows.add(
        "digits", since, Outcome({"canary": 1, "production": 5}, {"canary": 1}, Compared(dropped=1))
    )
    found = rows.get("digits")
    assert found is not None
    assert found.outcome == total
    assert total is not None
    assert (total.answers, total.failed) == ({"canary": 3, "production": 5}, {"canary": 1})
    assert total.shadow == Compared(compared=4, agreed=3, confidence=3.5, dropped=1)


def test_only_the_one_that_goes_on_is_ended_and_added_to(rows: TrafficRows) -> None:
    old = begun(rows)
    new = begun(rows)
    assert not rows.end("digits", old.since, "minist", "it errs")
    assert rows.add("digits", old.since, Outcome({"canary": 1})) is None
    assert rows.end("digits", new.since, "minist", "it errs")
    assert not rows.end("digits", new.since, "minist", "it errs")
    found = rows.get("digits")
    assert found is not None
    assert found.ended_at is not None
    assert found.why == "it errs"


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome({"canary": 90}, {"canary": 4}), None),
        (Outcome({"canary": 200}, {"canary": 5}), None),
        (Outcome({"canary": 20}, {"canary": 5}), "canary failed 5 of 25 requests"),
        (Outcome({"production": 1}, {"production": 50}), None),
        (Outcome({}, {}, Compared(failed=6)), "candidate failed 6 of 6 inputs in the shadow"),
    ],
)
def test_a_candidate_that_errs_is_ended(outcome: Outcome, why: str | None) -> None:
    one = Traffic("digits", SHARES, "candidate", "me", 1.0, None, "", Outcome())
    assert errs(one, outcome) == why


# -- the service ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """`minist` has a second version, which is always sure that it sees a 1, as canary and candidate."""
    settings = Settings(
        home=tmp_path_factory.mktemp("home"),
        data_dir=SAMPLE,
        device="cpu",
        api_key=SecretStr(ADMIN_KEY),
        feedback=True,
        log_requests=False,
    )
    home = Home.open(settings)
    classifier = Classifier.load(WEIGHTS / "minist.pth", torch.device("cpu"))
    weights = {key: torch.zeros_like(value) for key, value in classifier.model.state_dict().items()}
    last = [key for key in weights if key.endswith("bias")][-1]
    weights[last][1] = 50
    folder = tmp_path_factory.mktemp("weights")
    classifier.model.load_state_dict(weights)
    publish(home, folder, checkpoint.save(classifier.model, classifier.card, folder), "never")
    home.database.close()
    with TestClient(create_app(settings), headers=ADMIN) as client:
        for alias in ("canary", "candidate"):
            client.put(f"/models/minist/aliases/{alias}", json={"version": 2}).raise_for_status()
        yield client


@pytest.fixture(autouse=True)
def ended(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "service" in request.fixturenames:
        request.getfixturevalue("service").delete("/models/minist/traffic")


def asked(client: TestClient, image: bytes, key: str | None = None) -> int:
    """The version that answers."""
    headers = {**PNG, **({"x-traffic-key": key} if key else {})}
    answer = client.post("/predict?model=minist", content=image, headers=headers).raise_for_status()
    return int(answer.json()["version"])


def test_requests_are_shared_and_a_caller_stays_where_it_was(
    service: TestClient, digits: dict[str, bytes]
) -> None:
    said = (
        service.put("/models/minist/traffic", json={"production": 50, "canary": 50}).raise_for_status().json()
    )
    assert said["shares"] == {"production": 50, "canary": 50}
    found = {str(key): {asked(service, digits["7"], f"k{key}") for _ in range(2)} for key in range(24)}
    assert all(len(versions) == 1 for versions in found.values())
    assert set().union(*found.values()) == {1, 2}
    assert asked(service, digits["7"]) == asked(service, digits["7"])  # the same API key
    service.delete("/models/minist/traffic")
    assert {asked(service, digits["7"], f"k{key}") for key in range(24)} == {1}


def test_a_version_that_is_named_is_not_shared(service: TestClient, digits: dict[str, bytes]) -> None:
    service.put("/models/minist/traffic", json={"canary": 100}).raise_for_status()
    assert asked(service, digits["7"]) == 2
    named = service.post("/predict?model=minist@1", content=digits["7"], headers=PNG).json()
    assert named["version"] == 1
    batch = service.post("/predict/batch?model=minist", files=[("files", digits["7"])]).json()
    assert batch[0]["version"] == 2


def test_other_protocols_are_shared_as_well(service: TestClient, digits: dict[str, bytes]) -> None:
    service.put("/models/minist/traffic", json={"canary": 100}).raise_for_status()
    image = np.asarray(Image.open(io.BytesIO(digits["7"])).convert("L")).reshape(1, 1, 28, 28).tolist()
    tensor = {"name": "input", "shape": [1, 1, 28, 28], "datatype": "UINT8", "data": image}
    answer = service.post("/v2/models/minist/infer", json={"inputs": [tensor]}).raise_for_status().json()
    assert answer["model_version"] == "2"
    answer = service.post("/v1/models/minist:predict", json={"instances": image}).raise_for_status().json()
    assert (answer["version"], answer["labels"]) == (2, ["1"])


def settled(client: TestClient, digits: dict[str, bytes], compared: int) -> dict[str, Any]:
    def done() -> dict[str, Any] | None:
        body: dict[str, Any] = client.get("/models/minist/traffic").json()
        return body if (body["shadow"] or {}).get("compared", 0) >= compared else None

    return wait_for(done, 30)


def test_a_candidate_is_compared_in_the_shadow(service: TestClient, digits: dict[str, bytes]) -> None:
    service.put("/models/minist/traffic", json={"shadow": "candidate", "why": "better?"}).raise_for_status()
    answers = []
    for label in "1723":
        answer = service.post("/predict?model=minist", content=digits[label], headers=PNG).json()
        assert (answer["version"], answer["label"]) == (1, label)  # nobody sees the candidate
        answers.append(answer["id"])
    body = settled(service, digits, 4)
    shadow = body["shadow"]
    assert (shadow["alias"], shadow["compared"], shadow["agreement"], shadow["failed"]) == (
        "candidate",
        4,
        0.25,
        0,
    )
    assert shadow["candidate_confidence"] == pytest.approx(1, abs=1e-6)
    assert 0 < shadow["confidence"] < 1.0001
    assert shadow["ms"] > 0
    assert shadow["candidate_ms"] > 0
    corrections = ((answers[1], "1"), (answers[2], "1"), (answers[3], "3"))  # two of 3 say that it was a 1
    for prediction, label in corrections:
        wait_for(
            lambda prediction=prediction, label=label: (
                service.post(  # type: ignore[misc]
                    "/feedback", json={"prediction": prediction, "label": label}
                ).is_success
            )
        )
    compared = service.get("/models/minist/traffic").json()["corrections"]
    assert (compared["count"], compared["only_production"], compared["only_candidate"]) == (3, 1, 2)
    assert compared["p"] == 1.0
    live = service.get("/live").json()["traffic"][0]
    assert (live["model"], live["shadow"]["agreement"], live["ended_at"]) == ("minist", 0.25, None)


def test_batches_and_tensors_are_compared_too(service: TestClient, digits: dict[str, bytes]) -> None:
    service.put("/models/minist/traffic", json={"shadow": "candidate"}).raise_for_status()
    files = [("files", digits[label]) for label in "1723"]
    answers = service.post("/predict/batch?model=minist", files=files).raise_for_status().json()
    assert [answer["label"] for answer in answers] == list("1723")
    assert settled(service, digits, 4)["shadow"]["agreement"] == 0.25
    images = [np.asarray(Image.open(io.BytesIO(digits[label])).convert("L")) for label in "11"]
    data = np.stack(images).reshape(2, 1, 28, 28)
    tensor = {"name": "input", "shape": [2, 1, 28, 28], "datatype": "UINT8", "data": data.tolist()}
    service.post("/v2/models/minist/infer", json={"inputs": [tensor]}).raise_for_status()
    assert settled(service, digits, 6)["shadow"]["agreement"] == 0.5


def test_a_candidate_that_fails_is_ended_and_nobody_notices(
    service: TestClient, digits: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry: Registry = service.app_state["services"].registry
    candidate = registry.get("minist@candidate")
    assert candidate is not None
    monkeypatch.setattr(type(candidate.forward), "__call__", failing(candidate.forward))
    service.put("/models/minist/traffic", json={"shadow": "candidate"}).raise_for_status()
    assert {asked(service, digits["7"]) for _ in range(8)} == {1}

    def over() -> dict[str, Any] | None:
        body: dict[str, Any] = service.get("/models/minist/traffic").json()
        return body if body["ended_at"] else None

    body = wait_for(over, 30)
    assert body["why"] == "candidate failed 8 of 8 inputs in the shadow"
    assert registry.shadows == {}
    assert "traffic" in {entry["action"] for entry in service.get("/models/minist/audit").json()}


def failing(which: object) -> Any:
    """A forward pass that fails for one model."""
    right = type(which).__call__

    def forward(self: object, images: torch.Tensor) -> torch.Tensor:
        if self is which:
            raise RuntimeError("out of order")
        return right(self, images)

    return forward


@pytest.mark.parametrize(
    ("body", "status", "title"),
    [
        ({"production": 90, "canary": 20}, 422, "Invalid request"),
        ({"production": 90, "canary": -10}, 422, "Invalid request"),
        ({"production": "all"}, 422, "Invalid request"),
        ({}, 422, "Invalid request"),
        ({"production": 50, "nobody": 50}, 404, "Unknown alias"),
        ({"shadow": "nobody"}, 404, "Unknown alias"),
    ],
)
def test_shares_that_make_no_sense_are_refused(
    service: TestClient, body: dict[str, Any], status: int, title: str
) -> None:
    is_problem(service.put("/models/minist/traffic", json=body), status, title)


def test_only_an_admin_shares(service: TestClient) -> None:
    nobody = {"authorization": ""}
    for method in ("GET", "PUT", "DELETE"):
        response = service.request(method, "/models/minist/traffic", json={"production": 100}, headers=nobody)
        is_problem(response, 401, "Unauthorized")
    is_problem(service.put("/models/nobody/traffic", json={"production": 100}), 404, "Unknown model")
    is_problem(service.put("/models/minist@1/traffic", json={"production": 100}), 422, "Invalid request")


def test_what_waits_in_the_shadow_is_bounded(service: TestClient) -> None:
    registry: Registry = service.app_state["services"].registry
    served = registry.find("minist")
    shadow = Shadow(registry, Batcher(Counters(), 1, 1))
    for _ in range(MOST_WAITING + 5):
        shadow.offer(served, bytes(784), 1, 0.5)
    shadow.work()  # nothing is compared: there is no candidate now
    assert shadow.take("minist") == Compared(dropped=5)
    assert not shadow.waits
    shadow.offer_all(served, bytes(784 * 100), [[0.1] * 10] * 100)
    shadow.work()
    assert shadow.take("minist") == Compared(dropped=100 - MOST_WAITING)
