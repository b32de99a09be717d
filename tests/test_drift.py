"""Answers that drift: indices and what chance explains, rows of all processes, who is told, what is kept."""

import math
import random
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import SecretStr, ValidationError
from sqlalchemy import func, select
from starlette.testclient import TestClient

from app.jobs.deliveries import Deliveries
from app.jobs.webhooks import Courier
from app.serving import drift
from app.serving.registry import Registry
from app.settings import Settings
from app.store import answered as module
from app.store.answered import FIRST, FIRST_IMAGES, KEPT_HOURS, AnsweredHours, Counts, hour_of
from app.store.database import Database
from app.store.paths import HomePaths
from app.store.shipped import publish_shipped
from app.store.tables import answered
from app.store.versions import Versions
from app.telemetry.counters import Counters
from app.web.drift import DriftWatch
from models.classifier import Classifier
from tests.conftest import ADMIN, WEIGHTS
from tests.receiver import Receiver, receiver
from tests.samples import is_problem
from training.datasets import Dataset
from training.evaluation import evaluate

CNN = ("cnn", 1)
TEN = tuple("0123456789")


def test_the_index_is_0_for_the_same_shares_and_as_written_for_others() -> None:
    assert drift.psi([100, 300], [1000, 3000]) == pytest.approx(0, abs=1e-4)
    by_hand = (0.5 - 0.25) * math.log(0.5 / 0.25) + (0.5 - 0.75) * math.log(0.5 / 0.75)
    assert drift.psi([25_000, 75_000], [50_000, 50_000]) == pytest.approx(by_hand, rel=1e-3)
    assert math.isfinite(drift.psi([0, 10], [10, 0]))


@pytest.mark.parametrize(("bins", "least"), [(10, 200), (100, 200), (2, 5000)])
def test_chance_raises_no_alarm(bins: int, least: int) -> None:
    """Samples of one distribution stay below what chance explains in 98 of 100 cases, however few they are."""
    source = random.Random(bins)
    weights = [source.random() + 0.1 for _ in range(bins)]

    def sample(number: int) -> list[int]:
        found = [0] * bins
        for place in source.choices(range(bins), weights, k=number):
            found[place] += 1
        return found

    pairs = [(sample(2000), sample(least)) for _ in range(200)]
    above = sum(drift.psi(e, f) > drift.chance(bins, 2000, least) for e, f in pairs)
    assert above <= 8


# -- rows ----------------------------------------------------------------------------------------------


@pytest.fixture
def hours(database: Database) -> AnsweredHours:
    return AnsweredHours(database)


def counts(labels: Mapping[str, int], warned: int = 0) -> Counts:
    return Counts(labels, [0] * 10 + [sum(labels.values())], warned)


def test_what_processes_add_is_one_row_an_hour(hours: AnsweredHours) -> None:
    hours.add(500, {CNN: counts({"1": 2}, 1)}, frozenset())
    hours.add(500, {CNN: counts({"1": 1, "7": 4})}, frozenset())
    hours.add(501, {CNN: counts({"7": 1}), ("other", 3): counts({"a": 1})}, frozenset())
    first, second = hours.since(500, *CNN)
    assert (first.hour, first.counts) == (500, Counts({"1": 3, "7": 4}, [0] * 10 + [7], 1))
    assert (second.hour, second.counts.images) == (501, 1)
    assert len(hours.since(500)) == 3


def test_first_answers_are_kept_until_there_are_enough(hours: AnsweredHours) -> None:
    keep = frozenset([CNN])
    hours.add(500, {CNN: counts({"1": FIRST_IMAGES - 1})}, keep)
    assert hours.first() == {}
    for hour in (501, 502):
        hours.add(hour, {CNN: counts({"2": 5})}, keep)
    assert hours.first()[CNN].labels == {"1": FIRST_IMAGES - 1, "2": 5}
    assert FIRST not in {row.hour for row in hours.since(0)}


def test_rows_are_kept_for_90_days_and_bounded(hours: AnsweredHours, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    newest = hour_of(now)
    for hour in (newest - KEPT_HOURS - 1, newest - KEPT_HOURS, newest - 2, newest - 1, newest):
        hours.add(hour, {CNN: counts({"1": 1}), ("gone", 1): counts({"1": 1})}, frozenset([CNN]))
    hours.forget(now)
    assert [row.hour for row in hours.since(0, *CNN)] == [newest - KEPT_HOURS, newest - 2, newest - 1, newest]
    monkeypatch.setattr(module, "MOST_ROWS", 4)
    hours.forget(now)
    with hours.database.read() as connection:
        assert connection.scalar(select(func.count()).where(answered.c.hour != FIRST)) == 4
    hours.forget(now + (KEPT_HOURS + 2) * 3600)
    with hours.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(answered)) == 0


# -- the watch -----------------------------------------------------------------------------------------


@pytest.fixture
def registry(tmp_path: Path, database: Database) -> Registry:
    versions = Versions(database, HomePaths(tmp_path))
    publish_shipped(versions)
    found = Registry(versions, "cnn", torch.device("cpu"), Counters())
    found.start()
    return found


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


USUAL = [0.9995] * 88 + [0.997] * 6 + [0.992] * 2 + [0.985, 0.97, 0.92, 0.85]  # as cnn's card has them


def count_answers(counters: Counters, labels: str, number: int) -> None:
    answers = counters.answers_of(*CNN, TEN)
    for at in range(number):
        answers.count(int(labels[at % len(labels)]), USUAL[at * 7 % len(USUAL)])


