"""The part that trains: an actor on a machine of the cluster. It keeps nothing that outlives it.

It has neither the keys of the service nor its object store: what it needs comes with its order and through
Ray, what it makes is taken from it after every epoch.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.devices import choose_device
from models.errors import ModelError
from training.directory import RunDirectory
from training.errors import TrainingError
from training.events import Epoch, Event, Note, Step
from training.remote import state
from training.run import Run, train, train_trial

PREFIX = "minist-ray-"


@dataclass(frozen=True)
class Order:
    """What is to be trained: the state of a run, or of one trial of its search."""

    files: state.Files
    data_dir: str
    device: str
    trial: int | None = None


@dataclass(frozen=True)
class News:
    """What has happened since the last: events in order, files as they are now; at the end why it failed."""

    events: tuple[Event, ...] = ()
    files: state.Files = field(default_factory=dict)
    ended: bool = False
    failure: str | None = None


Pieces = Mapping[str, Sequence[Any]]  # of the files of a data set by name: references, as Ray has them


class RemoteTrainer:
    """Trains in a thread of its own, so that it can be asked meanwhile."""

    def __init__(self, order: Order, dataset: Pieces, dataset_name: str) -> None:
        remove_abandoned(Path(tempfile.gettempdir()))
        self._order = order
        self._home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._files = RunDirectory(self._home / "run")
        self._files.path.mkdir()
        state.write(self._files, order.files)
        self._changes = state.Changes(self._files, order.trial)
        self._news = threading.Condition()
        self._events: list[Event] = []
        self._changed: dict[str, bytes] = {}
        self._ended = False
        self._failure: str | None = None
        self._dataset, self._dataset_name = dataset, dataset_name
        threading.Thread(target=self._run, name="training", daemon=True).start()

    def news(self, wait: float) -> News:
        """At once where there are any, else after so many seconds."""
        with self._news:
            self._news.wait_for(lambda: self._events or self._ended, wait)
            found = News(tuple(self._events), self._changed, self._ended, self._failure)
            self._events, self._changed = [], {}
        if found.ended:
            shutil.rmtree(self._home, ignore_errors=True)
        return found

    def _run(self) -> None:
        failure: str | None = None
        try:
            self._train()
        except (TrainingError, ModelError, OSError) as error:
            failure = str(error)
        except BaseException as error:  # else nobody would hear of it
            failure = f"{type(error).__name__}: {error}"
        with self._news:
            self._ended, self._failure = True, failure
            self._news.notify()

    def _train(self) -> None:
        run, datasets = Run.open(self._files.path), self._home / "datasets"
        write_dataset(datasets, self._dataset_name, self._dataset)
        data_dir = Path(os.environ.get("MINIST_DATA_DIR", self._order.data_dir))
        device = choose_device(self._order.device)
        if self._order.trial is None:
            train(run, data_dir, device, self._hear, datasets_dir=datasets)
            last = self._changes.read_all(run.card_path)
        else:
            train_trial(run, self._order.trial, data_dir, device, self._hear, datasets)
            last = self._changes.read()
        with self._news:
            self._changed |= last

    def _hear(self, event: Event) -> None:
        """Of steps that follow each other the last is enough; files are read when an epoch is complete."""
        changed = {} if isinstance(event, Step) else self._changes.read()
        with self._news:
            if self._events and isinstance(event, Step) and isinstance(self._events[-1], Step):
                self._events.pop()
            self._events.append(event)
            self._changed |= changed
            if isinstance(event, Epoch | Note):
                self._news.notify()


def write_dataset(root: Path, name: str, pieces: Pieces) -> None:
    """Where `training.datasets` looks for NAME@N; piece by piece, so that memory holds one of them."""
    if not pieces:
        return
    import ray

    folder = root.joinpath(*name.split("@"))
    folder.mkdir(parents=True)
    for file_name, references in pieces.items():
        with (folder / file_name).open("wb") as file:
            for reference in references:
                piece: Any = ray.get(reference)
                file.write(piece)


def remove_abandoned(root: Path, alive: Callable[[int], bool] | None = None) -> None:
    """The folders of those that were killed, on this machine."""
    alive = alive or (lambda pid: Path(f"/proc/{pid}").exists() or not Path("/proc/self").exists())
    for path in root.glob(f"{PREFIX}*-*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
