"""Corrections: remembered predictions, what is kept of them, and the loop from a mistake to its remedy."""

import base64
import csv
import io
import json
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from app import errors
from app.home import Home
from app.jobs.queue import Queue
from app.main import create_app
from app.serving.registry import Registry, ServedModel
from app.settings import Settings
from app.store.database import Database
from app.store.feedback import REMEMBER_SECONDS, Feedback, FeedbackFull, NoSuchPrediction
from app.store.recent_predictions import REMEMBERED, RecentPredictions
from app.store.tables import predictions
from models.preprocessing.decode import Grey, decode, png
from tests.conftest import ADMIN, ADMIN_KEY, SAMPLE
from tests.samples import PNG, is_problem
from training.datasets import Dataset


@pytest.fixture
def deployment(tmp_path: Path) -> Settings:
    key = SecretStr(ADMIN_KEY)
    return Settings(
        home=tmp_path, data_dir=SAMPLE, device="cpu", default_model="minist", api_key=key, feedback=True
    )


@pytest.fixture
def api(deployment: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(deployment)) as client:
        registry = client.app_state["services"].registry
        registry.refresh()
        registry.freeze()
        yield client


@contextmanager
def database(deployment: Settings) -> Iterator[Database]:
    """The same tables, as another process sees them."""
    database = Database(deployment.home)
    yield database
    database.close()


def ask(api: TestClient, picture: bytes, **query: str) -> dict[str, Any]:
    response = api.post("/predict", content=picture, params=query, headers=PNG)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def correct(api: TestClient, picture: bytes, label: str) -> dict[str, Any]:
    response = api.post("/feedback", json={"prediction": ask(api, picture)["id"], "label": label})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


def pixels(data_url: str) -> Grey:
    return decode(base64.b64decode(data_url.partition(",")[2]), (28, 28), 0)


# -- remembering ---------------------------------------------------------------------------------------


def test_a_prediction_has_an_id_only_where_it_can_be_corrected(
    api: TestClient, client: TestClient, digits: dict[str, bytes]
) -> None:
    for more in ({}, {"explain": "true"}, {"preprocess": "auto"}, {"model": "minist@1"}):
        query = {"model": "minist", **more}
        response = api.post("/predict", content=digits["7"], params=query, headers=PNG)
        body = response.json()
        assert body.pop("id") == response.headers["x-request-id"]
        plain = client.post("/predict", content=digits["7"], params=query, headers=PNG).json()
        assert "id" not in plain
        assert body == plain


def test_ids_cannot_be_guessed_nor_chosen(api: TestClient, digits: dict[str, bytes]) -> None:
    """Whoever knows the id of a prediction is shown its picture."""
    assert len({ask(api, digits["1"])["id"][:8] for _ in range(20)}) == 20
    chosen = api.post("/predict", content=digits["1"], headers={**PNG, "x-request-id": "mine"})
    assert chosen.headers["x-request-id"] == "mine"
    assert len(chosen.json()["id"]) == 24


def test_with_feedback_off_nothing_is_remembered(deployment: Settings, digits: dict[str, bytes]) -> None:
    with TestClient(create_app(deployment)) as api:
        correct(api, digits["7"], "1")
        known = ask(api, digits["7"])["id"]
    with TestClient(create_app(deployment.model_copy(update={"feedback": False}))) as api:
        ask(api, digits["7"])
        is_problem(api.post("/feedback", json={"prediction": known, "label": "7"}), 409, "Feedback is off")
        wanted = {"model": "minist", "recipe": "mlp", "feedback": True}
        is_problem(api.post("/train", json=wanted, headers=ADMIN), 409, "Feedback is off")
        body = api.get("/feedback").json()
        assert (body["enabled"], body["count"]) == (False, 1)  # what was kept can still be exported and deleted
        with database(deployment) as other, other.read() as connection:
            assert connection.scalar(select(func.count()).select_from(predictions)) == 0


