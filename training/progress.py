"""The progress of a run, on the terminal."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from training.events import Epoch, Event, Note, Resumed


class Display:
    """A live bar (only on a terminal) and a line per epoch. Use as a context manager; call with each Event."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[now]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> "Display":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def print(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Epoch):
            self.print(epoch_line(event))
            return
        if isinstance(event, Note):
            self.print(event.text)
            return
        if isinstance(event, Resumed):
            self.print(f"goes on after epoch {event.epochs[-1].epoch}")
            return
        now = (
            f"loss {event.loss:.4f}  accuracy {event.accuracy:.4f}  {event.images_per_second:,.0f} images/s"
            f"  ETA {event.eta_seconds:.0f} s"
        )
        epoch = f"{event.epoch}/{event.epochs}"
        if self.task is None:
            self.task = self.progress.add_task("", total=event.steps, epoch=epoch, now=now)
        self.progress.update(self.task, completed=event.step, total=event.steps, epoch=epoch, now=now)


def epoch_line(epoch: Epoch) -> str:
    """One epoch as one line of text."""
    width = len(str(epoch.epochs))
    return (
        f"epoch {epoch.epoch:{width}}/{epoch.epochs}  train loss {epoch.train_loss:.4f}  "
        f"train accuracy {epoch.train_accuracy:.4f}  {epoch.split} loss {epoch.loss:.4f}  "
        f"{epoch.split} accuracy {epoch.accuracy:.4f}  {epoch.seconds:.1f} s"
    )
