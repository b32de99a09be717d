"""One execution of training and the directory it leaves behind.

config.json     what was asked for            <name>.pth, <name>.json   the checkpoint that came out
metrics.jsonl   a line per epoch              *.png                     curves, confusion, samples, reliability
resume.pt       the state after the last      report.html               all of it on one page, to look at
                complete epoch                corrections.json          pictures to learn besides, if any
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, perf_counter, process_time, sleep

import torch
from pydantic import ValidationError

from models import checkpoint
from models.card import Card, DatasetFacts, Metrics, read_card
from models.classifier import Classifier
from models.files import write_atomically
from training import report
from training.calibration import calibrate
from training.corrections import Corrections
from training.datasets import Dataset, Split, load_dataset
from training.errors import RunBusy, TrainingError
from training.evaluation import Evaluation, evaluate
from training.events import Epoch, Listener
from training.loop import Trainer
from training.recipes import Config
from training.synthetic import rendering


@dataclass(frozen=True)
class Run:
    """A run directory and its config."""

    directory: Path
    config: Config

    @classmethod
    def create(cls, directory: Path, config: Config) -> "Run":
        """Make the directory. Raises TrainingError where it holds a run already."""
        if (directory / "config.json").exists():
            raise TrainingError(f"{directory} holds a run already: go on with it by --resume {directory}")
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / "config.json", config.model_dump_json(indent=2).encode() + b"\n")
        return cls(directory, config)

    @classmethod
    def open(cls, directory: Path) -> "Run":
        """An existing run. Raises TrainingError where there is none."""
        path = directory / "config.json"
        try:
            return cls(directory, Config.model_validate_json(path.read_bytes()))
        except OSError as error:
            raise TrainingError(f"{directory} holds no run: {path} cannot be read") from error
        except ValidationError as error:
            raise TrainingError(f"{path} is no config of this version: {error}") from error

    @property
    def resume_path(self) -> Path:
        return self.directory / "resume.pt"

    @property
    def weights_path(self) -> Path:
        return self.directory / f"{self.config.name}.pth"

    @property
    def card_path(self) -> Path:
        return self.weights_path.with_suffix(".json")

    @property
    def corrections_path(self) -> Path:
        return self.directory / "corrections.json"

    def history(self) -> list[Epoch]:
        """The epochs so far."""
        path = self.directory / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [Epoch(**json.loads(line)) for line in lines]

    def write_history(self, epochs: list[Epoch]) -> None:
        text = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs)
        write_atomically(self.directory / "metrics.jsonl", text.encode())

    @contextmanager
    def lock(self, wait: float = 0) -> Iterator[None]:
        """Hold the directory against other processes, after `wait` seconds at most. Raises RunBusy."""
        with (self.directory / "lock").open("w") as file:
            deadline = monotonic() + wait
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if monotonic() >= deadline:
                        raise RunBusy(f"another process is training in {self.directory}") from None
                    sleep(0.1)
            yield


def train(run: Run, data_dir: Path, device: torch.device, tell: Listener, wait: float = 0) -> Card:
    """Train to the end, from the last complete epoch where there is one; returns the card.

    Raises DatasetError, or RunBusy where another process trains in the same directory and has not
    ended after `wait` seconds. An exception (Ctrl-C too) leaves the last complete epoch behind.
    """
    with run.lock(wait):
        if run.card_path.exists():
            return read_card(run.card_path)
        dataset = load_dataset(run.config.dataset, data_dir)
        train_split, validation = dataset.hold_out(run.config.validation_images, run.config.seed)
        if run.config.synthetic_images:
            train_split += rendering.synthetic_split(train_split, run.config.synthetic_images, run.config.seed)
        corrections = Corrections.read(run.corrections_path, dataset)
        if corrections is not None:
            train_split += corrections.repeated(len(train_split))
        trainer = Trainer(run.config, train_split, len(dataset.classes), device)
        if run.resume_path.exists():
            trainer.restore(run.resume_path)
        classifier = Classifier(trainer.result, card_of(run.config, dataset), device)
        _run_epochs(run, trainer, classifier, validation, dataset.test, tell)
        return _finish(run, classifier, dataset, validation, corrections)


def _run_epochs(
    run: Run,
    trainer: Trainer,
    classifier: Classifier,
    validation: Split | None,
    test: Split,
    tell: Listener,
) -> None:
    """Train epoch by epoch; what is measured meanwhile is the validation split (test only without one)."""
    history = run.history()[: trainer.epoch]
    watched, split = (validation, "validation") if validation else (test, "test")
    while trainer.epoch < run.config.epochs:
        begun, cpu_begun = perf_counter(), process_time()
        lr = float(trainer.scheduler.get_last_lr()[0])
        loss, accuracy = trainer.run_epoch(tell)
        seconds = perf_counter() - begun
        cpu_seconds = process_time() - cpu_begun
        metrics = _evaluate(classifier, watched).metrics
        epoch = Epoch(
            epoch=trainer.epoch,
            epochs=run.config.epochs,
            train_loss=loss,
            train_accuracy=accuracy,
            split=split,
            loss=metrics.loss,
            accuracy=metrics.accuracy,
            lr=lr,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
        )
        history.append(epoch)
        run.write_history(history)
        trainer.save(run.resume_path)
        tell(epoch)


def _finish(
    run: Run,
    classifier: Classifier,
    dataset: Dataset,
    validation: Split | None,
    corrections: Corrections | None,
) -> Card:
    """Fit the temperature, evaluate on the test split, once; write all that is promised (the card last)."""
    classifier.model.eval()
    if validation:
        classifier = calibrate(classifier, validation)
    test = evaluate(classifier, dataset.test)
    metrics: dict[str, Metrics] = {"test": test.metrics}
    if validation:
        metrics["validation"] = evaluate(classifier, validation).metrics
    history = run.history()
    card = classifier.card.model_copy(
        update={
            "metrics": metrics,
            "corrections": corrections.outcome(classifier) if corrections else None,
            "parameters": sum(tensor.numel() for tensor in classifier.model.parameters()),
            "created": datetime.now(UTC),
            "cpu_seconds": sum(epoch.cpu_seconds for epoch in history),
        }
    )
    report.write(run.directory, card, history, dataset, test)
    return checkpoint.save(classifier.model, card, run.directory)


def rewrite_report(run: Run, data_dir: Path, device: torch.device) -> Path:
    """The report and pictures of a finished run once more; returns the page's path.

    Raises TrainingError where the run has not come to its end.
    """
    if not run.card_path.exists():
        raise TrainingError(f"{run.directory} has not finished: go on with it by --resume {run.directory}")
    classifier = Classifier.load(run.weights_path, device)
    dataset = load_dataset(run.config.dataset, data_dir)
    return report.write(
        run.directory, classifier.card, run.history(), dataset, evaluate(classifier, dataset.test)
    )


def _evaluate(classifier: Classifier, split: Split) -> Evaluation:
    classifier.model.eval()
    return evaluate(classifier, split)


def card_of(config: Config, dataset: Dataset) -> Card:
    """What a card says before there are weights and metrics."""
    return Card(
        name=config.name,
        architecture=config.architecture,
        arguments={"classes": len(dataset.classes)},
        input_shape=dataset.shape,
        mean=config.mean,
        std=config.std,
        polarity=dataset.polarity,
        preprocessing=dataset.preprocessing,
        classes=dataset.classes,
        training=config.model_dump(),
        dataset=DatasetFacts(name=dataset.name, digest=dataset.digest),
    )