def test_predictions_are_remembered_by_number_and_time(
    deployment: Settings, api: TestClient, digits: dict[str, bytes]
) -> None:
    old, new = ask(api, digits["1"])["id"], ask(api, digits["2"])["id"]
    with database(deployment) as other:
        feedback = Feedback(other, 10, 10_000)
        wait_until_known(feedback, new)
        with other.write() as connection:
            long_ago = time.time() - REMEMBER_SECONDS - 1
            connection.execute(update(predictions).where(predictions.c.id == old).values(at=long_ago))
        with pytest.raises(NoSuchPrediction):
            feedback.correct(old, "7")
        RecentPredictions(other).write()
        with other.write() as connection:
            assert connection.scalars(select(predictions.c.id)).all() == [new]
            connection.execute(update(predictions).values(number=1))
            more = {"model": "m", "version": 1, "predicted": "1", "pixels": b"", "at": time.time()}
            row = {"number": REMEMBERED + 1, "id": "later", **more}
            connection.execute(predictions.insert(), row)
        RecentPredictions(other).write()
        with other.read() as connection:
            assert connection.scalars(select(predictions.c.id)).all() == ["later"]


def wait_until_known(feedback: Feedback, prediction: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            feedback.answered_by(prediction)
        except NoSuchPrediction:
            time.sleep(0.01)
        else:
            return
    raise AssertionError("it was not written down")


# -- corrections ---------------------------------------------------------------------------------------


def test_a_prediction_is_corrected_by_its_id(api: TestClient, digits: dict[str, bytes]) -> None:
    body = correct(api, digits["7"], "1")
    assert (body["model"], body["version"], body["predicted"], body["label"]) == ("minist", 1, "7", "1")
    assert body["used_by"] is None
    assert np.array_equal(pixels(body["image"]), decode(digits["7"], (28, 28), 0))


def test_another_worker_knows_the_prediction(deployment: Settings, digits: dict[str, bytes]) -> None:
    with TestClient(create_app(deployment)) as one, TestClient(create_app(deployment)) as other:
        known = ask(one, digits["7"])["id"]
        assert other.post("/feedback", json={"prediction": known, "label": "1"}).status_code == 201
        assert one.get("/feedback").json()["waiting"] == {"minist": 1}


def test_what_the_model_saw_of_a_picture_is_what_is_kept(api: TestClient, digits: dict[str, bytes]) -> None:
    large = png(np.kron(255 - decode(digits["7"], (28, 28), 0), np.ones((9, 9), np.uint8)))
    answer = ask(api, large, preprocess="auto", explain="true")
    kept = api.post("/feedback", json={"prediction": answer["id"], "label": "1"}).json()
    assert np.array_equal(pixels(kept["image"]), pixels(answer["seen"]))


def test_a_later_label_replaces_the_earlier(api: TestClient, digits: dict[str, bytes]) -> None:
    known = ask(api, digits["7"])["id"]
    for label in ("1", "2"):
        assert api.post("/feedback", json={"prediction": known, "label": label}).json()["label"] == label
    body = api.get("/feedback", headers=ADMIN).json()
    assert [(item["id"], item["label"]) for item in body["items"]] == [(known, "2")]


def test_what_cannot_be_corrected_is_told(api: TestClient, digits: dict[str, bytes]) -> None:
    is_problem(api.post("/feedback", json={"prediction": "nope", "label": "7"}), 404, "Unknown prediction")
    wrong = api.post("/feedback", json={"prediction": ask(api, digits["7"])["id"], "label": "shirt"})
    assert "0, 1, 2" in str(is_problem(wrong, 422, "Invalid request")["hint"])
    is_problem(api.post("/feedback", json={"label": "7"}), 422, "Invalid request")


def test_corrections_are_bounded_in_count_and_bytes(deployment: Settings, digits: dict[str, bytes]) -> None:
    """By all workers together, also when they come at once."""
    for bound in ({"feedback_max_count": 3}, {"feedback_max_bytes": 3 * 784 + 783}):
        with TestClient(create_app(deployment.model_copy(update=bound))) as api:
            api.delete("/feedback", headers=ADMIN)
            known = [ask(api, digits["7"])["id"] for _ in range(8)]
            with ThreadPoolExecutor(8) as pool:
                said = [{"prediction": name, "label": "1"} for name in known]
                responses = list(pool.map(lambda body: api.post("/feedback", json=body), said))
            assert sorted(response.status_code for response in responses) == [201] * 3 + [507] * 5
            is_problem(next(r for r in responses if r.status_code == 507), 507, "Feedback is full")
            assert (api.get("/feedback").json()["count"], api.get("/feedback").json()["bytes"]) == (3, 3 * 784)
            known_one = next(r.json()["id"] for r in responses if r.status_code == 201)
            again = api.post("/feedback", json={"prediction": known_one, "label": "2"})
            assert again.status_code == 201  # takes no more room


def test_pictures_are_shown_to_admins_alone(deployment: Settings, digits: dict[str, bytes]) -> None:
    home = Home.open(deployment)
    trainer = {"x-api-key": home.keys.create("trainer", ["train"])}
    home.database.close()
    with TestClient(create_app(deployment)) as api:
        known = correct(api, digits["7"], "1")["id"]
        for headers in ({}, trainer):
            body = api.get("/feedback", headers=headers).json()
            assert (body["count"], body["bytes"], body["waiting"]) == (1, 784, {"minist": 1})
            assert body["items"] == []
            status = 403 if headers else 401
            for method, path in (("GET", "/export"), ("DELETE", f"/{known}"), ("DELETE", "")):
                assert api.request(method, f"/feedback{path}", headers=headers).status_code == status
        is_problem(api.get("/feedback", headers={"x-api-key": "wrong"}), 401, "Unauthorized")
        (item,) = api.get("/feedback", headers=ADMIN).json()["items"]
        assert item["id"] == known
        assert api.get("/feedback", params={"model": "cnn"}, headers=ADMIN).json()["items"] == []


def test_correcting_needs_a_key_where_predicting_does(deployment: Settings, digits: dict[str, bytes]) -> None:
    with TestClient(create_app(deployment.model_copy(update={"open_predict": False}))) as api:
        is_problem(api.post("/feedback", json={"prediction": "x", "label": "7"}), 401, "Unauthorized")
        is_problem(api.get("/feedback"), 401, "Unauthorized")
        api.headers.update(ADMIN)
        correct(api, digits["7"], "1")


def test_corrections_are_exported(api: TestClient, digits: dict[str, bytes]) -> None:
    kept = [correct(api, digits[label], "0") for label in ("7", "3")]
    response = api.get("/feedback/export", headers=ADMIN)
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))
        assert [(row["label"], row["predicted"], row["model"]) for row in rows] == [
            ("0", "3", "minist"),
            ("0", "7", "minist"),
        ]
        for row, body in zip(rows, reversed(kept), strict=True):
            assert archive.read(row["file"]) == base64.b64decode(body["image"].partition(",")[2])


