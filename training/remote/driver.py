"""The job's own process as a driver of a Ray cluster: it places the training where there is room for it.

    driver (run directory)  --order: state, data set-->  RemoteTrainer (an actor on some machine)
                            <--news: events, state-----

The run directory is as if the run was trained here: after every epoch its state is written first, then the
epoch is told. So whatever ends (the machine that trains, this process, the whole cluster), the run goes on
from the last epoch, and nobody else ever writes to it. Actors end when their driver does.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.card import Card, read_card
from training.datasets import IMPORTED
from training.errors import ClusterAway, TrainingError
from training.events import Epoch, Listener, Note
from training.remote import state
from training.remote.head import require_head, watched_head
from training.remote.trainer import News, Order, Pieces, RemoteTrainer
from training.run import Run
from training.search import Count, drop_states, note_of, results

ASK_SECONDS = 1.0  # that a trainer waits for news before it answers
PATIENCE_SECONDS = 20.0  # for a place in the cluster, before somebody is told
MOST_LOSSES = 3  # of machines, without a complete epoch in between
PIECE = 8 * 1024 * 1024  # bytes of a data set that are in memory at a time


@dataclass(frozen=True)
class Cluster:
    """Where to train: the address of a cluster, and what its machines find data sets and devices by."""

    address: str
    data_dir: Path
    device: str
    datasets_dir: Path | None = None


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, as a driver of the cluster. Raises ClusterAway where it does not answer."""
    try:
        import ray
    except ImportError:
        raise TrainingError("Ray is not installed: pip install 'minist[ray]'") from None
    require_head(address)
    with watched_head(address):
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            raise ClusterAway(f"the Ray cluster at {address} takes no driver: {_first_line(error)}") from error
        try:
            yield ray
        finally:
            ray.shutdown()


def train_in_cluster(run: Run, cluster: Cluster, on_event: Listener, wait: float = 0) -> Card:
    """As `training.run.train`, on a machine of the cluster; the trials of a search on several at a time.

    Raises TrainingError, ClusterAway, RunBusy, or Lost.
    """
    with run.lock(wait):
        if run.card_path.exists():
            return read_card(run.card_path)
        with connected(cluster.address) as ray:
            driver = Driver(ray, run, cluster, on_event)
            if run.config.search:
                driver.search()
            driver.finish()
        return read_card(run.card_path)


