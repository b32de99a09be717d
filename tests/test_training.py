"""The loop, the run directory and the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch.nn import functional as F

from models import checkpoint
from models.classifier import Classifier
from models.errors import CheckpointError
from tests.conftest import ROOT, SAMPLE, WEIGHTS
from tests.own import undecided
from tests.samples import config
from training.__main__ import main
from training.choice import made
from training.datasets import Dataset, load_dataset
from training.errors import DatasetError, TrainingError
from training.evaluation import evaluate
from training.events import Epoch, Event, Step
from training.loop import Trainer, double_softmax
from training.recipes import RECIPES, Config
from training.run import Run, train


def weights(directory: Path, name: str = "minist") -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(directory / f"{name}.pth", weights_only=True)
    return loaded


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs on the sample."""
    directory = tmp_path_factory.mktemp("runs") / "finished"
    train(Run.create(directory, config()), SAMPLE, torch.device("cpu"), lambda event: None)
    return directory


def test_a_run_leaves_everything_that_is_promised(finished: Path) -> None:
    names = {"config.json", "metrics.jsonl", "resume.pt", "minist.pth", "minist.json", "lock"}
    pictures = {"curves.png", "confusion.png", "samples.png", "reliability.png"}
    assert {path.name for path in finished.iterdir()} == names | pictures | {"report.html"}
    for picture in finished.glob("*.png"):
        with Image.open(picture) as image:
            assert min(image.size) > 300
    assert Config.model_validate_json((finished / "config.json").read_text()) == config()


def test_metrics_have_a_line_per_epoch(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert all(line["split"] == "validation" for line in lines)
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]


def test_the_card_tells_what_evaluation_finds(finished: Path, sample: Dataset, cpu: torch.device) -> None:
    """The file that will serve, asked again, has the accuracy that its card promises."""
    classifier = Classifier.load(finished / "minist.pth", cpu)
    assert evaluate(classifier, sample.test).metrics == classifier.card.metrics["test"]
    assert classifier.card.metrics["validation"].images == 100
    assert classifier.card.dataset is not None
    assert classifier.card.dataset.digest == sample.digest


