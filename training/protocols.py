"""What `training.run` and what trains on pictures or tables know of one another."""

from pathlib import Path
from typing import Protocol

from models.card import Card, Search
from training.directory import RunDirectory
from training.events import Epoch
from training.recipes import Config
from training.search import Score


class RunState(Protocol):
    """What is needed of `training.run.Run`."""

    @property
    def config(self) -> Config: ...
    @property
    def files(self) -> RunDirectory: ...
    @property
    def directory(self) -> Path: ...
    def history(self) -> list[Epoch]: ...
    def write_history(self, epochs: list[Epoch]) -> None: ...
    def search(self) -> Search | None: ...


class EndedRun(Protocol):
    """A run whose epochs are over."""

    def score(self) -> Score:
        """On validation inputs, as it would serve. Raises DatasetError where there are none, or Diverged."""

    def finish(self) -> Card:
        """Evaluate on the test set, once; write report, weights and card (the card last)."""
