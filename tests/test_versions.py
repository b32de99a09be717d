"""Versions, aliases, promotion, rollback, what is kept."""

import hashlib
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import insert

from app.errors import DamagedModel, UnknownModel
from app.jobs.executor import RunDirectory
from app.jobs.job import ClaimLost, Job, Submitter
from app.jobs.promotion import Rule
from app.jobs.publication import Publication
from app.jobs.queue import Queue
from app.serving.damage import FIRST_WAIT, DamagedVersions
from app.serving.registry import Registry
from app.store import tables
from app.store.audit import KEPT, prune
from app.store.database import Database
from app.store.paths import HomePaths
from app.store.shipped import publish_shipped
from app.store.versions import NoSuchAlias, NoSuchVersion, NothingBefore, VersionInUse, Versions, digest_of
from app.telemetry.counters import Counters
from models.errors import CheckpointError
from models.verification import load_verified
from tests.conftest import SHIPPED, WEIGHTS
from tests.processes import wait_for

SHIPPED_ACCURACY = json.loads((WEIGHTS / "minist.json").read_text())["metrics"]["test"]["accuracy"]


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue(database)


@pytest.fixture
def versions(database: Database, tmp_path: Path) -> Versions:
    versions = Versions(database, HomePaths(tmp_path))
    publish_shipped(versions)
    return versions


def test_a_listed_version_is_damaged_as_soon_as_its_file_is(versions: Versions) -> None:
    version = versions.snapshot().versions["minist", 1]
    assert version.listed_card() == version.intact_card()
    version.weights.write_bytes(version.weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="it is damaged"):
        version.listed_card()
    version.weights.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        version.listed_card()


def publish(
    versions: Versions,
    queue: Queue,
    accuracy: float = 0.999,
    promote: Rule = "if_better",
    model: str = "minist",
) -> int:
    """A job that ends with nearly the shipped weights and a card that claims this accuracy."""
    queue.submit(
        {"name": model, "recipe": "mlp", "epochs": 1}, promote, 99, None, submitter=Submitter("me", admin=True)
    )
    job = queue.claim()
    assert job is not None
    return Publication(queue, versions).publish(job, finished(versions, job, accuracy))


def finished(versions: Versions, job: Job, accuracy: float) -> RunDirectory:
    run = RunDirectory(versions.paths.run(job.id))
    run.path.mkdir(parents=True)
    weights = torch.load(WEIGHTS / "minist.pth", weights_only=True)
    next(iter(weights.values())).mul_(1 + job.number * 1e-6)  # not the very bits of another version
    torch.save(weights, run.weights(job.model))
    card = json.loads((WEIGHTS / "minist.json").read_text())
    card["sha256"] = digest_of(run.weights(job.model))
    card["metrics"]["test"]["accuracy"] = accuracy
    run.card(job.model).write_text(json.dumps(card))
    return run


def production(versions: Versions, model: str = "minist") -> int | None:
    return versions.snapshot().aliases.get((model, "production"))


def test_shipped_weights_are_version_1_and_in_production(versions: Versions) -> None:
    snapshot = versions.snapshot()
    assert set(snapshot.versions) == {(name, 1) for name in SHIPPED}
    assert all(production(versions, name) == 1 for name in SHIPPED)
    publish_shipped(versions)
    assert versions.snapshot() == snapshot


