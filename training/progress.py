"""The progress of a run, on the terminal."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from training.events import Epoch, Event, Note, Resumed, Step


class Display:
    """A live bar (only on a terminal) and a line per epoch, in 80 columns. Use as a context manager; call with
    each Event."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[now]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID = self.progress.add_task("starting", total=None, now="")

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
            if event.epoch == event.epochs:
                self._ends()
        elif isinstance(event, Note):
            self.print(event.text)
        elif isinstance(event, Resumed):
            self.print(f"goes on after epoch {event.epochs[-1].epoch}")
        else:
            what = f"epoch {event.epoch}/{event.epochs}"
            self.progress.update(
                self.task, description=what, completed=event.step, total=event.steps, now=_now(event)
            )

    def _ends(self) -> None:
        """After the last epoch the model is calibrated, tested and drawn, which takes seconds."""
        if self.console.is_terminal:
            self.progress.reset(self.task, description="testing, drawing", total=None, now="")
        else:
            self.print("testing, drawing")


def _now(step: Step) -> str:
    rate, left = f"{step.images_per_second:,.0f}/s", _duration(step.eta_seconds)
    return f"loss {step.loss:.4f}, accuracy {step.accuracy:.4f}  {rate}, {left} left"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def epoch_line(epoch: Epoch) -> str:
    """One epoch as one line of text: of training, and of what is held out."""
    width = len(str(epoch.epochs))
    train = f"loss {epoch.train_loss:.4f}, accuracy {epoch.train_accuracy:.4f}"
    held = f"{epoch.split} {epoch.loss:.4f}, {epoch.accuracy:.4f}"
    return f"epoch {epoch.epoch:{width}}/{epoch.epochs}  {train}; {held}  {epoch.seconds:.1f} s"
