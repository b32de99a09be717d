"""One execution of training, and the directory it leaves behind (`training.directory`)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError

from models.card import Card, DatasetFacts, Input, Search, Trial, read_card
from models.classifier import Classifier
from models.errors import first_problem
from models.files import write_atomically
from models.graphs.module import ONNX
from training import report
from training.calibration import calibrate
from training.choice import LITE0, choose
from training.comparison import compare
from training.corrections import Corrections
from training.datasets import IMPORTED, Dataset, Split, load_dataset
from training.directory import RunDirectory
from training.ending import evaluate_trained, finish
from training.errors import DatasetError, RunBusy, TrainingError
from training.evaluation import evaluate
from training.events import Epoch, Listener, Note, Resumed, Step
from training.fine_tune import FineTuner, served_version
from training.kept import read_sample
from training.loop import Trainer, normalisation
from training.novelty import learn_background, remember
from training.protocols import EndedRun
from training.recipes import Config
from training.search import Score, Train, read_search, run_trial, search
from training.simulated import PER_SECOND, generated, simulated_images
from training.tables.dataset import load_table, table_directory
from training.tables.ending import evaluated
from training.tables.fine_tune import fine_tune_table
from training.tables.run import TABLE, train_table
from training.transfer import REMEMBERED, HeadTrainer

FINE_TUNE = "fine-tune"


@dataclass(frozen=True)
class Run:
    """A run directory and its config; of a trial, also the directory of its run."""

    directory: Path
    config: Config
    of_run: Path | None = None

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
        return RunDirectory(self.directory, self.of_run)

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

    def epochs_done(self) -> int:
        """Of all its trials where it searches."""
        trials = [Run(files.path, self.config, self.directory) for files in self.files.trials()]
        return sum(len(run.history()) for run in trials or [self])

    def search(self) -> Search | None:
        """What its trials came to, once they have ended. Raises TrainingError for a damaged file."""
        return read_search(self.files)

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
        if run.config.architecture == FINE_TUNE:
            return _fine_tune(run, data_dir, datasets_dir, device, on_event)
        if run.config.search:
            config = search(run.files, run.config, _trial_of(data_dir, device, datasets_dir), on_event)
            run, on_event = Run(run.directory, config), _notes_alone(on_event)  # its epochs were told
        return _trained(run, data_dir, device, on_event, datasets_dir).finish()


def train_trial(
    run: Run, number: int, data_dir: Path, device: torch.device, on_event: Listener, datasets_dir: Path | None
) -> Trial:
    """Train one trial of a search to its end, from its last complete epoch, and write what it came to.

    Raises DatasetError, or TrainingError.
    """
    return run_trial(run.files, run.config, number, _trial_of(data_dir, device, datasets_dir), on_event)


def _trial_of(data_dir: Path, device: torch.device, datasets_dir: Path | None) -> Train:
    def score(files: RunDirectory, config: Config, on_event: Listener) -> Score:
        return _trained(Run(files.path, config, files.of_run), data_dir, device, on_event, datasets_dir).score()

    return score


def _notes_alone(on_event: Listener) -> Listener:
    return lambda event: on_event(event) if isinstance(event, Note) else None


def _trained(
    run: Run, data_dir: Path, device: torch.device, on_event: Listener, datasets_dir: Path | None
) -> EndedRun:
    """Train to the end of the epochs, from the last complete one."""
    if (directory := table_directory(run.config.dataset, datasets_dir)) is not None:
        return train_table(run, load_table(directory, run.config.dataset), on_event)
    if run.config.architecture == TABLE:
        raise DatasetError(
            f"the recipe {run.config.recipe} trains on a table, and {run.config.dataset} is none: "
            "import a CSV file"
        )
    dataset = load_dataset(run.config.dataset, data_dir, datasets_dir)
    choice = choose(
        run.files,
        run.config,
        dataset,
        lambda small, large: _compare(run, dataset, small, large, device, on_event),
    )
    for note in choice.notes:
        on_event(Note(note))
    large = choice.config.architecture == LITE0
    if large:
        dataset = dataset.enlarged()
    corrections = Corrections.read(run.files.corrections, dataset)
    make = _train_head if large else _train_network
    classifier, validation, notes = make(run, choice.config, dataset, corrections, device, on_event)
    return _TrainedOnPictures(run, classifier, dataset, validation, corrections, (*choice.notes, *notes))


@dataclass(frozen=True)
class _TrainedOnPictures:
    run: Run
    classifier: Classifier
    dataset: Dataset
    validation: Split | None
    corrections: Corrections | None
    notes: Sequence[str]

    def score(self) -> Score:
        if self.validation is None:
            raise DatasetError("a search chooses by validation images: hold some out (validation_images)")
        self.classifier.model.eval()
        served = calibrate(self.classifier, self.validation)
        score = Score.of(evaluate_trained(self.run, served, self.validation).metrics, self.run.history())
        self.run.files.generated.unlink(missing_ok=True)
        return score

    def finish(self) -> Card:
        card = finish(self.run, self.classifier, self.dataset, self.validation, self.corrections, self.notes)
        self.run.files.generated.unlink(missing_ok=True)
        return card


def _compare(
    run: Run, dataset: Dataset, small: Config, transfer: Config, device: torch.device, on_event: Listener
) -> tuple[str, str]:
    """The better architecture, and why. Raises DatasetError without validation pictures."""
    if dataset.hold_out(small.validation_images, small.seed)[1] is None:
        raise DatasetError("auto chooses by validation images: hold some out, or choose a recipe")

    def score_network(config: Config) -> float:
        corrections = Corrections.read(run.files.corrections, dataset)
        _train_network(run, config, dataset, corrections, device, on_event, first_try_only=True)
        return run.history()[-1].accuracy

    def score_head(config: Config) -> float:
        large = dataset.enlarged()
        trainer = _head_trainer(config, large, Corrections.read(run.files.corrections, large), device)
        trainer.run(run.files, lambda event: on_event(event) if isinstance(event, Step) else None)
        return trainer.accuracy

    return compare(run.files, small, transfer, score_network, score_head)


Trained = tuple[Classifier, Split | None, Sequence[str]]  # with the validation split, and what was decided


def _train_network(
    run: Run,
    config: Config,
    dataset: Dataset,
    corrections: Corrections | None,
    device: torch.device,
    on_event: Listener,
    first_try_only: bool = False,
) -> Trained:
    """From random weights, epoch by epoch."""
    train_split, validation = dataset.hold_out(config.validation_images, config.seed)
    own = train_split
    if not run.files.generated.exists() and (count := simulated_images(config)):
        on_event(Note(f"{count:,} pictures are simulated first, about {PER_SECOND} a second"))
    if (extra := generated(config, train_split, len(dataset.classes), run.files.generated)) is not None:
        train_split += extra
    if corrections is not None:
        train_split += corrections.repeated(len(train_split))
    trainer = Trainer(config, train_split, len(dataset.classes), device, validation, len(own))
    if run.files.resume.exists():
        trainer.restore(run.files.resume)
    classifier = Classifier(trainer.result, card_of(config, dataset, trainer.arguments), device)
    _run_epochs(run, trainer, classifier, validation, dataset.test, on_event, first_try_only)
    trainer.add_teacher()
    if config.background_epochs and config.unfamiliar_images:
        on_event(Note(f"the background learns alone, {config.background_epochs} epochs"))
        learn_background(classifier.model, classifier.card, trainer.train, config)
    remember(classifier.model, classifier.card.picture, own, config.seed)
    return classifier, validation, trainer.notes


def _train_head(
    run: Run,
    config: Config,
    dataset: Dataset,
    corrections: Corrections | None,
    device: torch.device,
    on_event: Listener,
) -> Trained:
    """A head on pretrained features."""
    trainer = _head_trainer(config, dataset, corrections, device)
    run.write_history(trainer.run(run.files, on_event))
    classifier = Classifier(trainer.model, card_of(config, dataset, trainer.arguments), device)
    remember(classifier.model, classifier.card.picture, trainer.train, config.seed, REMEMBERED)
    return classifier, trainer.validation, trainer.notes


def _head_trainer(
    config: Config, dataset: Dataset, corrections: Corrections | None, device: torch.device
) -> HeadTrainer:
    train_split, validation = dataset.hold_out(config.validation_images, config.seed)
    if validation is None:
        raise DatasetError("transfer chooses by validation images: hold some out")
    if corrections is not None:
        train_split += corrections.split
    return HeadTrainer(config, train_split, len(dataset.classes), device, validation)


def _fine_tune(
    run: Run, data_dir: Path, datasets_dir: Path | None, device: torch.device, on_event: Listener
) -> Card:
    """From the weights that serve; data set, input and architecture are theirs."""
    weights, served = served_version(run.files)
    if served.architecture == ONNX:
        raise TrainingError("the version that serves is an ONNX model, which cannot learn: take another recipe")
    if served.dataset is None or served.training is None:
        raise TrainingError("the version that serves has no data set on its card: train by another recipe")
    if (directory := table_directory(served.dataset.name, datasets_dir)) is not None:
        return fine_tune_table(run, load_table(directory, served.dataset.name), weights, served, on_event)
    dataset = _replayed(weights, served, data_dir, datasets_dir)
    corrections = Corrections.read(run.files.corrections, dataset)
    if corrections is None:
        raise TrainingError("there are no corrections to learn: correct some answers first (POST /feedback)")
    seed, count = served.training.get("seed", 0), served.training.get("validation_images", 0)
    train_split, validation = dataset.hold_out(count, seed)
    before = Classifier.load(weights, device)
    tuner = FineTuner(run.config, before, train_split, validation, corrections.split)
    model, history = tuner.run(on_event)
    remember(model, served.picture, train_split, run.config.seed)
    run.write_history(history)
    if dataset.is_sample:
        tuner.notes.append(
            f"the data set {dataset.name} is gone: replayed and measured on the sample that was kept of it, "
            f"{len(train_split):,} training and {len(dataset.test):,} test images"
        )
    kept = {"recipe": run.config.recipe, "name": run.config.name, "lr": run.config.lr, "epochs": len(history)}
    card = served.model_copy(update={"name": run.config.name, "training": {**served.training, **kept}})
    return finish(run, Classifier(model, card, device), dataset, validation, corrections, tuner.notes)


def _replayed(weights: Path, served: Card, data_dir: Path, datasets_dir: Path | None) -> Dataset:
    """The data set of the version that serves, or the sample that was kept of it."""
    assert served.dataset is not None
    try:
        dataset = load_dataset(served.dataset.name, data_dir, datasets_dir)
    except DatasetError:
        if not IMPORTED.fullmatch(served.dataset.name):
            raise
        return read_sample(RunDirectory(weights.parent).sample, served)
    if dataset.digest != served.dataset.digest:
        raise TrainingError(
            f"the data set {dataset.name} is not the one that the served version was trained on"
        )
    return dataset if dataset.shape == served.picture.shape else dataset.enlarged()


def _run_epochs(
    run: Run,
    trainer: Trainer,
    classifier: Classifier,
    validation: Split | None,
    test: Split,
    on_event: Listener,
    first_try_only: bool,
) -> None:
    """Train epoch by epoch, and evaluate after each on the validation split (without one, on the test set)."""
    history = run.history()[: trainer.epoch]
    if history:
        on_event(Resumed(tuple(history)))
    watched, split = (validation, "validation") if validation else (test, "test")
    while not trainer.try_is_over([epoch.loss for epoch in history]) or (
        not first_try_only and trainer.begin_second_try(history[-1].loss)
    ):
        begun, cpu_begun = perf_counter(), process_time()
        lr = float(trainer.scheduler.get_last_lr()[0])
        loss, accuracy = trainer.run_epoch(on_event)
        if trainer.decide_flips():
            on_event(Note(trainer.notes[-1]))
        seconds = perf_counter() - begun
        cpu_seconds = process_time() - cpu_begun
        metrics = evaluate_trained(run, classifier, watched).metrics
        epoch = Epoch(
            epoch=trainer.epoch,
            epochs=trainer.epochs,
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
    if trainer.first is not None:
        trainer.choose_try(history[-1].loss)
        on_event(Note(trainer.notes[-1]))


def rewrite_report(run: Run, data_dir: Path, device: torch.device, datasets_dir: Path | None = None) -> Path:
    """Write the report and pictures of a finished run again; returns the page's path.

    Raises TrainingError where the run has not finished.
    """
    if not run.card_path.exists():
        raise TrainingError(f"{run.directory} has not finished: continue it with --resume {run.directory}")
    classifier = Classifier.load(run.weights_path, device)
    trained_on = classifier.card.dataset
    name = trained_on.name if trained_on else run.config.dataset
    if (directory := table_directory(name, datasets_dir)) is not None:
        table, outcome = evaluated(classifier, load_table(directory, name))
        return report.write(run.files, classifier.card, run.history(), table, outcome)
    dataset = load_dataset(name, data_dir, datasets_dir)
    if classifier.card.picture.shape != dataset.shape:
        dataset = dataset.enlarged()
    test = evaluate(classifier, dataset.test)
    return report.write(run.files, classifier.card, run.history(), dataset, test)


def card_of(config: Config, dataset: Dataset, arguments: Mapping[str, Any] | None = None) -> Card:
    """The card of a run before there are weights and metrics; `arguments` are those of the architecture."""
    channels, height, width = dataset.shape
    mean, std = normalisation(config, channels)
    return Card(
        name=config.name,
        architecture=config.architecture,
        arguments=dict(arguments or {"classes": len(dataset.classes)}),
        input=Input(
            channels=3 if channels == 3 else 1,
            height=height,
            width=width,
            mean=mean,
            std=std,
            preprocessing=dataset.preprocessing,
            resize=dataset.resize,
            polarity=dataset.polarity,
        ),
        classes=dataset.classes,
        training=config.model_dump(),
        dataset=DatasetFacts(name=dataset.name, digest=dataset.digest),
    )