@pytest.mark.parametrize("recipe", sorted(RECIPES.keys() - {"transfer", "fine-tune", "table", "otto"}))
def test_every_recipe_learns(recipe: str, sample: Dataset, cpu: torch.device) -> None:
    trainer = Trainer(made(config(recipe), sample, undecided).config, sample.train, 10, cpu)
    losses = [trainer.run_epoch(lambda event: None)[0] for _ in range(3)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("recipe", ["mlp", "mlp-adam", "cnn", "mlp-scratch"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_a_resumed_trainer_ends_with_the_same_weights(
    recipe: str, schedule: str, sample: Dataset, cpu: torch.device, tmp_path: Path
) -> None:
    def trainer() -> Trainer:
        return Trainer(config(recipe, schedule=schedule), sample.train, 10, cpu)

    undisturbed, first, second = trainer(), trainer(), trainer()
    for _ in range(3):
        undisturbed.run_epoch(lambda event: None)
    first.run_epoch(lambda event: None)
    first.save(tmp_path / "resume.pt")
    torch.rand(17)  # whoever else draws random numbers in the meantime does not matter
    second.restore(tmp_path / "resume.pt")
    for _ in range(2):
        second.run_epoch(lambda event: None)
    assert same(dict(undisturbed.model.state_dict()), dict(second.model.state_dict()))


@pytest.mark.parametrize("augment", ["slight", "mixed", "garments"])
def test_a_resumed_trainer_repeats_the_draws_and_keeps_its_average(
    augment: str, sample: Dataset, cpu: torch.device, tmp_path: Path
) -> None:
    """Augmentation, dropout, batch statistics and averaged weights, bit for bit."""

    def trainer() -> Trainer:
        return Trainer(config("digits", augment=augment, batch_size=64), sample.train, 10, cpu)

    undisturbed = trainer()
    for _ in range(2):
        undisturbed.run_epoch(lambda event: None)
    first = trainer()
    first.run_epoch(lambda event: None)
    first.save(tmp_path / "resume.pt")
    second = trainer()
    second.restore(tmp_path / "resume.pt")
    second.run_epoch(lambda event: None)
    assert same(dict(undisturbed.model.state_dict()), dict(second.model.state_dict()))
    assert same(dict(undisturbed.result.state_dict()), dict(second.result.state_dict()))
    assert not same(dict(second.model.state_dict()), dict(second.result.state_dict()))


def test_a_run_can_begin_with_weights(sample: Dataset, cpu: torch.device) -> None:
    trainer = Trainer(config("digits", init_from=str(WEIGHTS / "digits.pth")), sample.train, 10, cpu)
    assert same(dict(trainer.model.state_dict()), weights(WEIGHTS, "digits"))
    with pytest.raises(CheckpointError, match=r"nowhere\.pth"):
        Trainer(config("digits", init_from="nowhere.pth"), sample.train, 10, cpu)


def test_simulated_pictures_join_the_training_split(sample: Dataset, cpu: torch.device, tmp_path: Path) -> None:
    told: list[Event] = []
    run = Run.create(tmp_path / "run", config(epochs=1, synthetic_images=64))
    train(run, SAMPLE, cpu, told.append)
    assert [event.steps for event in told if isinstance(event, Step)][-1] == 8  # 400 + 64, in batches of 64
    with pytest.raises(ValidationError, match="digits only"):
        config("softmax", synthetic_images=64)


def test_the_seed_decides_the_weights(sample: Dataset, cpu: torch.device) -> None:
    def after_one_epoch(seed: int) -> dict[str, torch.Tensor]:
        trainer = Trainer(config(seed=seed), sample.train, 10, cpu)
        trainer.run_epoch(lambda event: None)
        return dict(trainer.model.state_dict())

    assert same(after_one_epoch(1), after_one_epoch(1))
    assert not same(after_one_epoch(1), after_one_epoch(2))


def test_steps_and_epochs_are_told_in_order(sample: Dataset, tmp_path: Path, cpu: torch.device) -> None:
    told: list[Event] = []
    train(Run.create(tmp_path / "run", config(epochs=2)), SAMPLE, cpu, told.append)
    steps = [event for event in told if isinstance(event, Step)]
    epochs = [event for event in told if isinstance(event, Epoch)]
    assert [event.epoch for event in epochs] == [1, 2]
    assert steps[-1].step == steps[-1].steps == 7  # 400 images in batches of 64
    assert steps[-1].eta_seconds == 0
    assert all(step.images_per_second > 0 for step in steps)


def test_no_image_is_in_training_and_validation(sample: Dataset) -> None:
    kept, held = sample.hold_out(120, seed=3)
    assert held is not None
    assert (len(kept), len(held)) == (380, 120)
    pixels = {image.numpy().tobytes() for image in kept.images}
    assert not any(image.numpy().tobytes() in pixels for image in held.images)
    again = sample.hold_out(120, seed=3)[1]
    assert again is not None
    assert torch.equal(again.images, held.images)


def test_validation_0_trains_on_everything_and_watches_the_test_set(tmp_path: Path, cpu: torch.device) -> None:
    card = train(
        Run.create(tmp_path / "run", config(validation_images=0, epochs=1)), SAMPLE, cpu, lambda event: None
    )
    assert set(card.metrics) == {"test"}
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["split"] == "test"


def test_a_validation_split_that_leaves_nothing_is_refused(sample: Dataset) -> None:
    with pytest.raises(DatasetError, match="leaves none of 500"):
        sample.hold_out(500, seed=0)


def test_double_softmax_is_the_named_mistake() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
    expected = F.nll_loss(logits.softmax(1).log_softmax(1), labels)
    torch.testing.assert_close(double_softmax(logits, labels), expected)
    assert double_softmax(logits, labels) > F.cross_entropy(logits, labels)


def test_two_processes_cannot_train_in_one_directory(tmp_path: Path, cpu: torch.device) -> None:
    run = Run.create(tmp_path / "run", config())
    with run.lock(), pytest.raises(TrainingError, match="another process"):
        train(run, SAMPLE, cpu, lambda event: None)


def test_a_directory_with_a_run_is_not_overwritten(finished: Path) -> None:
    with pytest.raises(TrainingError, match="--resume"):
        Run.create(finished, config())


def test_a_missing_data_set_is_told_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", offline)
    with pytest.raises(DatasetError, match=rf"{re.escape(str(tmp_path))}.*--data-dir"):
        load_dataset("mnist", tmp_path)
    with pytest.raises(DatasetError, match="choose one of mnist, fashion-mnist"):
        load_dataset("imagenet", tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("lr", -1), ("batch_size", 0), ("momentum", 1), ("optimizer", "lbfgs"), ("x", 1)],
)
def test_a_config_out_of_bounds_is_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        RECIPES["mlp"].config(**{field: value})


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "training", *map(str, words), "--data-dir", str(SAMPLE), "--device", "cpu"]


def succeed(*words: str | Path) -> None:
    """Run a command that ends with status 0, and show what it said where it does not."""
    done = subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr)


