"""Both clients, and `minist predict`, against the service."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.cli.explained import counted
from minist_client import (
    AsyncClient,
    Client,
    EpochEvent,
    ImportFailed,
    Job,
    JobFailed,
    Prediction,
    Problem,
    ServiceError,
    StatusEvent,
    UnusableInput,
    pictures,
    predicting,
    tables,
)
from models.preprocessing.decode import png
from tests.both_clients import KINDS, client_of
from tests.conftest import ADMIN_KEY, ROOT
from tests.people import ROW, serve_tables
from tests.processes import service

SEVEN = ROOT / "examples" / "7.png"
NUMBER = ROOT / "examples" / "number.jpg"
CSV = '"weight, kg",age,work,smokes,since\n"72,5",39,state,no,31.12.1999\n"60","old","two\nlines",yes,\n'


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a service with pictures, and a table of people."""
    home = serve_tables(tmp_path_factory.mktemp("home")).home
    with service(home, MINIST_FEEDBACK="true") as (_, http):
        yield str(http.base_url).rstrip("/")


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    with client_of(request.param, url, api_key=ADMIN_KEY) as found:
        yield found


def test_a_picture_is_the_same_in_every_form(client: Any) -> None:
    image = Image.open(SEVEN)
    grey = np.asarray(image.convert("L"))
    expected = client.predict(SEVEN)
    assert (expected.label, expected.model, expected.ranked[0]) == ("7", "digits", ("7", expected.probability))
    with SEVEN.open("rb") as file:
        forms = [str(SEVEN), SEVEN.read_bytes(), file, image, image.convert("CMYK"), grey, grey / 255]
        forms += [
            (grey / 255).astype("float32"),
            np.stack([grey] * 3, 2),
            grey[:, :, None],
            np.asfortranarray(grey),
        ]
        for form in forms:
            found = client.predict(form)
            assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-4), type(form)