def test_what_is_deleted_is_gone(deployment: Settings, api: TestClient, digits: dict[str, bytes]) -> None:
    one, other = (correct(api, digits[label], "0")["id"] for label in ("7", "3"))
    assert api.delete(f"/feedback/{one}", headers=ADMIN).status_code == 204
    is_problem(api.delete(f"/feedback/{one}", headers=ADMIN), 404, "Unknown correction")
    is_problem(api.post("/feedback", json={"prediction": one, "label": "7"}), 404, "Unknown prediction")
    assert [item["id"] for item in api.get("/feedback", headers=ADMIN).json()["items"]] == [other]
    assert api.delete("/feedback", headers=ADMIN).status_code == 204
    assert api.get("/feedback").json()["count"] == 0
    is_problem(api.post("/feedback", json={"prediction": other, "label": "7"}), 404, "Unknown prediction")


def test_full_is_raised_before_anything_is_written(deployment: Settings) -> None:
    with database(deployment) as tables:
        tables.migrate()
        row = {"id": "a", "model": "m", "version": 1, "predicted": "1", "pixels": bytes(784), "at": time.time()}
        with tables.write() as connection:
            connection.execute(predictions.insert(), row)
        with pytest.raises(FeedbackFull):
            Feedback(tables, 10, 783).correct("a", "2")
        assert Feedback(tables, 1, 784).correct("a", "2").label == "2"


# -- learning ------------------------------------------------------------------------------------------

