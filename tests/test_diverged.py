"""Runs whose numbers are not finite any more end with a sentence, and leave nothing that could be served."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from models.architectures import build
from tests.conftest import ROOT, SAMPLE
from tests.samples import config
from training import regression
from training.__main__ import main
from training.errors import Diverged
from training.recipes import RECIPES
from training.run import Run, train
from training.sgd import SGD

SENTENCE = (
    r"the loss became (nan|-?inf) in step \d+ of epoch \d+: the run has diverged; train again with a smaller lr"
)


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("mlp", {}),
        ("mlp", {"schedule": "one-cycle", "momentum": 0.9}),
        ("mlp", {"ema_decay": 0.99, "precision": "bfloat16"}),
        ("softmax-mnist", {"weight_decay": 1.0}),
    ],
)
def test_a_run_stops_at_the_first_loss_that_is_not_finite(
    recipe: str, options: dict[str, object], tmp_path: Path, cpu: torch.device
) -> None:
    run = Run.create(tmp_path / "run", config(recipe, lr=100, **options))
    with pytest.raises(Diverged, match=f"{SENTENCE} than 100"):
        train(run, SAMPLE, cpu, lambda event: None)
    assert not list(run.directory.glob("*.pth"))
    assert not run.card_path.exists()
    for line in run.files.metrics.read_text().splitlines() if run.files.metrics.exists() else []:
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def huge(tmp_path: Path) -> Path:
    """Weights that are finite, and whose products are not."""
    weights = {name: torch.full_like(tensor, 1e38) for name, tensor in build("mlp").state_dict().items()}
    torch.save(weights, tmp_path / "huge.pth")
    return tmp_path / "huge.pth"


def test_weights_that_overflow_are_named_at_the_first_step(tmp_path: Path, cpu: torch.device) -> None:
    run = Run.create(tmp_path / "run", config(init_from=str(huge(tmp_path)), lr=1e-6))
    with pytest.raises(Diverged, match="in step 1 of epoch 1"):
        train(run, SAMPLE, cpu, lambda event: None)


def test_evaluation_refuses_answers_that_are_not_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(huge(tmp_path)), "--data-dir", str(SAMPLE), "--device", "cpu"]) == 1
    assert "200 of 200 inputs with infinities or NaN" in capsys.readouterr().err


def test_the_last_step_may_be_the_one_that_diverges(
    tmp_path: Path, cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loss shows it: the evaluation does."""
    run = Run.create(tmp_path / "run", config(epochs=1, batch_size=400, lr=1e-3))
    step = SGD.step

    def overflow(self: SGD) -> None:
        step(self)
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.fill_(float("inf"))

    monkeypatch.setattr(SGD, "step", overflow)
    with pytest.raises(Diverged, match="answers 100 of 100 inputs with infinities or NaN"):
        train(run, SAMPLE, cpu, lambda event: None)
    assert not run.files.metrics.exists()


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data-dir", str(SAMPLE), "--device", "cpu", "--lr", "100"]
    assert main(["--recipe", "mlp", "--validation-images", "100", "--out", str(tmp_path / "mlp"), *words]) == 1
    assert capsys.readouterr().err.startswith("error: the loss became nan in step ")
    assert main(["--recipe", "linear-regression", "--out", str(tmp_path / "line"), *words]) == 1
    assert capsys.readouterr().err.startswith("error: the loss became ")
    assert not (tmp_path / "line" / "metrics.jsonl").exists()


def test_a_config_takes_no_infinities() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValidationError, match="finite"):
            RECIPES["mlp"].config(mean=value)
        with pytest.raises(ValidationError, match="finite"):
            regression.Config(b=value)


def work(directory: Path) -> tuple[int, list[dict[str, object]]]:
    """Run a job's process to its end: exit code and events."""
    command = [sys.executable, "-m", "training", "work", str(directory), "--lease", "120"]
    with subprocess.Popen(
        [*command, "--data-dir", str(SAMPLE), "--device", "cpu"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        events = [json.loads(line, parse_constant=pytest.fail) for line in process.stdout]
        return process.wait(60), events


def test_a_job_that_diverges_fails_with_the_sentence(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", config(lr=100))
    code, events = work(tmp_path / "run")
    assert code == 1
    assert events[-1]["event"] == "failed"
    assert "train again with a smaller lr than 100" in str(events[-1]["error"])


def test_a_job_is_done_when_its_checkpoint_has_been_loaded_and_asked(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config("softmax-mnist", epochs=1))
    code, events = work(run.directory)
    assert (code, events[-1]) == (0, {"event": "done"})
    data = bytearray(run.weights_path.read_bytes())
    data[len(data) // 2] ^= 1
    run.weights_path.write_bytes(data)
    code, events = work(run.directory)  # started again: it has only to report
    assert code == 1
    assert "its sha256 is" in str(events[-1]["error"])


def test_a_bad_run_with_finite_figures_is_no_error(tmp_path: Path, cpu: torch.device) -> None:
    """Large, finite losses are figures like any other."""
    run = Run.create(tmp_path / "run", config("softmax-mnist", epochs=1, lr=100))
    card = train(run, SAMPLE, cpu, lambda event: None)
    assert card.metrics["test"].loss > 10
    json.loads(run.card_path.read_text(), parse_constant=pytest.fail)