def test_new_shipped_weights_are_the_next_version_and_go_into_production(
    versions: Versions, queue: Queue, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    release.mkdir()
    for name in ("minist", "cnn"):
        card = json.loads((WEIGHTS / f"{name}.json").read_text()) | {"sha256": "0" * 64}
        (release / f"{name}.json").write_text(json.dumps(card))
        (release / f"{name}.pth").write_bytes(b"new")
    assert publish(versions, queue, accuracy=0.999) == 2
    publish_shipped(versions, release)
    assert production(versions, "cnn") == 2
    assert production(versions, "minist") == 2  # somebody's own: not pushed aside by a release
    assert ("minist", 3) in versions.snapshot().versions


@pytest.mark.parametrize(
    ("promote", "accuracy", "promoted"),
    [
        ("if_better", 0.999, True),
        ("if_better", SHIPPED_ACCURACY, True),
        ("if_better", 0.5, False),
        ("always", 0.5, True),
        ("never", 0.999, False),
    ],
)
def test_promotion(versions: Versions, queue: Queue, promote: Rule, accuracy: float, promoted: bool) -> None:
    assert publish(versions, queue, accuracy, promote) == 2
    assert production(versions) == (2 if promoted else 1)
    (job,) = queue.page(None, 1, None)
    assert job.status == "succeeded"
    assert job.version == 2
    assert job.decision is not None
    assert job.decision["promoted"] is promoted
    assert job.decision["accuracy"] == accuracy
    assert job.decision["reason"]
    newest = versions.audit("minist")[0]
    assert newest.action == ("promote" if promoted else "keep")
    assert job.id in newest.why


def test_if_better_compares_on_the_same_data_only(versions: Versions, queue: Queue) -> None:
    publish(versions, queue, accuracy=0.999, model="fashion-cnn")
    assert production(versions, "fashion-cnn") == 1
    assert "other data" in versions.audit("fashion-cnn")[0].why


def test_a_new_name_is_a_new_model(versions: Versions, queue: Queue) -> None:
    assert publish(versions, queue, model="mine") == 1
    assert production(versions, "mine") == 1


def test_a_claim_that_was_lost_publishes_nothing(versions: Versions, queue: Queue) -> None:
    queue.submit({"name": "minist", "recipe": "mlp", "epochs": 1}, "always", 9, None)
    job = queue.claim()
    assert job is not None
    run = finished(versions, job, 0.999)
    queue.cancel(job.id)
    with pytest.raises(ClaimLost):
        Publication(queue, versions).publish(job, run)
    assert production(versions) == 1
    assert ("minist", 2) not in versions.snapshot().versions
    assert [path.name for path in (versions.paths.models / "minist").iterdir()] == ["1"]


@pytest.mark.parametrize("files", [["minist.pth"], ["minist.pth", "minist.json"]])
def test_a_folder_that_is_there_already_is_never_replaced(
    versions: Versions, queue: Queue, files: list[str]
) -> None:
    there = versions.paths.version("minist", 2)
    there.mkdir()
    for name in files:
        (there / name).write_bytes(b"somebody's")
    assert publish(versions, queue) == 3
    assert {path.name: path.read_bytes() for path in there.iterdir()} == dict.fromkeys(files, b"somebody's")


def test_rollback_goes_back_step_by_step(versions: Versions, queue: Queue) -> None:
    publish(versions, queue, promote="always")
    publish(versions, queue, promote="always")
    assert production(versions) == 3
    assert versions.rollback("minist", "me", "it was worse") == 2
    assert versions.rollback("minist", "me", "still") == 1
    with pytest.raises(NothingBefore):
        versions.rollback("minist", "me", "more")
    newest = versions.audit("minist")[0]
    assert (newest.who, newest.action, newest.from_version, newest.to_version, newest.why) == (
        "me",
        "rollback",
        2,
        1,
        "still",
    )


def test_an_alias_points_only_at_what_exists(versions: Versions) -> None:
    versions.move("minist", "canary", 1, "me", "")
    with pytest.raises(NoSuchVersion):
        versions.move("minist", "canary", 9, "me", "")
    with pytest.raises(NoSuchVersion):
        versions.move("nope", "canary", 1, "me", "")


def test_a_version_in_use_is_not_deleted_and_numbers_are_not_used_again(
    versions: Versions, queue: Queue
) -> None:
    publish(versions, queue, promote="never")
    with pytest.raises(VersionInUse, match="production"):
        versions.delete("minist", 1, "me", "")
    versions.delete("minist", 2, "me", "")
    assert not (versions.paths.models / "minist" / "2").exists()
    with pytest.raises(NoSuchVersion):
        versions.delete("minist", 2, "me", "")
    assert publish(versions, queue) == 3


def test_pruning_keeps_the_newest_and_whatever_an_alias_points_at(versions: Versions, queue: Queue) -> None:
    for _ in range(5):
        publish(versions, queue, promote="never")
    versions.move("minist", "canary", 3, "me", "")
    versions.prune("minist", keep=2)
    kept = [number for name, number in versions.snapshot().versions if name == "minist"]
    assert sorted(kept) == [1, 3, 5, 6]


@pytest.fixture
def registry(versions: Versions, cpu: torch.device) -> Registry:
    registry = Registry(versions, "minist", cpu, Counters())
    registry.start()
    return registry


def test_the_registry_follows_the_aliases(registry: Registry, versions: Versions, queue: Queue) -> None:
    in_flight = registry.find("minist")
    publish(versions, queue, promote="always")
    assert registry.refresh()
    assert not registry.refresh()
    assert (in_flight.version, registry.find("minist").version) == (1, 2)
    assert registry.find(None) is registry.find("minist@production")


def test_versions_and_aliases_are_asked_for_by_name(
    registry: Registry, versions: Versions, queue: Queue
) -> None:
    publish(versions, queue, promote="never")
    versions.move("minist", "canary", 2, "me", "")
    assert registry.find("minist@canary").version == 2
    assert registry.find("minist@1").version == 1
    for unknown in ("minist@9", "minist@beta", "minist@", "@1", "nope@1", "minist@99999999999999"):
        with pytest.raises(UnknownModel, match="there is no model"):
            registry.find(unknown)


def test_many_versions_and_aliases_cost_no_more_than_there_are(registry: Registry, versions: Versions) -> None:
    with versions.database.write() as connection:
        row = {"model": "minist", "job_id": None, "sha256": "", "created_at": 0.0, "deleted": False}
        connection.execute(insert(tables.versions), [{**row, "version": number} for number in range(2, 3000)])
        row = {"model": "minist", "version": 1}
        connection.execute(insert(tables.aliases), [{**row, "alias": f"a{number}"} for number in range(3000)])
    versions.move("minist", "canary", 1, "me", "")
    assert registry.refresh()
    versions.move("minist", "canary", 1, "me", "")
    begun = time.process_time()
    assert registry.refresh()
    assert time.process_time() - begun < 1
    assert registry.find("minist@a2999") is registry.find("minist")
    with pytest.raises(UnknownModel) as told:
        registry.find("minist@nothing")
    assert told.value.hint is not None
    assert told.value.hint.endswith(", or of 5,951 others, which GET /models/minist/versions lists")
    assert len(told.value.hint) < 1000


def damage(versions: Versions, number: int) -> None:
    """One bit in the weights."""
    weights = versions.paths.version("minist", number) / "minist.pth"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)