QUICK = {"model": "mine", "recipe": "softmax-mnist", "epochs": 3, "validation_images": 100, "promote": "always"}


def test_draw_wrong_correct_retrain_right(deployment: Settings, sample: Dataset) -> None:
    """The whole loop, over HTTP, with a model that a quick job trained."""
    home = Home.open(deployment)
    supervisor = home.supervisor()
    with TestClient(create_app(deployment), headers=ADMIN) as api:

        def train(**more: object) -> dict[str, object]:
            job = api.post("/train", json={**QUICK, **more}).json()
            assert supervisor.run_one()
            done: dict[str, object] = api.get(f"/train/{job['id']}").json()
            assert done["status"] == "succeeded", done
            api.get("/models")  # brings what is served up to date
            return done

        assert train()["feedback"] is None
        # a drawing that nobody has seen: a test digit, moved by a pixel
        drawings = [png(np.roll(image[0].numpy(), 1, axis=1)) for image in sample.test.images]
        labels = [str(label) for label in sample.test.labels.tolist()]
        wrong, label = next(
            (drawing, label)
            for drawing, label in zip(drawings, labels, strict=True)
            if ask(api, drawing, model="mine")["label"] != label
        )
        answer = ask(api, wrong, model="mine")
        kept = api.post("/feedback", json={"prediction": answer["id"], "label": label}).json()
        assert (kept["predicted"], kept["label"], kept["used_by"]) == (answer["label"], label, None)
        assert api.get("/feedback").json()["waiting"] == {"mine": 1}

        job = train(feedback=True)
        assert job["feedback"] == {"used": 1, "right_before": 0, "right_after": 1}
        assert api.get("/models/mine").json()["corrections"].items() >= job["feedback"].items()
        again = ask(api, wrong, model="mine")
        assert (again["label"], again["version"]) == (label, 2)
        body = api.get("/feedback").json()
        assert body["waiting"] == {}
        assert body["items"][0]["used_by"] == job["id"]
        # the pictures lie nowhere else, and never where anyone may fetch them
        assert not list(deployment.home.rglob("corrections.json"))

        # said anew, it waits again
        api.post("/feedback", json={"prediction": answer["id"], "label": label})
        assert api.get("/feedback").json()["waiting"] == {"mine": 1}
    home.database.close()


def test_a_job_learns_what_was_corrected_before_it_was_asked_for(
    deployment: Settings, api: TestClient, digits: dict[str, bytes]
) -> None:
    """And the same at its second attempt, whatever is corrected or deleted meanwhile."""
    first = correct(api, digits["7"], "1")["id"]
    body = {"model": "minist", "recipe": "mlp", "epochs": 1, "feedback": True}
    job = api.post("/train", json=body, headers=ADMIN).json()
    assert job["feedback"] == {"used": None, "right_before": None, "right_after": None}
    correct(api, digits["3"], "1")
    home = Home.open(deployment)
    supervisor = home.supervisor()
    claimed = home.queue.claim()
    assert claimed is not None
    path = supervisor.preparation.prepare(claimed).corrections
    written = path.read_bytes()
    found = json.loads(written)
    assert (found["labels"], len(base64.b64decode(found["pixels"]))) == (["1"], 784)
    assert found["before"].endswith("/models/minist/1/minist.pth")
    api.delete(f"/feedback/{first}", headers=ADMIN)
    supervisor.preparation.prepare(claimed)
    assert path.read_bytes() == written
    assert "corrections.json" not in str(api.get(f"/train/{job['id']}/artifacts").json())
    home.database.close()


def test_a_job_without_corrections_learns_none(deployment: Settings) -> None:
    home = Home.open(deployment)
    wanted = {"name": "mine", "recipe": "mlp", "epochs": 1}
    asked = home.queue.submit(wanted, "never", 9, "k", True)
    assert home.queue.submit(wanted, "never", 9, "k", True).id == asked.id
    job = home.queue.claim()
    assert job is not None
    with home.database.write() as connection:
        home.queue.finish(connection, job, 1, {}, None)
    done = Queue(home.database).get(asked.id)
    assert done is not None
    assert done.feedback == {"used": 0, "right_before": 0, "right_after": 0, "test_accuracy_before": None}
    home.database.close()