def test_a_photograph_that_was_turned_is_answered_as_its_file_is(client: Any) -> None:
    sheet = Image.open(SEVEN).convert("RGB").resize((200, 200)).rotate(90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", exif=exif)
    opened = Image.open(io.BytesIO(stream.getvalue()))
    assert client.predict(stream.getvalue()).label == client.predict(opened).label == "7"


def test_what_is_no_picture_is_refused_with_a_reason(client: Any) -> None:
    for wrong, said in (
        (np.zeros((28, 28), np.int64), "pass uint8"),
        (np.full((28, 28), 2.0), "divide them by 255"),
        (np.full((28, 28), np.nan), "divide them by 255"),
        (np.zeros((2, 28, 28), np.uint8), "many go to predict_batch"),
        (io.StringIO("text"), "mode 'rb'"),
        (7, "int is no picture"),
    ):
        with pytest.raises(UnusableInput, match=said):
            client.predict(wrong)
    with pytest.raises(FileNotFoundError):
        client.predict("nowhere.png")
    with pytest.raises(ServiceError, match="Not an image") as found:
        client.predict(b"hello")
    assert found.value.status == 422


def test_options_and_explanations(client: Any) -> None:
    assert client.predict(SEVEN, model="cnn@1", preprocess="none").model == "cnn"
    found = client.predict(SEVEN, explain=True)
    assert Image.open(io.BytesIO(found.seen)).size == Image.open(io.BytesIO(found.saliency)).size == (28, 28)
    assert Image.open(io.BytesIO(found.overlay)).mode == "RGB"
    explained = client.predict(ROW, model="people", explain=True)
    assert explained.contributions.keys() == ROW.keys()
    with pytest.raises(ServiceError, match="there is no model 'nope'"):
        client.predict(SEVEN, model="nope")


def test_a_number(client: Any) -> None:
    found = client.read_number(NUMBER)
    assert (found.number, found.lines) == ("0522\n1859", ("0522", "1859"))
    assert "".join(digit.label for digit in found.digits) == "05221859"
    assert all(len(digit.box) == 4 for digit in found.digits)
    assert client.predict(NUMBER).warning["count"] == 8
    assert client.predict(SEVEN).warning is None
    with pytest.raises(ServiceError, match="no model of digits"):
        client.read_number(NUMBER, model="fashion")
    with pytest.raises(ServiceError, match="rows of a table, not pictures"):
        client.read_number(NUMBER, model="people")


def test_a_batch_is_answered_in_order_with_problems_in_their_place(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "MOST_PICTURES", 3)
    files = [ROOT / "examples" / f"{label}.png" for label in range(10)]
    found = client.predict_batch([*files[:4], "nowhere.png", b"junk", 7, *files[4:]])
    labels = [one.label for one in found if isinstance(one, Prediction)]
    problems = [one.title for one in found if isinstance(one, Problem)]
    assert labels == [str(label) for label in range(10)]
    assert problems == ["Unreadable file", "Not an image", "Unusable input"]
    assert isinstance(found[4], Problem)
    assert client.predict_batch([]) == []


def test_an_array_of_pictures(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "MOST_IMAGES", 4)
    names = [ROOT / "examples" / f"{label}.png" for label in range(10)]
    images = np.stack([np.asarray(Image.open(name).convert("L")) for name in names])
    for array in (images, images / 255, images[..., None]):
        assert [one.label for one in client.predict_batch(array, model="cnn")] == [str(n) for n in range(10)]
    assert client.predict_batch(images[:0]) == []
    with pytest.raises(UnusableInput, match="rows as a list of mappings"):
        client.predict_batch(images[0])
    with pytest.raises(ServiceError, match="Wrong array"):
        client.predict_batch(images[:, :20])
    assert [one.label for one in client.predict_batch(images[:2], preprocess="auto")] == ["0", "1"]


def test_rows_of_a_table(client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 2)
    expected = pytest.approx(client.predict(ROW, model="people").probabilities, abs=1e-5)
    assert client.predict({**ROW, "age": np.float32(39)}, model="people").probabilities == expected
    rows = [ROW, {**ROW, "age": float("nan")}, ROW, {**ROW, "age": "old"}, ROW]
    found = client.predict_batch(rows, model="people")
    assert all(found[number].probabilities == expected for number in (0, 2, 4))
    assert found[1].probabilities != expected
    assert found[3].detail.startswith("row 4: ")
    path = tmp_path / "rows.csv"
    path.write_text(CSV + CSV.partition("\n")[2])
    first, second, third, fourth = client.predict_batch(path, model="people")
    assert first.probabilities == expected
    assert third.probabilities == expected
    assert second.detail.startswith("row 2: ")
    assert fourth.detail.startswith("row 4: ")
    with pytest.raises(UnusableInput, match="goes to predict"):
        client.predict_batch(ROW, model="people")


def test_csv_is_cut_between_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 2)
    text = b'a,b\r\n1,"x\r\ny"\r\n\r\n2,"say ""no"""\r\n3,z'
    parts = list(tables.of_csv(io.BytesIO(text)))
    assert [part.body.before for part in parts] == [b'a,b\r\n1,"x\r\ny"\r\n2,"say ""no"""\r\n', b"a,b\r\n3,z"]
    assert [part.before for part in parts] == [0, 2]
    assert [part.body.before for part in tables.of_csv(io.BytesIO(b"a,b"))] == [b"a,b\n"]


def test_an_npy_file_is_what_numpy_reads() -> None:
    for shape in ((1, 28, 28), (3, 5, 7, 3), (12345, 1, 1)):
        array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        assert np.array_equal(np.load(io.BytesIO(pictures.npy(array))), array)
        assert pictures.npy(array).index(b"\n") % 64 == 63


def test_models_versions_and_aliases(client: Any) -> None:
    names = [model.name for model in client.models()]
    assert {"digits", "people"} <= set(names)
    assert [model.name for model in client.models() if model.default] == ["digits"]
    people = client.model("people")
    assert (people.takes_rows, people.classes[0], people.card["name"]) == (True, "chess", "people")
    assert client.schema("people")["properties"].keys() >= ROW.keys()
    (version,) = client.versions("minist")
    assert (version.version, version.created_at.tzinfo is not None) == (1, True)
    assert client.promote("minist", 1, "canary", why="a test").alias == "canary"
    with pytest.raises(ServiceError, match="Conflict"):
        client.rollback("minist")


def test_an_export_is_written(client: Any, tmp_path: Path) -> None:
    data = client.export("minist", "zip", to=tmp_path / "minist.zip")
    assert (tmp_path / "minist.zip").read_bytes() == data
    assert set(zipfile.ZipFile(io.BytesIO(data)).namelist()) >= {"minist.pth", "minist.json"}