def test_ctrl_c_and_resume_end_with_the_same_weights(tmp_path: Path) -> None:
    """A real process, interrupted in the middle of an epoch by SIGINT, continued by another."""
    options = ("--recipe", "mlp", "--epochs", "100", "--validation-images", "100", "--schedule", "cosine")
    succeed(*options, "--out", tmp_path / "undisturbed")
    process = subprocess.Popen(
        command(*options, "--out", tmp_path / "broken"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "broken" / "metrics.jsonl"
    deadline = time.monotonic() + 180
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"--resume {tmp_path / 'broken'}" in output
    assert not (tmp_path / "broken" / "minist.pth").exists()
    succeed("--resume", tmp_path / "broken")
    assert same(weights(tmp_path / "undisturbed"), weights(tmp_path / "broken"))
    assert len(metrics.read_text().splitlines()) == 100


def test_without_a_terminal_there_is_a_line_per_epoch_and_no_bar(tmp_path: Path) -> None:
    done = subprocess.run(
        command(
            "--recipe",
            "softmax-mnist",
            "--epochs",
            "2",
            "--validation-images",
            "100",
            "--out",
            tmp_path / "run",
        ),
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    assert re.fullmatch(
        r"epoch 1/2  loss \d\.\d{4}, accuracy \d\.\d{4}; validation \d\.\d{4}, \d\.\d{4}  \d+\.\d s",
        lines[0],
    )
    assert max(map(len, lines)) <= 80
    assert done.stdout.splitlines()[done.stdout.splitlines().index(lines[1]) + 1] == "testing, drawing"
    assert "\x1b" not in done.stdout


def test_on_a_terminal_there_is_a_live_display(tmp_path: Path) -> None:
    """A real pseudo-terminal, read to the end."""
    import pty

    leader, follower = pty.openpty()
    words = ("--recipe", "mlp", "--epochs", "30", "--validation-images", "100", "--out", tmp_path / "run")
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(command(*words), cwd=ROOT, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:  # Linux says so when the last writer is gone
        pass
    os.close(leader)
    assert process.wait(30) == 0
    assert re.search(rb"[\d,]+/s, \d+ s left", shown)
    assert b"testing, drawing" in shown
    lines = [re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", line) for line in re.split(r"[\r\n]+", shown.decode())]
    assert max(len(line) for line in lines if line.startswith("epoch")) <= 80


def test_evaluate_prints_loss_accuracy_and_every_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(WEIGHTS / "minist.pth"), "--data-dir", str(SAMPLE), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"loss 0\.\d{4}, accuracy 0\.9\d{3}", printed)
    assert re.findall(r"^ +(\d)  [01]\.\d{4}$", printed, re.M) == list("0123456789")


def test_evaluate_takes_a_tutorials_own_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The old habit: torch.save(net.state_dict(), path), and nothing beside it."""
    model, _ = checkpoint.load(WEIGHTS / "cnn.pth", torch.device("cpu"))
    torch.save(model.state_dict(), tmp_path / "mnist_cnn.pth")
    words = ["evaluate", str(tmp_path / "mnist_cnn.pth"), "--data-dir", str(SAMPLE), "--device", "cpu"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "recipe cnn" in printed
    assert re.search(r"accuracy (1\.0000|0\.9[5-9])", printed)


def test_list_shows_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "linear-regression",
        *RECIPES,
    ]


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--recipe", "mlp", "--epochs", "0"], 2, "epochs: Input should be greater than or equal to 1"),
        (["--resume", "nowhere"], 1, "nowhere holds no run"),
        (["evaluate", "nothing.pth"], 1, "nothing.pth: cannot be read"),
        (["--recipe", "mlp", "--device", "abacus", "--out", "never"], 1, "abacus"),
    ],
)
def test_mistakes_are_one_clear_line(
    words: list[str],
    status: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == status
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error


@pytest.mark.parametrize("words", [[], ["--recipe", "mlp", "--resume", "x"], ["--resume", "x", "--lr", "1"]])
def test_contradictory_options_show_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "usage:" in capsys.readouterr().err
