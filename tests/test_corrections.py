"""Corrections as a run meets them: what joins the training split, and what that changed."""

import base64
import json
from pathlib import Path

import pytest
import torch

from models.classifier import Classifier
from tests.conftest import SAMPLE, WEIGHTS
from training.corrections import MOST, Corrections
from training.datasets import Dataset
from training.events import Epoch, Event
from training.loop import Trainer
from training.recipes import RECIPES
from training.run import Run, train

CONFIG = RECIPES["mlp"].config(epochs=3, validation_images=100)


def write(path: Path, images: torch.Tensor, labels: list[str], before: Path | None = None) -> None:
    pixels = base64.b64encode(images.numpy().tobytes()).decode()
    body = {"labels": labels, "pixels": pixels, "before": str(before) if before else None}
    path.write_text(json.dumps(body))


def test_they_join_the_training_split_alone(
    tmp_path: Path, sample: Dataset, cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held out stays what it is without them."""
    seen = {}
    begin = Trainer.__init__

    def note(self: Trainer, *arguments: object) -> None:
        begin(self, *arguments)  # type: ignore[arg-type]
        seen["train"] = self.train

    monkeypatch.setattr(Trainer, "__init__", note)
    plain, validation = sample.hold_out(100, CONFIG.seed)
    run = Run.create(tmp_path / "run", CONFIG)
    blank = torch.full((2, 1, 28, 28), 99, dtype=torch.uint8)
    write(run.files.corrections, blank, ["3", "shirt"], WEIGHTS / "minist.pth")
    card = train(run, SAMPLE, cpu, lambda event: None)
    assert len(seen["train"]) == len(plain) + 8  # 2 % of 400
    assert torch.equal(seen["train"].images[:400], plain.images)
    assert (seen["train"].images[400:] == 99).all()
    assert seen["train"].labels[400:].tolist() == [3] * 8
    assert validation is not None
    assert card.metrics["validation"].images == 100
    assert card.corrections is not None
    assert card.corrections.used == 1
    assert card.corrections.right_before in (0, 1)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, sample: Dataset, cpu: torch.device) -> None:
    def run(name: str) -> Run:
        made = Run.create(tmp_path / name, CONFIG)
        write(made.files.corrections, sample.test.images[:5], ["1"] * 5)
        return made

    def stop(event: Event) -> None:
        if isinstance(event, Epoch) and event.epoch == 2:
            raise KeyboardInterrupt

    undisturbed, resumed = run("undisturbed"), run("resumed")
    train(undisturbed, SAMPLE, cpu, lambda event: None)
    with pytest.raises(KeyboardInterrupt):
        train(resumed, SAMPLE, cpu, stop)
    train(resumed, SAMPLE, cpu, lambda event: None)
    assert resumed.weights_path.read_bytes() == undisturbed.weights_path.read_bytes()


def test_a_few_are_repeated_and_many_are_not(tmp_path: Path, sample: Dataset) -> None:
    path = tmp_path / "corrections.json"
    for count, images, times in ((1, 55_000, MOST), (100, 55_000, 11), (10_000, 55_000, 1), (3, 10, 1)):
        write(path, torch.zeros(count, 1, 28, 28, dtype=torch.uint8), ["5"] * count)
        corrections = Corrections.read(path, sample)
        assert corrections is not None
        assert len(corrections.repeated(images)) == count * times


def test_nothing_to_learn_changes_nothing(tmp_path: Path, sample: Dataset) -> None:
    path = tmp_path / "corrections.json"
    assert Corrections.read(path, sample) is None
    write(path, torch.zeros(0, 1, 28, 28, dtype=torch.uint8), [])
    assert Corrections.read(path, sample) is None
    write(path, torch.zeros(1, 1, 28, 28, dtype=torch.uint8), ["shirt"])
    assert Corrections.read(path, sample) is None


def test_what_they_changed_is_counted(tmp_path: Path, sample: Dataset, cpu: torch.device) -> None:
    path = tmp_path / "corrections.json"
    good = Classifier.load(WEIGHTS / "minist.pth", cpu)
    labels = [str(label) for label in sample.test.labels[:20].tolist()]
    right = [p.label == label for p, label in zip(good.predict(sample.test.images[:20]), labels, strict=True)]
    for before, known in ((WEIGHTS / "minist.pth", sum(right)), (None, None), (tmp_path / "gone.pth", None)):
        write(path, sample.test.images[:20], labels, before)
        corrections = Corrections.read(path, sample)
        assert corrections is not None
        outcome = corrections.outcome(good)
        assert (outcome.used, outcome.right_before, outcome.right_after) == (20, known, sum(right))