def test_a_correction(client: Any) -> None:
    prediction = client.predict(SEVEN)
    assert client.feedback(prediction, "1").label == "1"
    assert client.feedback(prediction.id, "7").predicted == "7"
    with pytest.raises(UnusableInput, match="MINIST_FEEDBACK"):
        client.feedback(client.predict_batch([SEVEN])[0], "7")


@pytest.fixture(scope="module")
def job(url: str) -> Job:
    """A job that has succeeded."""
    with Client(url, ADMIN_KEY) as client:
        wanted: dict[str, Any] = {"epochs": 1, "validation_images": 100, "idempotency_key": "of the test"}
        job = client.train("mine", "softmax-mnist", **wanted)
        assert client.train("mine", "softmax-mnist", **wanted).id == job.id
        return client.wait(job)


def test_a_job_from_request_to_version(client: Any, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert (job.status, job.epoch, job.ended, job.version) == ("succeeded", 1, True, 1)
    assert client.wait(job.id, progress=True) == client.job(job.id) == job
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "queued"
    assert shown[-1] == "succeeded"
    assert any(line.startswith("epoch 1 of 1: loss ") for line in shown)
    assert job.id in [found.id for found in client.jobs(status="succeeded")]
    assert client.predict(SEVEN, model="mine").model == "mine"


def test_the_events_of_a_job(client: Any, job: Job) -> None:
    events = list(client.follow(job))
    assert [event.status for event in events if isinstance(event, StatusEvent)][-1] == "succeeded"
    (epoch,) = [event for event in events if isinstance(event, EpochEvent)]
    assert epoch.accuracy is not None
    assert 0 <= epoch.accuracy <= 1
    assert list(client.follow(job, events[-2].id)) == events[-1:]
    assert list(client.follow(job, events[-1].id)) == []


def test_a_job_that_is_cancelled(client: Any) -> None:
    job = client.train("other", "mlp", epochs=50)
    assert client.cancel(job).status == "cancelled"
    with pytest.raises(JobFailed, match="has been cancelled") as found:
        client.wait(job)
    assert found.value.job.id == job.id
    assert client.resume(job).status == "queued"
    client.cancel(job)
    assert client.label(job, name="given up", tags=["b", "a"]).name == "given up"
    labelled = client.label(job, name="")
    assert (labelled.name, list(labelled.tags)) == (None, ["a", "b"])


def test_a_folder_becomes_a_data_set(client: Any, tmp_path: Path) -> None:
    for label in range(10):
        folder = tmp_path / ("even", "odd")[label % 2]
        folder.mkdir(exist_ok=True)
        (folder / f"{label}.png").write_bytes((ROOT / "examples" / f"{label}.png").read_bytes())
    (tmp_path / "even" / ".DS_Store").write_bytes(b"x")
    name = f"parity-{type(client).__name__.strip('_').lower()}"
    found = client.upload_dataset(tmp_path, name, size=28)
    assert (found.status, found.summary["images"], found.profile["ignored"]) == ("ready", 10, {})
    assert name in [one.name for one in client.datasets()]
    again = client.read_again(name, found.version, test_share=0.4)
    assert again.version == found.version + 1
    client.delete_dataset(name)
    with pytest.raises(ServiceError, match="Unknown data set"):
        client.dataset(name)


def test_a_table_waits_for_its_target(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "flowers.csv"
    rows = [
        f"{3 + i * 37 % 41 / 10},{('white', 'blue')[i % 2]},{('iris', 'rose')[i // 3 % 2]}" for i in range(60)
    ]
    path.write_text("\n".join(["length,colour,kind", *rows]))
    name = f"flowers-{type(client).__name__.strip('_').lower()}"
    found = client.upload_dataset(path, name)
    assert found.status == "needs_target"
    assert "kind" in found.proposals
    assert client.read_again(name, found.version, target="kind").status == "ready"
    path.write_text("a\n")
    with pytest.raises((ImportFailed, ServiceError)):
        client.upload_dataset(path, f"{name}-bad")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnusableInput, match="no file in"):
        client.upload_dataset(tmp_path / "empty", name)


def test_the_client_imports_nothing_of_the_service_nor_what_callers_may_bring() -> None:
    script = "import sys, minist_client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"app", "models", "training", "numpy", "PIL", "torch", "rich", "pydantic"} & set(
        done.stdout.split()
    )