# -- what is worth a look ------------------------------------------------------------------------------


def test_what_nobody_has_corrected_is_listed_least_sure_first(
    api: TestClient, deployment: Settings, digits: dict[str, bytes]
) -> None:
    asked = [ask(api, digits[label], model=model) for label in "174" for model in ("softmax-mnist", "minist")]
    corrected = correct(api, digits["7"], "1")["id"]
    with database(deployment) as other:
        wait_until_known(Feedback(other, 10, 10_000), asked[-1]["id"])
    assert api.get("/feedback/unsure").status_code == 401
    found = api.get("/feedback/unsure", headers=ADMIN).json()
    assert {one["id"] for one in found} == {one["id"] for one in asked}
    assert corrected not in {one["id"] for one in found}
    by_id = {one["id"]: one for one in asked}
    for one in found:
        assert one["probability"] == pytest.approx(by_id[one["id"]]["probability"], rel=1e-4)
        assert one["predicted"] == by_id[one["id"]]["label"]
        assert one["unfamiliar"] == (by_id[one["id"]].get("warning", {}).get("type") == "unfamiliar")
    order = [(not one["unfamiliar"], one["probability"]) for one in found]
    assert order == sorted(order)
    mine = api.get("/feedback/unsure?model=minist&limit=2", headers=ADMIN).json()
    assert [one["id"] for one in mine] == [one["id"] for one in found if one["model"] == "minist"][:2]
    assert api.get("/feedback/unsure?model=nobody", headers=ADMIN).json() == []


def test_what_is_like_nothing_a_model_knows_comes_first(
    api: TestClient, deployment: Settings, digits: dict[str, bytes]
) -> None:
    noise = png(np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8))
    strange = ask(api, noise, model="digits", preprocess="none")
    assert strange["warning"]["type"] == "unfamiliar"
    plain = ask(api, digits["4"], model="softmax-mnist")
    with database(deployment) as other:
        wait_until_known(Feedback(other, 10, 10_000), plain["id"])
    found = api.get("/feedback/unsure", headers=ADMIN).json()
    assert [one["id"] for one in found] == [strange["id"], plain["id"]]
    assert [one["unfamiliar"] for one in found] == [True, False]


@pytest.mark.parametrize("error", errors.MODEL_ERRORS)
def test_a_version_that_cannot_be_asked_hides_no_other(
    api: TestClient,
    deployment: Settings,
    digits: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    error: type[errors.RequestError],
) -> None:
    ask(api, digits["7"], model="cnn")
    plain = ask(api, digits["4"], model="minist")
    with database(deployment) as other:
        wait_until_known(Feedback(other, 10, 10_000), plain["id"])
    find = Registry.find

    def missing(registry: Registry, name: str | None) -> ServedModel:
        if name == "cnn@1":
            raise error("it is not here", "ask later")
        return find(registry, name)

    monkeypatch.setattr(Registry, "find", missing)
    found = api.get("/feedback/unsure", headers=ADMIN).json()
    assert [one["id"] for one in found] == [plain["id"]]


def test_a_label_can_be_changed_and_taken_back(api: TestClient, digits: dict[str, bytes]) -> None:
    """Also to the predicted one: somebody has said that it is right. What was taken back can be given again."""
    id = correct(api, digits["7"], "1")["id"]
    again = api.post("/feedback", json={"prediction": id, "label": "7"}).json()
    assert (again["label"], again["predicted"]) == ("7", "7")
    assert [one["label"] for one in api.get("/feedback", headers=ADMIN).json()["items"]] == ["7"]
    assert api.delete(f"/feedback/{id}?forget=false", headers=ADMIN).status_code == 204
    assert api.get("/feedback").json()["count"] == 0
    assert api.post("/feedback", json={"prediction": id, "label": "2"}).status_code == 201
    assert api.delete(f"/feedback/{id}", headers=ADMIN).status_code == 204
    is_problem(api.post("/feedback", json={"prediction": id, "label": "2"}), 404, "Unknown prediction")
