"""One execution of training, and the directory it leaves behind (`training.directory`)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time

import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError

from models import checkpoint
from models.card import Card, DatasetFacts, Metrics, read_card
from models.classifier import Classifier
from models.errors import first_problem
from models.files import write_atomically
from training import report
from training.calibration import calibrate
from training.corrections import Corrections
from training.datasets import Dataset, Split, load_dataset
from training.directory import RunDirectory
from training.errors import Diverged, NotFinite, RunBusy, TrainingError
from training.evaluation import Evaluation, evaluate
from training.events import Epoch, Listener
from training.loop import Trainer
from training.recipes import Config
from training.synthetic.split import synthetic_split


@dataclass(frozen=True)
class Run:
    """A run directory and its config."""

    directory: Path
    config: Config

    @classmethod
    def create(cls, directory: Path, config: Config) -> "Run":
        """Make the directory. Raises TrainingError where it holds a run already."""
        run = cls(directory, config)
        if run.files.config.exists():
            raise TrainingError(f"{directory} holds a run already: continue it with --resume {directory}")
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(run.files.config, config.model_dump_json(indent=2).encode() + b"\n")
        return run

    @classmethod
    def open(cls, directory: Path) -> "Run":
        """An existing run. Raises TrainingError where there is none."""
        path = RunDirectory(directory).config
        try:
            return cls(directory, Config.model_validate_json(path.read_bytes()))
        except OSError as error:
            raise TrainingError(f"{directory} holds no run: {path} cannot be read") from error
        except ValidationError as error:
            raise TrainingError(f"{path} is not a config of this version: {first_problem(error)}") from error

    @property
    def files(self) -> RunDirectory:
        return RunDirectory(self.directory)

    @property
    def weights_path(self) -> Path:
        return self.files.weights(self.config.name)

    @property
    def card_path(self) -> Path:
        return self.files.card(self.config.name)

    def history(self) -> list[Epoch]:
        """The epochs so far. Raises TrainingError for a damaged file."""
        path = self.files.metrics
        try:
            lines = path.read_text().splitlines() if path.exists() else []
            return [Epoch(**json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise TrainingError(f"{path} is damaged: start a new run ({error})") from error

    def write_history(self, epochs: list[Epoch]) -> None:
        text = "".join(json.dumps(asdict(epoch), allow_nan=False) + "\n" for epoch in epochs)
        write_atomically(self.files.metrics, text.encode())

    @contextmanager
    def lock(self, wait: float = 0) -> Iterator[None]:
        """Keep other processes out of the directory; waits for it `wait` seconds at most. Raises RunBusy."""
        try:
            with FileLock(self.files.lock, timeout=wait, poll_interval=0.1):
                yield
        except Timeout:
            raise RunBusy(f"another process is training in {self.directory}") from None


def train(
    run: Run,
    data_dir: Path,
    device: torch.device,
    on_event: Listener,
    wait: float = 0,
    datasets_dir: Path | None = None,
) -> Card:
    """Train to the end, from the last complete epoch where there is one; returns the card.

    Raises DatasetError, Diverged, or RunBusy where another process trains in the same directory and has
    not ended after `wait` seconds. An exception (Ctrl-C too) leaves the last complete epoch behind.
    """
    with run.lock(wait):
        if run.card_path.exists():
            return read_card(run.card_path)
        config = run.config
        dataset = load_dataset(config.dataset, data_dir, datasets_dir)
        train_split, validation = dataset.hold_out(config.validation_images, config.seed)
        if config.synthetic_images:
            train_split += synthetic_split(train_split, config.synthetic_images, config.seed)
        corrections = Corrections.read(run.files.corrections, dataset)
        if corrections is not None:
            train_split += corrections.repeated(len(train_split))
        trainer = Trainer(config, train_split, len(dataset.classes), device)
        if run.files.resume.exists():
            trainer.restore(run.files.resume)
        classifier = Classifier(trainer.result, card_of(config, dataset), device)
        _run_epochs(run, trainer, classifier, validation, dataset.test, on_event)
        return _finish(run, classifier, dataset, validation, corrections)


def _run_epochs(
    run: Run,
    trainer: Trainer,
    classifier: Classifier,
    validation: Split | None,
    test: Split,
    on_event: Listener,
) -> None:
    """Train epoch by epoch, and evaluate after each on the validation split (without one, on the test set)."""
    history = run.history()[: trainer.epoch]
    watched, split = (validation, "validation") if validation else (test, "test")
    while trainer.epoch < run.config.epochs:
        begun, cpu_begun = perf_counter(), process_time()
        lr = float(trainer.scheduler.get_last_lr()[0])
        loss, accuracy = trainer.run_epoch(on_event)
        seconds = perf_counter() - begun
        cpu_seconds = process_time() - cpu_begun
        metrics = _evaluate(run, classifier, watched).metrics
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
        trainer.save(run.files.resume)
        on_event(epoch)


def _finish(
    run: Run,
    classifier: Classifier,
    dataset: Dataset,
    validation: Split | None,
    corrections: Corrections | None,
) -> Card:
    """Fit the temperature, evaluate on the test set, once; write report, weights and card (the card last)."""
    metrics: dict[str, Metrics] = {}
    if validation:
        classifier.model.eval()
        classifier = calibrate(classifier, validation)
        metrics["validation"] = _evaluate(run, classifier, validation).metrics
    test = _evaluate(run, classifier, dataset.test)
    metrics["test"] = test.metrics
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
    report.write(run.files, card, history, dataset, test)
    return checkpoint.save(classifier.model, card, run.directory)


def rewrite_report(run: Run, data_dir: Path, device: torch.device) -> Path:
    """Write the report and pictures of a finished run again; returns the page's path.

    Raises TrainingError where the run has not finished.
    """
    if not run.card_path.exists():
        raise TrainingError(f"{run.directory} has not finished: continue it with --resume {run.directory}")
    classifier = Classifier.load(run.weights_path, device)
    dataset = load_dataset(run.config.dataset, data_dir)
    test = evaluate(classifier, dataset.test)
    return report.write(run.files, classifier.card, run.history(), dataset, test)


def _evaluate(run: Run, classifier: Classifier, split: Split) -> Evaluation:
    """`evaluate` of what a run has trained. Raises Diverged."""
    classifier.model.eval()
    try:
        return evaluate(classifier, split)
    except NotFinite as error:
        raise Diverged(f"after training, {error}", run.config.lr) from error


def card_of(config: Config, dataset: Dataset) -> Card:
    """The card of a run before there are weights and metrics."""
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
