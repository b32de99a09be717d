"""`minist train photos.zip`, and the service answers."""

from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.cli import main
from app.main import create_app
from app.settings import Settings
from tests.own import archive, drawing
from training.own import name_of


@pytest.mark.parametrize(
    ("file", "name"),
    [("My Photos.zip", "my-photos"), ("a_b.tar.zip", "a-b"), ("привет.zip", "pictures"), ("-x-.npz", "x")],
)
def test_the_name_comes_from_the_file(file: str, name: str) -> None:
    assert name_of(Path(file)) == name


def test_a_file_becomes_a_model_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIST_HOME", str(tmp_path / "home"))
    source = archive(tmp_path / "My discs.zip", ("blue", "green", "red"), 14, side=40)
    words = [
        "train",
        str(source),
        "--recipe",
        "small-image",
        "--epochs",
        "6",
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    assert main([*words, "--out", "one"]) == 0
    assert "published my-discs@1" in capsys.readouterr().out
    assert main([*words, "--out", "two", "--promote", "never"]) == 0  # the same pictures: the same data set
    assert "my-discs@1 -> two" in capsys.readouterr().out
    stream = Path("red.png")
    drawing("red", np.random.default_rng(9), 90).save(stream)
    with TestClient(create_app(Settings(home=tmp_path / "home", device="cpu"))) as client:
        answer = client.post("/predict?model=my-discs&explain=true", content=stream.read_bytes()).json()
        assert set(answer["probabilities"]) == {"blue", "green", "red"}
        assert answer["input"]["size"] == [90, 90]
        assert answer["seen"].startswith("data:image/png")
        files = [("files", ("a.png", stream.read_bytes()))] * 3
        batch = client.post("/predict/batch?model=my-discs", files=files).json()
        assert [one["label"] for one in batch] == [answer["label"]] * 3
        array = np.zeros((2, 40, 40, 3), np.uint8)
        np.save("array.npy", array)
        headers = {"content-type": "application/x-npy"}
        body = Path("array.npy").read_bytes()
        assert len(client.post("/predict/batch?model=my-discs", content=body, headers=headers).json()) == 2
        confusion = client.get("/models/my-discs/versions/1/confusion").json()
        assert confusion["dataset"] == "my-discs@1"
        card = client.get("/models/my-discs").json()
        assert confusion["accuracy"] == pytest.approx(card["metrics"]["test"]["accuracy"])


@pytest.mark.parametrize("words", [["nothing.zip"], ["README.md"]])
def test_what_is_no_data_set_is_one_line(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text("no pictures")
    monkeypatch.setenv("MINIST_HOME", str(tmp_path / "home"))
    assert main(["train", *words]) == 1
    assert capsys.readouterr().err.strip().startswith("error: ")
