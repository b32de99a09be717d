"""Corrections of rows: from a wrong answer to a data set, a fine-tuned version and its calibration."""

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.home import Home
from app.jobs.supervisor import Supervisor
from app.main import create_app
from app.settings import Settings
from models.card import Card, read_card
from models.classifier import Classifier
from models.tables import recode_rows
from tests.conftest import ADMIN, ADMIN_KEY, SAMPLE
from tests.table_samples import CLASSES, mixed, spec_of_mixed, write_table
from training.__main__ import main
from training.recipes import RECIPES
from training.run import Run, train
from training.tables.corrections import CorrectedRows
from training.tables.dataset import load_table

CPU = torch.device("cpu")
Service = tuple[TestClient, Supervisor, Supervisor]


# -- over HTTP -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    key = SecretStr(ADMIN_KEY)
    return Settings(home=home, data_dir=SAMPLE, device="cpu", api_key=key, feedback=True, log_requests=False)


@pytest.fixture(scope="module")
def service(deployment: Settings) -> Iterator[Service]:
    """The API, and what runs imports and training jobs."""
    home = Home.open(deployment)
    with TestClient(create_app(deployment), headers=ADMIN) as api:
        yield api, home.importer(), home.supervisor()
    home.database.close()


def as_csv(count: int, seed: int = 0) -> bytes:
    """Rows of `mixed`, whose class is that of their place in it."""
    spec = spec_of_mixed()
    lines = [",".join([*(column.name for column in spec.columns), "kind"])]
    for row, label in zip(*mixed(count, seed), strict=True):
        cells = [
            "" if value != value else column.categories[int(value)] if column.categories else f"{value:.5g}"
            for column, value in zip(spec.columns, row.tolist(), strict=True)
        ]
        lines.append(",".join([*cells, CLASSES[label]]))
    return "\n".join(lines).encode()


def test_wrong_rows_are_corrected_looked_at_and_learned(
    service: tuple[TestClient, Supervisor, Supervisor],
) -> None:
    """Import, train, correct, a data set of the corrections, fine-tune: each by the real child process."""
    api, imports, supervisor = service
    csv = {"content-type": "text/csv"}
    api.post("/datasets?name=things&target=kind", content=as_csv(300), headers=csv)
    assert imports.run_one()
    train = {"model": "mine", "recipe": "table", "dataset": "things", "epochs": 4, "promote": "always"}
    _succeeded(api, supervisor, train)

    rows = [{"size": 4 + i, "colour": "green", "new": "no", "amount": None} for i in range(5)]
    for number, row in enumerate(rows):
        answer = api.post("/predict?model=mine", json=row).json()
        assert answer["label"] == "a"
        label = "c" if number else "b"
        assert api.post("/feedback", json={"prediction": answer["id"], "label": label}).status_code == 201

    made = api.post("/datasets?name=wrong&from_corrections=mine")
    assert made.status_code == 202, made.text
    assert imports.run_one()
    body = api.get("/datasets/wrong").json()
    assert (body["status"], body["corrections_of"]) == ("ready", "mine"), body["error"]
    assert body["profile"]["counts"].keys() == {"b", "c"}
    lines = api.get("/datasets/wrong/export").text.replace('"', "").splitlines()
    assert lines[0].startswith("size,colour,new,amount,kind")
    assert lines[1].startswith("4,green,no,,b,")

    tuned = _succeeded(api, supervisor, {"model": "mine", "recipe": "fine-tune", "promote": "always"})
    assert tuned["feedback"]["used"] == 5
    assert tuned["feedback"]["right_before"] == 0
    assert tuned["feedback"]["right_after"] >= 4
    again = [api.post("/predict?model=mine", json=row).json() for row in rows]
    assert [answer["version"] for answer in again] == [2] * 5
    assert [answer["label"] for answer in again].count("c") >= 3
    compared = api.get("/models/mine/compare?a=1&b=2").json()
    assert compared["agreement"] > 0.9
    page = api.get(f"/train/{tuned['id']}/artifacts/report.html").text
    assert "of the way to the fine-tuned weights was taken" in page
    assert "radient boosting" in page


def _succeeded(api: TestClient, supervisor: Supervisor, body: dict[str, object]) -> dict[str, Any]:
    job = api.post("/train", json=body)
    assert job.status_code == 202, job.text
    assert supervisor.run_one()
    done: dict[str, Any] = api.get(f"/train/{job.json()['id']}").json()
    assert done["status"] == "succeeded", done["error"]
    api.get("/models")  # brings what is served up to date
    return done


# -- in a run ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    write_table(folder / "mine" / "1", spec_of_mixed(), *mixed(300), CLASSES)
    return folder