def test_async_calls_run_beside_each_other(url: str) -> None:
    import anyio

    labels: dict[int, str] = {}

    async def main() -> None:
        async with AsyncClient(url) as client, anyio.create_task_group() as group:

            async def ask(label: int) -> None:
                labels[label] = (await client.predict(ROOT / "examples" / f"{label}.png")).label

            for label in range(10):
                group.start_soon(ask, label)

    anyio.run(main)
    assert labels == {label: str(label) for label in range(10)}


# -- minist predict ---------------------------------------------------------------------------------


def minist_predict(url: str, *words: str, given: bytes = b"", cwd: Path = ROOT) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "app", "predict", *words],
        cwd=cwd,
        env={**os.environ, "MINIST_URL": url, "PYTHONPATH": str(ROOT)},
        input=given,
        capture_output=True,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_command_shows_a_table(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    for label in (1, 2):
        (folder / f"{label}.png").write_bytes((ROOT / "examples" / f"{label}.png").read_bytes())
    status, shown, said = minist_predict(url, str(folder), "examples/[78].png", "nowhere.png")
    head, *lines = [line.split() for line in shown.splitlines()]
    assert head == ["file", "label", "probability", "second", "best"]
    assert [line[1] for line in lines] == ["1", "2", "7", "8", "failed"]
    assert all(float(line[2]) > 0.9 for line in lines[:4])
    assert status == 1
    assert said.startswith("error: nowhere.png: Unreadable file")


def test_the_command_reads_numbers(url: str) -> None:
    status, shown, said = minist_predict(url, "--read", "number", str(NUMBER), str(SEVEN))
    assert (status, said) == (0, "")
    assert [line.split()[1:-1] for line in shown.splitlines()[1:]] == [["0522", "/", "1859"], ["7"]]
    status, shown, said = minist_predict(url, str(NUMBER))
    assert said.startswith(f"warning: {NUMBER}: there are 8 digits")


def test_the_command_prints_lines_of_json(url: str) -> None:
    words = ("--json", "--explain", "--model", "cnn", "-")
    status, shown, said = minist_predict(url, *words, given=SEVEN.read_bytes())
    assert (status, said) == (0, "")
    found = json.loads(shown)
    assert (found["file"], found["model"], found["label"]) == ("-", "cnn", "7")
    assert found["saliency"].startswith("data:image/png;base64,")


def test_the_command_says_which_parts_of_a_picture_counted(url: str) -> None:
    status, shown, said = minist_predict(url, "--explain", "--model", "cnn", str(SEVEN))
    assert (status, said) == (0, "")
    head, line = shown.splitlines()
    assert head.split()[-2:] == ["counts", "most"]
    shares = [int(share) for share in re.findall(r"(?:top|centre|bottom|left|right) (\d+) %", line)]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    assert 33 < sum(shares) <= 100


def test_places_are_named_by_where_the_map_is_bright() -> None:
    for row, column, place in ((0, 0, "top left"), (1, 1, "centre"), (2, 1, "bottom"), (1, 2, "right")):
        bright = np.zeros((28, 28), np.uint8)
        bright[10 * row : 10 * row + 6, 10 * column : 10 * column + 6] = 255
        assert counted(Prediction("cnn", 1, "7", 7, 1.0, {"7": 1.0}, saliency=png(bright))) == f"{place} 100 %"


def test_the_command_takes_rows(url: str, tmp_path: Path) -> None:
    status, shown, said = minist_predict(url, "--model", "people", "--explain", "-", given=CSV.encode())
    assert status == 1, said
    first, second = shown.splitlines()[1:]
    assert first.split()[0] == "-:1"
    assert "age " in first
    assert second.split()[:2] == ["-:2", "failed"]
    (tmp_path / "rows.csv").write_text(CSV)
    status, shown, said = minist_predict(url, "--model", "people", "--json", str(tmp_path / "rows.csv"))
    assert [bool("problem" in json.loads(line)) for line in shown.splitlines()] == [False, True]


def test_the_command_says_what_is_wrong(url: str, tmp_path: Path) -> None:
    for address, words, reason in (
        ("http://127.0.0.1:9", [str(SEVEN)], "start it (minist serve)"),
        (url, [str(SEVEN), "--model", "nope"], "there is no model 'nope'"),
        (url, [str(tmp_path)], "there is no picture in"),
    ):
        status, shown, said = minist_predict(address, *words)
        assert (status, shown) == (1, "")
        assert said.startswith("error: ")
        assert reason in said
        assert said.count("\n") == 1
