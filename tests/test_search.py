"""A search: which values it takes, how its trials run, and what is left when it is killed."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr, ValidationError
from starlette.testclient import TestClient

from app.jobs.checkpoints import Checkpoints
from app.jobs.preparation import Preparation
from app.jobs.queue import Queue
from app.main import create_app
from app.settings import Settings
from app.store.database import Database
from app.store.datasets import Datasets
from app.store.feedback import Feedback
from app.store.folders import Folders
from app.store.objects import Objects
from app.store.paths import HomePaths
from app.store.versions import Versions
from models.card import Trial, read_card
from tests.conftest import ADMIN, ADMIN_KEY, SAMPLE
from tests.processes import children, service, supervisor_of, wait_for
from tests.samples import is_problem
from tests.table_samples import CLASSES, mixed, spec_of_mixed, write_table
from training.cli import train as train_command
from training.errors import TrainingError
from training.events import Epoch, Event, Note, Step, TrialEpoch, TrialStep
from training.recipes import RECIPES, Config
from training.run import Run, train
from training.search import Count

GRID = {"lr": [0.02, 0.5], "batch_size": [50, 200]}
SMALL = {"epochs": 2, "validation_images": 100}
CPU = torch.device("cpu")


def config(**changes: object) -> Config:
    return RECIPES["softmax-mnist"].config(**{**SMALL, "search": GRID, **changes})


def searched(directory: Path, **changes: object) -> Run:
    run = Run.create(directory, config(**changes))
    train(run, SAMPLE, CPU, lambda event: None)
    return run


def weights(run: Run) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(run.weights_path, weights_only=True)
    return found


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({}, "2 to 16 combinations"),
        ({"lr": [0.1]}, "2 to 16 combinations of values, not 1"),
        ({"lr": []}, "2 to 16"),
        ({"lr": [0.1, 0.2], "epochs": list(range(1, 10))}, "not 18"),
        ({"lr": [0.1, -1]}, "lr=-1: lr: Input should be greater than 0"),
        ({"batch_size": [32, "many"]}, "batch_size=many"),
        ({"lr": [0.1, "0.1"]}, "twice"),
        ({"seed": [1, 2]}, "'seed' cannot be searched; these can: epochs"),
        ({"optimizer": ["sgd", "from-scratch"]}, "optimizer=from-scratch"),
    ],
)
def test_a_search_that_cannot_be_is_refused_with_the_reason(search: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        config(search=search)


@pytest.mark.parametrize("recipe", ["auto", "transfer", "fine-tune"])
def test_recipes_that_try_settings_by_themselves_are_not_searched(recipe: str) -> None:
    with pytest.raises(ValidationError, match="tries settings by itself"):
        RECIPES[recipe].config(search=GRID)


def test_the_best_is_never_chosen_by_test_images() -> None:
    with pytest.raises(ValidationError, match="hold some out"):
        config(validation_images=0)


def test_without_a_search_a_config_is_what_it_was() -> None:
    assert "search" not in config(search=None).model_dump()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return searched(tmp_path_factory.mktemp("undisturbed") / "run")


def test_the_best_trial_by_validation_is_the_run_that_it_would_have_been_alone(
    undisturbed: Run, tmp_path: Path
) -> None:
    search = read_card(undisturbed.card_path).search
    assert search is not None
    losses = {trial.number: trial.loss for trial in search.trials}
    assert [tuple(trial.settings.values()) for trial in search.trials] == [
        (0.02, 50), (0.02, 200), (0.5, 50), (0.5, 200)
    ]  # fmt: skip
    assert len(set(losses.values())) == 4
    assert search.chosen == min(losses, key=lambda number: losses[number] or 9)
    alone = Run.create(tmp_path / "alone", config(search=None, **search.trials[search.chosen - 1].settings))
    card = train(alone, SAMPLE, CPU, lambda event: None)
    assert all(torch.equal(tensor, weights(undisturbed)[name]) for name, tensor in weights(alone).items())
    found = read_card(undisturbed.card_path)
    assert (found.training, found.metrics) == (card.training, card.metrics)
    assert losses[search.chosen] == card.metrics["validation"].calibrated.nll  # type: ignore[union-attr]


def test_all_trials_are_in_the_report_and_the_losers_leave_no_state(undisturbed: Run) -> None:
    page = undisturbed.files.report.read_text()
    assert "The search" in page
    assert page.count("</tr>", page.index("The search"), page.index("Confusion")) == 5
    assert json.loads(undisturbed.files.search.read_text())["chosen"]
    assert [files.resume.exists() for files in undisturbed.files.trials()].count(True) == 1


class Killed(BaseException):
    pass


def test_trials_that_have_ended_are_not_repeated_and_the_weights_are_the_same(
    undisturbed: Run, tmp_path: Path
) -> None:
    """It is stopped at every fifth event of importance, from the first trial to the last."""
    run, left, told = Run.create(tmp_path / "run", config()), [0], list[Event]()

    def stop(event: Event) -> None:
        told.append(event)
        left[0] -= isinstance(event, Epoch)
        if left[0] < 0:
            raise Killed

    attempts, ended = 0, dict[Path, int]()
    while not run.card_path.exists():
        attempts += 1
        left[0] = 1
        try:
            train(run, SAMPLE, CPU, stop)
        except Killed:
            now = {
                files.result: files.result.stat().st_mtime_ns
                for files in run.files.trials()
                if files.result.exists()
            }
            assert now.items() >= ended.items()
            ended = now
    assert attempts > 3
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(undisturbed).items())
    epochs = [event for event in told if isinstance(event, TrialEpoch)]
    assert {(event.epoch, event.trial) for event in epochs} == {(n, (n + 1) // 2) for n in range(1, 9)}
    assert {(event.epochs, event.trials) for event in epochs} == {(8, 4)}


def test_a_trial_that_diverges_is_a_result_and_when_all_do_the_run_fails(tmp_path: Path) -> None:
    told: list[Event] = []
    run = Run.create(tmp_path / "some", RECIPES["mlp"].config(**SMALL, search={"lr": [100, 0.1]}))
    card = train(run, SAMPLE, CPU, told.append)
    assert card.search is not None
    first, second = card.search.trials
    assert (first.loss, card.search.chosen, second.error) == (None, 2, None)
    assert "diverged" in (first.error or "")
    assert any("trial 1 of 2 (lr 100.0) failed" in event.text for event in told if isinstance(event, Note))
    assert "diverged" in run.files.report.read_text()
    run = Run.create(tmp_path / "all", RECIPES["mlp"].config(**SMALL, search={"lr": [100, 99]}))
    with pytest.raises(TrainingError, match=r"none of 2 trials has a result.*diverged"):
        train(run, SAMPLE, CPU, told.append)


def test_a_table_is_searched_as_well(tmp_path: Path) -> None:
    rows, labels = mixed(200)
    write_table(tmp_path / "mine" / "1", spec_of_mixed(), rows, labels, CLASSES)
    grid = {"lr": [0.002, 0.01]}
    with pytest.raises(
        ValidationError, match="'momentum' cannot be searched; these can: epochs, batch_size, lr"
    ):
        RECIPES["table"].config(search={"momentum": [0.1, 0.2]})
    run = Run.create(
        tmp_path / "run", RECIPES["table"].config(dataset="mine@1", name="mine", epochs=2, search=grid)
    )
    card = train(run, tmp_path, CPU, lambda event: None, datasets_dir=tmp_path)
    assert card.search is not None
    assert len({trial.loss for trial in card.search.trials}) == 2
    assert card.training is not None
    assert card.training["lr"] == card.search.trials[card.search.chosen - 1].settings["lr"]


def test_a_search_is_followed_as_one_run() -> None:
    """Also where one of its trials takes fewer epochs than were planned."""
    count = Count(RECIPES["small-image"].config(search={"lr": [0.1, 0.2, 0.3]}))
    epoch = Epoch(1, 10, 0.5, 0.8, "validation", 0.5, 0.8, 0.1, 1.0)
    first = count.counted(1, epoch)
    assert isinstance(first, TrialEpoch)
    assert (first.epoch, first.epochs, first.trial, first.trials) == (1, 30, 1, 3)
    count.end(Trial(number=1, settings={}, loss=0.1, accuracy=0.9, epochs=4))
    second = count.counted(2, epoch)
    assert isinstance(second, TrialEpoch)
    assert (second.epoch, second.epochs) == (5, 24)


def test_the_time_that_is_left_is_that_of_all_trials() -> None:
    count = Count(config())
    step = count.counted(1, Step(1, 2, 5, 10, 0.5, 0.8, 1000.0, eta_seconds=3.0))
    assert isinstance(step, TrialStep)
    assert step.eta_seconds == pytest.approx(3.0 * 7.5 / 1.5)


def test_another_machine_goes_on_with_the_trials_that_have_ended(undisturbed: Run, tmp_path: Path) -> None:
    """By the object store: results, and the state of the best. What is here and newer stays."""
    database = Database(tmp_path)
    database.migrate()
    queue = Queue(database)
    queue.submit(config().model_dump(), "never", 20, None)
    job = queue.claim()
    assert job is not None
    here, there = (preparation(database, tmp_path / name, tmp_path / "store") for name in "ab")
    run = here.prepare(job)
    shutil.copytree(undisturbed.directory / "trials", run.path / "trials")
    Checkpoints(queue, here.versions.folders).save(job, run)
    found = there.prepare(job)
    names = {path.relative_to(found.path).as_posix() for path in found.path.rglob("*") if path.is_file()}
    parts = ("result.json", "metrics.jsonl")
    assert names >= {f"trials/{number}/{name}" for number in range(1, 5) for name in parts}
    assert len([name for name in names if name.endswith("resume.pt")]) == 1
    found.trial(4).result.unlink()
    with found.trial(4).metrics.open("a") as history:
        history.write("{}\n")
    assert not there.prepare(job).trial(4).result.exists()
    database.close()


def preparation(database: Database, root: Path, store: Path) -> Preparation:
    """Of a machine with a home of its own."""
    paths, folders = HomePaths(root), Folders(database, root, Objects(store.as_uri()))
    versions, datasets = Versions(database, paths, folders), Datasets(database, paths, 10**9, folders)
    return Preparation(paths, versions, Feedback(database, 10, 10**6), datasets)


def test_the_command_line_searches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = [
        "--recipe",
        "softmax-mnist",
        "--epochs",
        "1",
        "--validation-images",
        "100",
        "--data-dir",
        str(SAMPLE),
    ]
    words += ["--out", str(out), "--device", "cpu"]
    assert train_command([*words, "--search", "lr=0.1,0.5", "--search", "batch-size=50,100"]) == 0
    said = capsys.readouterr().out
    assert "trial 4 of 4 (lr 0.5, batch_size 100): validation log loss" in said
    assert Run.open(out).config.search == {"lr": (0.1, 0.5), "batch_size": (50, 100)}
    for wrong in (["--search", "lr"], ["--lr", "0.1", "--search", "lr=1,2"]):
        assert train_command([*words[:-4], *wrong, "--out", str(tmp_path / "other")]) == 1
        assert "write each setting once" in capsys.readouterr().err


JOB = {"model": "mine", "recipe": "softmax-mnist", **SMALL, "search": GRID}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(home=tmp_path, data_dir=SAMPLE, device="cpu", api_key=SecretStr(ADMIN_KEY))
    with TestClient(create_app(settings), headers=ADMIN) as client:
        yield client


def test_a_job_shows_its_search(api: TestClient, tmp_path: Path) -> None:
    body = api.post("/train", json=JOB).json()
    assert body["search"] == {"trials": 4, "trial": None, "best": None, "ended": []}
    assert body["config"]["search"] == GRID
    assert body["epochs"] is None
    database = Database(tmp_path)
    queue = Queue(database)
    job = queue.claim()
    assert job is not None
    queue.step(
        job, {"epoch": 3, "epochs": 8, "step": 1, "steps": 9, "eta_seconds": 3.0, "trial": 2, "trials": 4}
    )
    for loss in (0.5, 0.4):
        trial = Trial(number=1, settings={"lr": 0.1}, loss=loss, accuracy=0.9, epochs=2)
        queue.note(job, {"text": "trial 1 of 4", "trial": trial.model_dump()})
    database.close()
    found = api.get(f"/train/{body['id']}").json()
    assert (found["search"]["trial"], found["search"]["best"], found["epochs"]) == (2, 1, 8)
    assert [trial["loss"] for trial in found["search"]["ended"]] == [0.4]
    assert api.post("/train", json={**JOB, "search": None}).json()["search"] is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"search": {"lr": [0.1, 0]}}, "lr=0: lr: Input should be greater than 0"),
        ({"search": {"lr": [0.1, None]}}, "valid"),
        ({"lr": 0.1}, "lr is both set and searched"),
        ({"search": "lr"}, "valid dictionary"),
        ({"recipe": "auto"}, "by itself"),
    ],
)
def test_a_wrong_search_is_422(api: TestClient, changes: dict[str, Any], told: str) -> None:
    body = is_problem(api.post("/train", json={**JOB, **changes}), 422, "Invalid request")
    assert told in str(body["errors"])


@pytest.mark.survival
def test_a_search_survives_the_death_of_its_process(tmp_path: Path) -> None:
    """kill -9 in the second of three trials: the first is not repeated, and the version is the same."""
    overrides = {"epochs": 12, "batch_size": 8, "validation_images": 100, "search": {"lr": [0.02, 0.1, 0.05]}}
    run = Run.create(tmp_path / "run", RECIPES["mlp"].config(**overrides))
    train(run, SAMPLE, CPU, lambda event: None)
    home = tmp_path / "home"
    home.mkdir()
    with service(home) as (process, client):
        request = {"model": "minist", "recipe": "mlp", "promote": "never", **overrides}
        url = client.post("/train", json=request).raise_for_status().headers["location"]
        wait_for(lambda: client.get(url).json()["epoch"] >= 14)
        first = home / "runs" / url.rpartition("/")[2] / "trials" / "1" / "result.json"
        written = first.stat().st_mtime_ns
        (child,) = children(supervisor_of(process))
        os.kill(child, signal.SIGKILL)
        job = wait_for(lambda: (body := client.get(url).json())["status"] not in ("queued", "running") and body)
        assert (job["status"], job["attempts"], job["epoch"], job["epochs"]) == ("succeeded", 2, 36, 36), job
        assert first.stat().st_mtime_ns == written
        search = run.search()
        assert search is not None
        assert job["search"]["best"] == search.chosen
        assert [t["loss"] for t in job["search"]["ended"]] == [trial.loss for trial in search.trials]
        version = home / "models" / "minist" / str(job["version"])
        found = torch.load(version / "minist.pth", weights_only=True)
        assert all(torch.equal(tensor, found[name]) for name, tensor in weights(run).items())
        assert (version / "search.json").exists()


def test_events_are_plain_without_a_search() -> None:
    assert "trial" not in asdict(Epoch(1, 10, 0.5, 0.8, "validation", 0.5, 0.8, 0.1, 1.0))