def test_always_needs_an_admin_where_there_is_a_version(versions: Versions, queue: Queue) -> None:
    """Whatever was there when the job was accepted: the rule is looked at once more when it ends."""
    for model, promoted in (("mine", True), ("mine", False)):
        queue.submit({"name": model}, "always", 9, None, submitter=Submitter("trainer", admin=False))
        job = queue.claim()
        assert job is not None
        Publication(queue, versions).publish(job, finished(versions, job, 0.5 if promoted else 0.4))
        newest = queue.get(job.id)
        assert newest is not None
        assert newest.decision is not None
        assert newest.decision["promoted"] is promoted


def test_weights_that_do_not_belong_to_their_card_are_not_published(versions: Versions, queue: Queue) -> None:
    queue.submit({"name": "minist"}, "always", 9, None)
    job = queue.claim()
    assert job is not None
    run = finished(versions, job, 0.999)
    run.weights("minist").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="not the file that its card was written for"):
        Publication(queue, versions).publish(job, run)
    assert [*versions.paths.model("minist").iterdir()] == [versions.paths.version("minist", 1)]
    assert production(versions) == 1


def test_models_and_aliases_are_deleted(versions: Versions, queue: Queue) -> None:
    publish(versions, queue, promote="always")
    versions.move("minist", "canary", 1, "me", "")
    with pytest.raises(VersionInUse, match="production"):
        versions.delete_alias("minist", "production", "me", "")
    versions.delete_alias("minist", "canary", "me", "")
    with pytest.raises(NoSuchAlias):
        versions.delete_alias("minist", "canary", "me", "")
    versions.delete_model("minist", "me", "")
    assert not any(
        name == "minist" for name, _ in (*versions.snapshot().versions, *versions.snapshot().aliases)
    )
    assert not list(versions.paths.model("minist").iterdir())
    with pytest.raises(NoSuchVersion):
        versions.delete_model("minist", "me", "")
    publish_shipped(versions)  # at the next start: what was deleted stays away
    assert production(versions) is None
    assert publish(versions, queue) == 3  # and its numbers are not used again


def test_old_audit_entries_are_pruned_but_the_newest_of_each_model(versions: Versions) -> None:
    for number in range(KEPT + 10):
        versions.move("minist", "canary", 1, "me", str(number))
    before = versions.change()
    prune(versions.database, time.time() + 1)
    assert [entry.why for entry in versions.audit("minist")] == [str(n) for n in range(KEPT + 9, 9, -1)]
    assert len(versions.audit("cnn")) == 2
    assert versions.change() == before


def test_a_damaged_shipped_version_is_read_from_the_file_that_came_with_the_service(
    registry: Registry, versions: Versions, cpu: torch.device, caplog: pytest.LogCaptureFixture
) -> None:
    """That is told until the version's own file is back."""
    weights = versions.paths.version("minist", 1) / "minist.pth"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    anew = Registry(versions, "minist", cpu, Counters())
    anew.start()
    served = anew.find("minist")
    anew.refresh()
    assert anew.find("minist") is served
    assert served.version == 1
    (found,) = anew.degraded
    assert (found.name, found.version, found.serving) == ("minist", 1, 1)
    assert "sha256" in found.reason
    assert "read from the files that came with the service" in caplog.text
    weights.write_bytes(whole)
    wait_for(anew.refresh, FIRST_WAIT + 60)
    assert anew.degraded == []
    assert anew.find("minist").version == 1


