"""A search: every combination of some settings is trained, and the best on validation inputs is the run's.

Each trial has a directory of its own inside the run's. What it came to is written once, so that a search that
is started again goes on within the trial that was under way. Of those that have ended only the best one's state
is kept; at the end it becomes the state of the run, which then ends as any other.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from models.card import Metrics, Search, Trial
from models.errors import first_problem
from models.files import write_atomically
from training.directory import RunDirectory
from training.errors import Diverged, TrainingError
from training.events import Epoch, Event, Listener, Note, Resumed, Step, TrialEpoch, TrialStep
from training.recipes import Config


@dataclass(frozen=True)
class Score:
    """What a trial is judged by: log loss (nats) of its probabilities, as it would serve them, and accuracy."""

    loss: float
    accuracy: float
    epochs: int
    cpu_seconds: float

    @classmethod
    def of(cls, validation: Metrics, history: Sequence[Epoch]) -> "Score":
        scores = validation.calibrated or validation.uncalibrated
        assert scores is not None
        cpu_seconds = sum(epoch.cpu_seconds for epoch in history)
        return cls(scores.nll, validation.accuracy, len(history), cpu_seconds)


def search_of(
    words: Sequence[str], set_already: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, list[str]]:
    """Of a command line: `lr=0.001,0.003`, once for each setting. Raises TrainingError."""
    found: dict[str, list[str]] = {}
    for word in words:
        name, _, values = word.partition("=")
        name = name.replace("-", "_")
        if not values or name in found or name in set_already:
            raise TrainingError(f"--search {word}: write each setting once, with its values, as lr=0.001,0.003")
        found[name] = values.split(",")
    return found


Train = Callable[[RunDirectory, Config, Listener], Score]  # to the end of its epochs, from its last state


def search(files: RunDirectory, config: Config, train: Train, on_event: Listener) -> Config:
    """Run the trials that have not ended, one after the other; the config of the best, whose state is then the
    run's. Raises TrainingError where none has a result."""
    count = Count(config, results(files, config))
    for trial in count.ended:
        on_event(note_of(trial, config))  # again: whoever listens now may not have heard it
    for number in range(1, len(config.trials()) + 1):
        if number not in count.numbers:
            tried = run_trial(files, config, number, train, count.listener(number, on_event))
            count.end(tried)
            on_event(note_of(tried, config))
            drop_states(files, count.ended)
    return take_best(files, config)


def run_trial(files: RunDirectory, config: Config, number: int, train: Train, on_event: Listener) -> Trial:
    """Train one to its end, and write what it came to: a loss that is not finite is a result as well."""
    mine, settings = files.trial(number), config.trials()[number - 1]
    mine.path.mkdir(parents=True, exist_ok=True)
    try:
        score = train(mine, config.trial(settings), on_event)
        trial = Trial(number=number, settings=settings, **asdict(score))
    except Diverged as error:
        trial = Trial(number=number, settings=settings, error=str(error))
    write_atomically(mine.result, trial.model_dump_json().encode() + b"\n")
    return trial