def watch(hours: AnsweredHours, registry: Registry, counters: Counters, url: str | None = None) -> DriftWatch:
    return DriftWatch(hours, counters, registry, 0.2, url)


def test_answers_like_the_test_set_do_not_drift_and_others_do(hours: AnsweredHours, registry: Registry) -> None:
    one, two = Counters(), Counters()
    watches = [watch(hours, registry, counters) for counters in (one, two)]
    count_answers(one, "".join(TEN), 150)
    watches[0].turn()
    assert watches[0].states[CNN].drift is None  # too few
    count_answers(two, "".join(TEN), 150)
    for each in (*watches, *watches):  # what was told is not told again
        each.turn()
    state = watches[0].states[CNN]
    assert state.drift is not None
    assert (state.drift.images, state.reference, state.since) == (300, "test", None)
    assert state.drift.labels.psi < 0.1
    count_answers(one, "7", 600)
    watches[0].turn()
    watches[1].turn()
    for each in watches:
        assert each.states[CNN].since is not None
        assert each.states[CNN].drift.labels.psi > 1  # type: ignore[union-attr]


def test_two_processes_tell_once_that_it_begins_and_once_that_it_ends(
    hours: AnsweredHours, registry: Registry, there: Receiver
) -> None:
    counters, url = Counters(), there.origin + "/drift?token=1"
    watches = [watch(hours, registry, counters, url), watch(hours, registry, Counters(), url)]
    count_answers(counters, "7", 400)
    for each in watches * 2:
        each.turn()
    later = time.time() + 30 * 3600
    for each in watches:
        each._clock = lambda: later
    count_answers(counters, "".join(TEN), 400)
    for each in watches * 2:
        each.turn()
    sender = Courier(Deliveries(hours.database), frozenset([there.origin]), "the-secret-of-the-tests")
    while sender.send_one():
        pass
    begun, ended = (one.json for one in there.got)
    assert (begun["event"], ended["event"]) == ("drift.begun", "drift.ended")
    told = begun["drift"]
    assert (told["model"], told["version"], told["images"]) == ("cnn", 1, 400)
    assert told["labels"]["psi"] > told["labels"]["limit"] > 0.2
    assert hours.drifted() == {}


def test_a_version_without_counts_on_its_card_is_compared_with_its_first_answers(
    hours: AnsweredHours, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.drift.expected", lambda card: None)
    counters = Counters()
    found = watch(hours, registry, counters)
    count_answers(counters, "12", 400)
    found.turn()
    assert found.states[CNN].drift is None
    count_answers(counters, "12", 700)
    found.turn()
    assert found.states[CNN].reference == "first"
    assert found.states[CNN].since is None
    count_answers(counters, "3", 2000)
    found.turn()
    assert found.states[CNN].since is not None


def test_what_the_database_did_not_take_is_written_by_the_next_turn(
    hours: AnsweredHours, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = Counters()
    found = watch(hours, registry, counters)
    count_answers(counters, "1", 10)
    with monkeypatch.context() as patch:
        patch.setattr(hours, "add", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            found.write()
    found.write()
    found.write()
    assert [row.counts.images for row in hours.since(0)] == [10]


# -- the service ---------------------------------------------------------------------------------------


def test_drift_is_shown_by_the_api_live_and_metrics(client: TestClient) -> None:
    watching = client.app_state["services"].drift
    body = np.zeros((250, 28, 28), np.uint8)
    headers = {"content-type": "application/x-npy"}
    from io import BytesIO

    stream = BytesIO()
    np.save(stream, body)
    client.post("/predict/batch?model=minist", content=stream.getvalue(), headers=headers).raise_for_status()
    watching.turn()
    shown = client.get("/models/minist/drift", headers=ADMIN).json()
    assert shown["threshold"] == 0.2
    assert shown["now"]["since"] is not None
    assert shown["hours"][-1]["images"] >= 250
    assert shown["hours"][-1]["psi_labels"]["psi"] > shown["now"]["labels"]["limit"]
    live = client.get("/live", headers=ADMIN).json()["models"]
    assert next(one for one in live if one["model"] == "minist")["drift"]["against"] == "test"
    page = client.get("/metrics").text
    assert re.search(r'minist_drift_psi\{model="minist",of="labels",version="1"\} [1-9]', page)
    assert 'minist_drifted{model="minist",version="1"} 1.0' in page
    is_problem(client.get("/models/nobody/drift", headers=ADMIN), 404, "Unknown model")
    is_problem(client.get("/models/minist/drift"), 401, "Unauthorized")


def test_only_a_listed_origin_is_told() -> None:
    listed = {"webhook_origins": "https://example.org", "webhook_secret": SecretStr("x" * 16)}
    url = "https://example.org/hook?token=secret"
    assert "token" not in repr(Settings(drift_notify=SecretStr(url), **listed))  # type: ignore[arg-type]
    for wrong in ("https://other.org/", "http://example.org/", "nonsense"):
        with pytest.raises(ValidationError, match="drift_notify"):
            Settings(drift_notify=SecretStr(wrong), **listed)  # type: ignore[arg-type]


def test_training_counts_what_serving_counts(sample: Dataset, cpu: torch.device) -> None:
    classifier = Classifier.load(WEIGHTS / "cnn.pth", cpu)
    found = evaluate(classifier, sample.test)
    answers = Counters().answers_of("cnn", 1, classifier.card.classes)
    for row in found.probabilities.tolist():
        answers.count(row.index(max(row)), max(row))
    assert found.metrics.answered is not None
    assert [*found.metrics.answered.labels.values()] == answers.labels
    assert [*found.metrics.answered.confidence] == answers.confidence