def test_at_the_start_a_damaged_version_gives_way_to_the_one_before(
    versions: Versions, queue: Queue, cpu: torch.device, tmp_path: Path
) -> None:
    for _ in range(3):
        publish(versions, queue, promote="always")
    for number in (3, 4):
        damage(versions, number)
    registry = Registry(versions, "minist", cpu, Counters())
    registry.start()
    registry.refresh()
    assert registry.find("minist").version == 2
    (found,) = registry.degraded
    assert (found.name, found.version, found.serving) == ("minist", 4, 2)
    assert "sha256" in found.reason
    assert registry.find("cnn").version == 1
    with pytest.raises(DamagedModel) as error:
        registry.find("minist@4")
    assert error.value.retry_after
    shutil.rmtree(versions.paths.version("minist", 2))
    shutil.rmtree(versions.paths.version("minist", 1))
    anew = Registry(versions, "minist", cpu, Counters())
    anew.start()
    assert anew.find("minist").version == 1  # the shipped file


def test_a_model_of_ones_own_that_is_all_damaged_is_503_and_the_others_answer(
    versions: Versions, queue: Queue, cpu: torch.device
) -> None:
    publish(versions, queue, model="mine")
    (versions.paths.version("mine", 1) / "mine.json").unlink()
    registry = Registry(versions, "mine", cpu, Counters())
    registry.start()
    for name in (None, "mine", "mine@production", "mine@1"):
        with pytest.raises(DamagedModel, match="version 1 of 'mine' is damaged"):
            registry.find(name)
    assert registry.find("minist").version == 1
    assert [found.serving for found in registry.degraded] == [None]


def test_a_version_that_could_not_be_read_is_tried_again(
    versions: Versions, queue: Queue, cpu: torch.device
) -> None:
    number = publish(versions, queue, model="mine")
    card = versions.paths.version("mine", number) / "mine.json"
    text = card.read_text()
    card.unlink()
    registry = Registry(versions, "minist", cpu, Counters())
    registry.start()
    registry.refresh()
    card.write_text(text)
    time.sleep(FIRST_WAIT)
    assert registry.refresh()
    assert registry.find("mine").version == number
    assert registry.degraded == []


def test_attempts_at_a_damaged_version_become_rarer() -> None:
    clock = [0.0]
    damaged = DamagedVersions(lambda: clock[0])
    waits = []
    for _ in range(9):
        damaged.add("minist", 2, "why")
        waits.append(damaged.wait("minist", 2))
        assert not damaged.due([("minist", 2)])
        clock[0] += waits[-1]
        assert damaged.due([("minist", 2), ("cnn", 1)])
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_version_that_is_deleted_while_it_is_asked_for_is_unknown(
    registry: Registry, versions: Versions, queue: Queue
) -> None:
    number = publish(versions, queue, promote="never")
    registry.refresh()
    versions.delete("minist", number, "me", "")
    with pytest.raises(UnknownModel):
        registry.find(f"minist@{number}")


def diverged(card: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    next(iter(weights.values()))[:] = float("nan")


def of_another_architecture(card: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    card["architecture"] = "cnn"


def with_another_argument(card: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    card["arguments"] = {"colours": 3}


def with_too_few_classes(card: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    card["classes"] = ["0", "1"]


def of_a_newer_release(card: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    card["shoe_size"] = 43


@pytest.mark.parametrize(
    "spoil",
    [diverged, of_another_architecture, with_another_argument, with_too_few_classes, of_a_newer_release],
)
def test_what_does_not_answer_is_one_clear_sentence(spoil: Any, tmp_path: Path, cpu: torch.device) -> None:
    card = json.loads((WEIGHTS / "minist.json").read_text())
    weights = torch.load(WEIGHTS / "minist.pth", weights_only=True)
    spoil(card, weights)
    torch.save(weights, tmp_path / "minist.pth")
    card["sha256"] = hashlib.sha256((tmp_path / "minist.pth").read_bytes()).hexdigest()
    (tmp_path / "minist.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        load_verified(tmp_path / "minist.pth", cpu)


def test_a_broken_version_does_not_take_down_the_one_that_answers(
    registry: Registry, versions: Versions, queue: Queue
) -> None:
    number = publish(versions, queue, promote="never")
    (versions.paths.models / "minist" / str(number) / "minist.pth").write_bytes(b"damaged")
    versions.move("minist", "production", number, "me", "")
    registry.refresh()
    assert registry.find("minist").version == 1