@pytest.fixture(scope="module")
def served(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = RECIPES["table"].config(dataset="mine@1", name="mine", epochs=4)
    run = Run.create(tmp_path_factory.mktemp("served") / "run", config)
    train(run, datasets, CPU, lambda event: None, datasets_dir=datasets)
    return run


def test_calibrate_fits_the_temperature_again(
    served: Run, datasets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the rows that each network has held out; the weights file stays as it is."""
    card, weights = read_card(served.card_path), served.weights_path.read_bytes()
    changed = card.model_copy(update={"temperature": 3.0, "metrics": {}})
    served.card_path.write_text(changed.model_dump_json())
    words = ["calibrate", str(served.weights_path), "--datasets-dir", str(datasets), "--device", "cpu"]
    assert main(words) == 0
    found = read_card(served.card_path)
    assert found.temperature == pytest.approx(card.temperature)
    assert found.metrics["validation"].accuracy == card.metrics["validation"].accuracy
    assert found.metrics["test"] == card.metrics["test"]
    assert served.weights_path.read_bytes() == weights
    assert "mine: temperature" in capsys.readouterr().out
    words[0] = "evaluate"
    assert main(words) == 0
    assert f"on 60 test rows of mine@1\nloss {card.metrics['test'].loss:.4f}" in capsys.readouterr().out


def test_calibrate_says_where_the_table_is_missing(
    served: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(served.weights_path), "--datasets-dir", str(tmp_path)]) == 1
    assert "its table is not there" in capsys.readouterr().err


def test_each_correction_is_read_as_its_version_has_encoded_it(
    served: Run, datasets: Path, tmp_path: Path
) -> None:
    """Two versions number the colours differently; of one that was deleted nobody knows how."""
    card = read_card(served.card_path)
    colour = card.table.columns[1]
    turned = colour.model_copy(update={"categories": colour.categories[::-1]})
    columns = (card.table.columns[0], turned, *card.table.columns[2:])
    other = card.table.model_copy(update={"columns": columns})
    (tmp_path / "other.json").write_text(card.model_copy(update={"input": other}).model_dump_json())
    row = torch.from_numpy(mixed(1)[0])
    table = load_table(datasets / "mine" / "1", "mine@1")
    encoded = [recode_rows(table.input, spec, row.numpy()) for spec in (card.table, other, other)]
    path = tmp_path / "corrections.json"
    write(path, encoded, ["a", "b", "c"], {1: served.weights_path, 2: tmp_path / "other.pth"}, served)
    found = CorrectedRows.read(path, table)
    assert found is not None
    assert found.split.labels.tolist() == [0, 1]
    torch.testing.assert_close(found.split.images, row.expand(2, -1), equal_nan=True)


def write(path: Path, rows: list[Any], labels: list[str], weights: dict[int, Path], served: Run) -> None:
    body = {
        "labels": labels,
        "pixels": b64encode(b"".join(row.tobytes() for row in rows)).decode(),
        "sizes": [row.nbytes for row in rows],
        "versions": list(range(1, len(rows) + 1)),
        "weights": {number: str(file) for number, file in weights.items()},
        "before": str(served.weights_path),
    }
    path.write_text(json.dumps(body))


def test_fine_tuning_repeats_and_keeps_what_the_version_knew(
    served: Run, datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.report.write", lambda *facts: None)
    before = read_card(served.card_path)
    rows, labels = wrong(served, 6)
    cards: list[Card] = []
    for name in ("one", "two"):
        run = Run.create(tmp_path / name, RECIPES["fine-tune"].config(name="mine", epochs=2))
        path = run.files.corrections
        write(path, rows, labels, dict.fromkeys(range(1, 7), served.weights_path), served)
        cards.append(train(run, datasets, CPU, lambda event: None, datasets_dir=datasets))
    tuned = cards[0]
    assert cards[1].sha256 == tuned.sha256 != before.sha256
    assert (tuned.input, tuned.temperature, tuned.baselines) == (
        before.input,
        before.temperature,
        before.baselines,
    )
    assert tuned.training is not None
    assert (tuned.training["recipe"], tuned.training["architecture"]) == ("fine-tune", "table")
    assert tuned.metrics["test"].accuracy >= before.metrics["test"].accuracy - 0.02
    assert tuned.corrections is not None
    assert (tuned.corrections.used, tuned.corrections.right_before) == (6, 0)
    assert tuned.corrections.right_after >= 2


def wrong(served: Run, count: int) -> tuple[list[Any], list[str]]:
    """Rows that nobody has trained on and the served version gets wrong, as it takes them; their classes."""
    classifier = Classifier.load(served.weights_path, CPU)
    rows, labels = mixed(400, seed=5)
    rows = recode_rows(spec_of_mixed(), classifier.card.table, rows)
    found = classifier.logits(torch.from_numpy(rows)).argmax(1).numpy()
    chosen = (found != labels).nonzero()[0][:count]
    return [rows[i : i + 1] for i in chosen], [CLASSES[labels[i]] for i in chosen]