def results(files: RunDirectory, config: Config) -> list[Trial]:
    """Of the trials that have ended. Raises TrainingError for a damaged file."""
    found = (files.trial(number).result for number in range(1, len(config.trials()) + 1))
    try:
        return [Trial.model_validate_json(path.read_bytes()) for path in found if path.exists()]
    except ValidationError as error:
        raise TrainingError(
            f"a trial in {files.path} is damaged ({first_problem(error)}): start a new run"
        ) from error


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The one with the least loss, the first of equals; None where none has any."""
    scored = [trial for trial in trials if trial.loss is not None]
    return min(scored, key=lambda trial: trial.rank, default=None)


def drop_states(files: RunDirectory, ended: Sequence[Trial]) -> None:
    """Of all that have ended but the best."""
    best = best_of(ended)
    for trial in ended:
        if trial is not best:
            files.trial(trial.number).resume.unlink(missing_ok=True)


def take_best(files: RunDirectory, config: Config) -> Config:
    """Let the run go on from the end of the best trial; its config. A state that is missing is trained again.

    Raises TrainingError where all have failed.
    """
    trials = results(files, config)
    best = best_of(trials)
    if best is None:
        raise TrainingError(f"none of {len(trials)} trials has a result; the last: {trials[-1].error}")
    mine = files.trial(best.number)
    for source, target in (
        (mine.choice, files.choice),
        (mine.metrics, files.metrics),
        (mine.resume, files.resume),
    ):
        with suppress(FileNotFoundError):
            write_atomically(target, source.read_bytes())
    ended = Search(chosen=best.number, trials=tuple(trials))
    write_atomically(files.search, ended.model_dump_json(indent=2).encode() + b"\n")
    return config.trial(best.settings)


def read_search(files: RunDirectory) -> Search | None:
    """Of a run whose trials have ended; None where nothing is searched."""
    try:
        return Search.model_validate_json(files.search.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise TrainingError(f"{files.search} is damaged ({first_problem(error)}): start a new run") from error


def note_of(trial: Trial, config: Config) -> Note:
    """What people are told of a trial that has ended."""
    said = f"trial {trial.number} of {len(config.trials())} ({spelled(trial.settings)})"
    if trial.loss is None:
        return Note(f"{said} failed: {trial.error}", trial.model_dump())
    figures = f"validation log loss {trial.loss:.4f}, accuracy {trial.accuracy:.4f}"
    return Note(f"{said}: {figures}", trial.model_dump())


def spelled(settings: Mapping[str, Any]) -> str:
    """Settings in a sentence."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


class Count:
    """The epochs of all trials, counted together, so that a search is followed as one run.

    How many there will be is known once each trial has begun; those that have not are taken to be as long as
    their config says, or as the one that runs now.
    """

    def __init__(self, config: Config, ended: Sequence[Trial] = ()) -> None:
        self._trials = len(config.trials())
        self._of = {
            number: config.trial(settings).epochs for number, settings in enumerate(config.trials(), start=1)
        }
        self._done = dict.fromkeys(self._of, 0)
        self.ended: list[Trial] = []
        for trial in ended:
            self.end(trial)

    @property
    def numbers(self) -> set[int]:
        """Of those that have ended."""
        return {trial.number for trial in self.ended}

    def end(self, trial: Trial) -> None:
        """What it has left of its epochs is not needed."""
        self.ended.append(trial)
        self._of[trial.number] = self._done[trial.number] = trial.epochs

    def listener(self, number: int, on_event: Listener) -> Listener:
        """For the events of one trial; its epochs before it was resumed were counted then."""
        return lambda event: None if isinstance(event, Resumed) else on_event(self.counted(number, event))

    def counted(self, number: int, event: Event) -> Event:
        if isinstance(event, Note | Resumed):
            return event
        self._of[number] = event.epochs
        whole = event.epoch if isinstance(event, Epoch) else event.epoch - 1
        self._done[number] = whole
        before, planned = sum(self._done.values()) - whole, self._planned(event.epochs)
        place = {"trial": number, "trials": self._trials, "epoch": before + event.epoch, "epochs": planned}
        if isinstance(event, Epoch):
            return TrialEpoch(**{**_fields(event), **place})
        within = event.step / max(event.steps, 1)
        mine = max(event.epochs - event.epoch + 1 - within, 1e-9)
        share = (planned - before - event.epoch + 1 - within) / mine
        return TrialStep(**{**_fields(event), **place, "eta_seconds": event.eta_seconds * max(1.0, share)})

    def _planned(self, usual: int) -> int:
        return sum(usual if epochs is None else epochs for epochs in self._of.values())


def _fields(event: Step | Epoch) -> dict[str, Any]:
    return {field.name: getattr(event, field.name) for field in fields(event)}