class Driver:
    """Places trainers, and keeps what they tell in the run directory."""

    def __init__(self, ray: Any, run: Run, cluster: Cluster, on_event: Listener) -> None:
        self._ray, self._run, self._cluster, self._on_event = ray, run, cluster, on_event
        self._errors: Any = ray.exceptions
        self._dataset = _put(ray, run.config.dataset, cluster.datasets_dir)
        self._losses = 0
        self._told = False  # that there is no place in the cluster

    def search(self) -> None:
        """Run the trials that have not ended, as many at a time as there is room for."""
        config, files = self._run.config, self._run.files
        count = Count(config, results(files, config))
        for trial in count.ended:
            self._on_event(note_of(trial, config))

        def end(number: int) -> None:
            (trial,) = (trial for trial in results(files, config) if trial.number == number)
            count.end(trial)
            self._on_event(note_of(trial, config))
            drop_states(files, count.ended)

        missing = set(range(1, len(config.trials()) + 1)) - count.numbers
        self._follow({number: count.listener(number, self._on_event) for number in sorted(missing)}, end)

    def finish(self) -> None:
        """Run to the end: of a search, whose trials have ended, evaluation and report alone."""
        self._follow({None: _without_trials(self._on_event)}, lambda number: None)

    def _follow(self, listeners: Mapping[Any, Listener], on_end: Callable[[Any], None]) -> None:
        """Until all have ended. Keys are the numbers of trials, None for the run itself."""
        actors = {number: self._place(number) for number in listeners}
        try:
            asked = {self._ask(actor): number for number, actor in actors.items()}
            while asked:
                ready, _ = self._ray.wait(list(asked), num_returns=1, timeout=PATIENCE_SECONDS)
                if not ready and not self._told:
                    self._told = True
                    self._on_event(Note(f"the run waits for a node of the Ray cluster with {self._wanted()}"))
                for reference in ready:
                    number = asked.pop(reference)
                    news = self._heard(reference, number, actors)
                    self._tell(news, listeners[number])
                    if news.ended:
                        self._end(actors.pop(number))
                        on_end(number)
                    else:
                        asked[self._ask(actors[number])] = number
        finally:
            for actor in actors.values():
                self._end(actor)

    def _end(self, actor: Any) -> None:
        with contextlib.suppress(Exception):  # the cluster may be gone; all end with this process
            self._ray.kill(actor)

    def _place(self, trial: int | None) -> Any:
        """A trainer of the state that there is; it waits in the cluster until there is room for it."""
        files = state.read_state(self._run.files, trial)
        wanted = self._run.config.resources
        gpus = wanted.gpus if wanted else 0
        device = self._cluster.device if gpus else "cpu"  # a GPU that nobody asked for is another's
        order = Order(files, str(self._cluster.data_dir), device, trial)
        options = {
            "num_cpus": self._run.config.threads,
            "num_gpus": gpus,
            "max_restarts": 0,
            "max_concurrency": 2,
            **({"memory": wanted.memory_bytes} if wanted and wanted.memory_bytes else {}),
        }
        actor = self._ray.remote(RemoteTrainer).options(**options)
        return actor.remote(order, self._dataset, self._run.config.dataset)

    def _wanted(self) -> str:
        config = self._run.config
        memory = config.resources.memory_bytes if config.resources else 0
        gpu = " and a GPU" if config.resources and config.resources.gpus else ""
        cpus = f"{config.threads} free CPU{'' if config.threads == 1 else 's'}"
        return f"{cpus}{f', {memory:,} bytes of memory' if memory else ''}{gpu}"

    def _ask(self, actor: Any) -> Any:
        return actor.news.remote(ASK_SECONDS)

    def _heard(self, reference: Any, number: int | None, actors: dict[Any, Any]) -> News:
        """News, or the loss of the machine, after which another trains on.

        Raises TrainingError, ClusterAway or Lost.
        """
        try:
            news: News = self._ray.get(reference)
        except (self._errors.RayActorError, self._errors.ObjectLostError) as error:
            self._lost(error)
            self._end(actors[number])  # it may only have been out of reach
            actors[number] = self._place(number)
            return News((Note("the process that trains was lost; another one goes on from the last epoch"),))
        if news.failure is not None:
            raise TrainingError(news.failure)
        return news

    def _lost(self, error: Exception) -> None:
        sys.stderr.write(f"the process that trains was lost: {error}\n")
        self._told = False
        require_head(self._cluster.address)  # else it is no wonder
        self._losses += 1
        if self._losses >= MOST_LOSSES:
            raise Lost(
                f"{MOST_LOSSES} processes in a row were lost before an epoch was complete: {_first_line(error)}"
            ) from error

    def _tell(self, news: News, on_event: Listener) -> None:
        state.write(self._run.files, news.files)
        for event in news.events:
            if isinstance(event, Epoch):
                self._losses = 0
            on_event(event)


def _without_trials(on_event: Listener) -> Listener:
    """They were told when they ended."""
    return lambda event: None if isinstance(event, Note) and event.trial is not None else on_event(event)


class Lost(Exception):
    """What trains is lost again and again."""


def _put(ray: Any, dataset: str, datasets_dir: Path | None) -> Pieces:
    """The files of an imported data set, in Ray; nothing of one that every machine has or downloads."""
    found = IMPORTED.fullmatch(dataset)
    if found is None or datasets_dir is None:
        return {}
    folder = datasets_dir / found[1] / found[2]
    if not folder.is_dir():
        raise TrainingError(f"the data set {dataset} is gone")
    return {path.name: [*_pieces(ray, path)] for path in sorted(folder.iterdir()) if path.is_file()}


def _pieces(ray: Any, path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield ray.put(piece)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
