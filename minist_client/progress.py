"""What `wait` shows: a bar on a terminal, a line for each epoch elsewhere. On standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from minist_client.answers import EpochEvent, JobEvent, NoteEvent, StatusEvent, StepEvent

if TYPE_CHECKING:
    from rich.progress import Progress


class Display(Protocol):
    """Shows events as they come."""

    def show(self, event: JobEvent) -> None: ...


@contextmanager
def display(wanted: bool) -> Iterator[Display]:
    """One that fits where standard error leads; of nothing where it is not wanted."""
    if not wanted:
        yield _Nothing()
    elif sys.stderr.isatty():
        with _progress() as progress:
            yield _Bar(progress)
    else:
        yield _Lines()


class _Nothing:
    def show(self, event: JobEvent) -> None:
        pass


class _Lines:
    def show(self, event: JobEvent) -> None:
        if (line := _line(event)) is not None:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def _line(event: JobEvent) -> str | None:
    """Of what is worth a line."""
    if isinstance(event, EpochEvent):
        return f"epoch {event.epoch}{_of(event.epochs)}: {_figures(event)} ({event.split or 'training'})"
    if isinstance(event, StatusEvent):
        return event.status + (f": {event.error}" if event.error else "")
    return event.text if isinstance(event, NoteEvent) else None


def _of(epochs: int | None) -> str:
    return f" of {epochs}" if epochs else ""


def _figures(event: StepEvent | EpochEvent) -> str:
    figures = (("loss", event.loss), ("accuracy", event.accuracy))
    return " ".join(f"{name} {value:.4f}" for name, value in figures if value is not None)


def _progress() -> Progress:
    from rich.console import Console  # here: only what is shown needs it
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TextColumn("{task.fields[left]}"),
    )
    return Progress(*columns, console=Console(stderr=True))


class _Bar:
    """Over all epochs; what the run has decided stands above."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("queued", total=None, figures="", left="")

    def show(self, event: JobEvent) -> None:
        if isinstance(event, StepEvent):
            self._show_step(event)
        elif isinstance(event, EpochEvent):
            self._update(f"epoch {event.epoch}{_of(event.epochs)}", event.epoch, event.epochs, _figures(event))
        elif isinstance(event, StatusEvent):
            self._progress.update(self._task, description=event.status, left="")
        if isinstance(event, NoteEvent) or (isinstance(event, StatusEvent) and event.error):
            self._progress.console.print(_line(event), markup=False, highlight=False)

    def _show_step(self, event: StepEvent) -> None:
        done = max(0, event.epoch - 1) + (event.step / event.steps if event.steps else 0)
        left = "" if event.eta_seconds is None else f"{_clock(event.eta_seconds)} left"
        self._update(f"epoch {event.epoch}{_of(event.epochs)}", done, event.epochs, _figures(event), left)

    def _update(self, said: str, done: float, total: int | None, figures: str, left: str = "") -> None:
        self._progress.update(
            self._task, description=said, completed=done, total=total, figures=figures, left=left
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
