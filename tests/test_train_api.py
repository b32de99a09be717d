"""The job endpoints without a supervisor: what they accept, refuse and tell."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.jobs.job import Job
from app.jobs.queue import Queue
from app.main import create_app
from app.settings import Settings
from app.store.database import Database
from app.store.keys import Keys
from tests.conftest import ADMIN, ADMIN_KEY, SAMPLE
from tests.samples import events, is_problem
from training.recipes import RECIPES

JOB = {"model": "minist", "recipe": "mlp", "epochs": 2}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, data_dir=SAMPLE, device="cpu", api_key=SecretStr(ADMIN_KEY), queue_limit=5)


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=ADMIN) as client:
        yield client


@pytest.fixture
def queue(api: TestClient, settings: Settings) -> Iterator[Queue]:
    """The same table, as a supervisor sees it."""
    database = Database(settings.home)
    yield Queue(database)
    database.close()


def post(api: TestClient, **changes: object) -> str:
    response = api.post("/train", json={**JOB, **changes})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def claim(queue: Queue) -> Job:
    job = queue.claim()
    assert job is not None
    return job


def test_a_post_is_accepted_with_its_location(api: TestClient) -> None:
    response = api.post("/train", json={**JOB, "lr": 0.05, "seed": 7})
    assert response.status_code == 202
    body = response.json()
    assert response.headers["location"] == f"/train/{body['id']}"
    assert (body["status"], body["position"], body["epoch"], body["epochs"]) == ("queued", 1, 0, 2)
    assert (body["config"]["lr"], body["config"]["seed"], body["config"]["batch_size"]) == (0.05, 7, 64)
    assert "no training worker" in body["warning"]
    assert api.get(response.headers["location"]).json() == body


@pytest.mark.parametrize(
    ("changes", "field", "told"),
    [
        ({"recipe": "resnet"}, "body.recipe", "mlp"),
        ({"epochs": 0}, "body.epochs", "greater than or equal to 1"),
        ({"lr": "fast"}, "body.lr", "valid number"),
        ({"optimizer": "lbfgs"}, "body.optimizer", "'sgd', 'adam', 'adamw' or 'from-scratch'"),
        ({"promote": "maybe"}, "body.promote", "'if_better', 'always' or 'never'"),
        ({"model": "../../etc"}, "body.model", "pattern"),
        ({"threads": 64}, "body.threads", "not permitted"),
        ({"colour": "red"}, "body.colour", "not permitted"),
    ],
)
def test_a_wrong_setting_is_told_by_field_value_and_what_is_allowed(
    api: TestClient, changes: dict[str, object], field: str, told: str
) -> None:
    body = is_problem(api.post("/train", json={**JOB, **changes}), 422, "Invalid request")
    found = body["errors"]
    assert isinstance(found, list)
    (error,) = found
    assert error["field"] == field
    assert error["value"] == next(iter(changes.values()))
    assert told in error["problem"]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_called_json_is_told_which_header_to_send(api: TestClient, kind: str) -> None:
    """As `curl -d` sends it."""
    headers = {"content-type": kind} if kind else {}
    body = is_problem(
        api.post("/train", content=b'{"model": "minist"}', headers=headers), 422, "Invalid request"
    )
    assert body["hint"] == "send the header 'Content-Type: application/json'"
    assert (repr(kind) if kind else "no content type") in str(body["detail"])
    assert "minist" not in str(body["detail"])


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "fine-tune"])
def test_every_recipe_can_be_asked_for(api: TestClient, recipe: str) -> None:
    body = api.post("/train", json={"model": "mine", "recipe": recipe}).json()
    assert body["epochs"] == RECIPES[recipe].config().epochs


def test_an_idempotency_key_gives_the_same_job(api: TestClient) -> None:
    first, second = (api.post("/train", json=JOB, headers={"idempotency-key": "k"}).json() for _ in range(2))
    assert first["id"] == second["id"]
    other = api.post("/train", json={**JOB, "epochs": 9}, headers={"idempotency-key": "k"})
    is_problem(other, 422, "Invalid request")


def test_100_posts_at_once_against_a_bound_of_5(api: TestClient) -> None:
    with ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(lambda _: api.post("/train", json=JOB), range(100)))
    statuses = [response.status_code for response in responses]
    assert (statuses.count(202), statuses.count(429)) == (5, 95)
    refused = next(response for response in responses if response.status_code == 429)
    is_problem(refused, 429, "Queue is full")
    assert int(refused.headers["retry-after"]) >= 1


def test_jobs_are_listed_by_page_and_status(api: TestClient) -> None:
    ids = [post(api) for _ in range(5)]
    api.delete(f"/train/{ids[0]}")
    first = api.get("/train", params={"limit": 2}).json()
    second = api.get("/train", params={"limit": 2, "cursor": first["next"]}).json()
    third = api.get("/train", params={"limit": 2, "cursor": second["next"]}).json()
    assert [job["id"] for page in (first, second, third) for job in page["jobs"]] == ids[::-1]
    assert third["next"] is None
    assert [job["id"] for job in api.get("/train", params={"status": "cancelled"}).json()["jobs"]] == ids[:1]
    is_problem(api.get("/train", params={"status": "lost"}), 422, "Invalid request")
    is_problem(api.get("/train", params={"cursor": "x"}), 422, "Invalid request")


def test_an_unknown_job_is_404(api: TestClient) -> None:
    for path in ("", "/events", "/metrics", "/artifacts", "/artifacts/curves.png"):
        is_problem(api.get(f"/train/nope{path}"), 404, "Unknown job")
    is_problem(api.delete("/train/nope"), 404, "Unknown job")
    is_problem(api.post("/train/nope/resume"), 404, "Unknown job")


def test_cancel_and_resume(api: TestClient) -> None:
    job = post(api)
    is_problem(api.post(f"/train/{job}/resume"), 409, "Conflict")
    assert api.delete(f"/train/{job}").json()["status"] == "cancelled"
    is_problem(api.delete(f"/train/{job}"), 409, "Conflict")
    assert api.post(f"/train/{job}/resume").json()["status"] == "queued"


def test_a_job_gets_a_name_notes_and_tags(api: TestClient) -> None:
    """At any time; what is left out stays, what is empty goes."""
    job = post(api)
    assert [api.get(f"/train/{job}").json()[each] for each in ("name", "notes", "tags")] == [None, None, []]
    written = {"name": "  higher rate ", "notes": "diverges\nafter 3", "tags": ["new", "keep", "new"]}
    body = api.patch(f"/train/{job}", json=written).json()
    expected = {"name": "higher rate", "notes": "diverges\nafter 3", "tags": ["keep", "new"]}
    assert {each: body[each] for each in written} == expected
    api.delete(f"/train/{job}")
    assert api.patch(f"/train/{job}", json={"name": "", "tags": []}).json()["notes"] == expected["notes"]
    (listed,) = api.get("/train").json()["jobs"]
    assert (listed["name"], listed["notes"], listed["tags"]) == (None, expected["notes"], [])
    assert api.patch(f"/train/{job}", json={}).json()["notes"] == expected["notes"]
    is_problem(api.patch("/train/nope", json={"name": "x"}), 404, "Unknown job")
    assert "PATCH" in api.put(f"/train/{job}").headers["allow"]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x" * 101},
        {"name": "two\nlines"},
        {"name": "\u009b2J"},
        {"notes": "x" * 4001},
        {"notes": "\0"},
        {"notes": "\ud800"},
        {"tags": [f"t{number}" for number in range(17)]},
        {"tags": ["x" * 33]},
        {"tags": ["two words"]},
        {"tags": [""]},
        {"status": "succeeded"},
    ],
)
def test_what_cannot_be_written_on_a_job_is_refused(api: TestClient, change: dict[str, object]) -> None:
    job, headers = post(api), {"content-type": "application/json"}
    is_problem(api.patch(f"/train/{job}", content=json.dumps(change), headers=headers), 422, "Invalid request")
    assert api.get(f"/train/{job}").json()["tags"] == []


def test_events_are_replayed_from_the_last_seen_and_end_with_the_job(api: TestClient, queue: Queue) -> None:
    job_id = post(api)
    job = claim(queue)
    queue.epoch(job, {"epoch": 1, "accuracy": 0.5})
    queue.epoch(job, {"epoch": 2, "accuracy": 0.6})
    queue.fail(job, "enough", 1)
    told = events(api.get(f"/train/{job_id}/events").text)
    assert [kind for kind, _, _ in told] == ["status", "status", "epoch", "epoch", "status"]
    assert told[-1][2] == {"status": "failed", "error": "enough", "version": None}
    third = told[2][1]
    replayed = api.get(f"/train/{job_id}/events", headers={"last-event-id": str(third)})
    assert events(replayed.text) == told[3:]
    assert api.get(f"/train/{job_id}/events", headers={"last-event-id": str(told[-1][1])}).status_code == 204
    as_json = api.get(f"/train/{job_id}/metrics").json()
    assert [(event["event"], event["id"], event["data"]) for event in as_json] == told


def test_progress_is_shown(api: TestClient, queue: Queue) -> None:
    job_id = post(api)
    job = claim(queue)
    step = {"epoch": 1, "epochs": 2, "step": 4, "steps": 9, "loss": 1.0, "accuracy": 0.3}
    queue.step(job, {**step, "images_per_second": 1000.0, "eta_seconds": 12.5})
    body = api.get(f"/train/{job_id}").json()
    assert (body["status"], body["epoch"], body["step"], body["steps"]) == ("running", 0, 4, 9)
    assert (body["images_per_second"], body["eta_seconds"], body["attempts"]) == (1000.0, 12.5, 1)
    queue.epoch(job, {"epoch": 1, "accuracy": 0.5})
    body = api.get(f"/train/{job_id}").json()
    assert (body["epoch"], body["step"]) == (1, 0)
    assert body["last"] == body["best"] == {"epoch": 1, "accuracy": 0.5}


@pytest.mark.parametrize(
    "name", ["..%2f..%2fminist.db", "%2fetc%2fpasswd", "lock", "resume.pt", ".hidden", "nope"]
)
def test_an_artifact_is_a_name_in_a_list_never_a_path(api: TestClient, settings: Settings, name: str) -> None:
    job_id = post(api)
    directory = settings.home / "runs" / job_id
    directory.mkdir(parents=True)
    for file in ("curves.png", "lock", "resume.pt", ".hidden"):
        (directory / file).write_bytes(b"x")
    assert [entry["name"] for entry in api.get(f"/train/{job_id}/artifacts").json()] == ["curves.png"]
    assert api.get(f"/train/{job_id}/artifacts/curves.png").content == b"x"
    assert api.get(f"/train/{job_id}/artifacts/{name}").status_code == 404


def test_aliases_over_http(api: TestClient) -> None:
    moved = api.put("/models/minist/aliases/canary", json={"version": 1, "why": "to try"})
    assert moved.json() == {"model": "minist", "alias": "canary", "version": 1}
    assert api.get("/models/minist@canary").status_code == 200
    (version,) = api.get("/models/minist/versions").json()
    assert version["aliases"] == ["canary", "production"]
    newest = api.get("/models/minist/audit").json()[0]
    assert (newest["who"], newest["action"], newest["alias"], newest["why"]) == (
        "MINIST_API_KEY",
        "move",
        "canary",
        "to try",
    )
    is_problem(api.put("/models/minist/aliases/canary", json={"version": 9}), 404, "Unknown model")
    is_problem(api.put("/models/minist/aliases/3", json={"version": 1}), 422, "Invalid request")
    is_problem(api.delete("/models/minist/versions/1"), 409, "Conflict")
    is_problem(api.post("/models/minist/rollback"), 409, "Conflict")
    is_problem(api.post("/models/nope/rollback"), 404, "Unknown model")
    is_problem(api.get("/models/nope/versions"), 404, "Unknown model")


@pytest.fixture
def trainers(settings: Settings, api: TestClient) -> list[dict[str, str]]:
    """The headers of two keys of scope train."""
    database = Database(settings.home)
    keys = Keys(database, None)
    made = [{"x-api-key": keys.create("same name", ["train"])} for _ in range(2)]
    database.close()
    return made


def test_a_train_key_looks_after_its_own_jobs_alone(api: TestClient, trainers: list[dict[str, str]]) -> None:
    one, other = trainers
    admin = api.headers["authorization"]
    del api.headers["authorization"]
    job = api.post("/train", json=JOB, headers=one).json()["id"]
    is_problem(api.delete(f"/train/{job}", headers=other), 403, "Forbidden")
    is_problem(api.patch(f"/train/{job}", json={"name": "x"}, headers=other), 403, "Forbidden")
    assert api.delete(f"/train/{job}", headers=one).json()["status"] == "cancelled"
    is_problem(api.post(f"/train/{job}/resume", headers=other), 403, "Forbidden")
    assert api.post(f"/train/{job}/resume", headers=one).json()["status"] == "queued"
    assert api.delete(f"/train/{job}", headers={"authorization": admin}).json()["status"] == "cancelled"


def test_promoting_always_needs_an_admin_where_there_is_a_version(
    api: TestClient, trainers: list[dict[str, str]]
) -> None:
    admin = api.headers["authorization"]
    del api.headers["authorization"]
    always = {**JOB, "promote": "always"}
    is_problem(api.post("/train", json=always, headers=trainers[0]), 403, "Forbidden")
    assert api.post("/train", json={**always, "model": "mine"}, headers=trainers[0]).status_code == 202
    assert api.post("/train", json=always, headers={"authorization": admin}).status_code == 202


def test_models_and_aliases_are_deleted_over_http(api: TestClient) -> None:
    api.put("/models/minist/aliases/canary", json={"version": 1})
    assert api.delete("/models/minist/aliases/canary").status_code == 204
    is_problem(api.delete("/models/minist/aliases/canary"), 404, "Unknown alias")
    is_problem(api.delete("/models/minist/aliases/production"), 409, "Conflict")
    is_problem(api.delete("/models/digits"), 409, "Conflict")  # the default model
    assert api.delete("/models/cnn").status_code == 204
    is_problem(api.get("/models/cnn"), 404, "Unknown model")
    is_problem(api.delete("/models/cnn"), 404, "Unknown model")
    assert [entry["action"] for entry in api.get("/models/cnn/audit").json()][:1] == ["delete"]


def test_versions_are_listed_also_where_a_card_cannot_be_read(api: TestClient, settings: Settings) -> None:
    (settings.home / "models" / "cnn" / "1" / "cnn.json").write_text("{}")
    (version,) = api.get("/models/cnn/versions").json()
    assert version["accuracy"] is None
    assert "not a model card" in version["problem"]
