"""The child process of a training job, `python -m training work RUN` (see `training.supervision`)."""

import sys
import time
from dataclasses import asdict
from errno import ENOSPC
from pathlib import Path

from models.devices import choose_device
from models.errors import ModelError
from models.verification import load_verified
from training.directory import RunDirectory
from training.errors import ClusterAway, RunBusy, TrainingError
from training.events import Epoch, Event, Note, Resumed
from training.progress import epoch_line
from training.remote.driver import Cluster, train_in_cluster
from training.run import Run, train
from training.supervision import BUSY, LATER, STEP_SECONDS, begin, failed, send


def work(
    directory: Path,
    data_dir: Path,
    device: str,
    lease: float,
    datasets_dir: Path | None = None,
    ray: str | None = None,
) -> int:
    """Train the run in `directory` from its last checkpoint; returns the exit code.

    `datasets_dir` holds the data sets that were imported, as NAME/VERSION. With `ray`, the address of a
    cluster, it is trained there.
    """
    begin(lease)
    try:
        run = Run.open(directory)
        if ray is None:
            train(run, data_dir, choose_device(device), _Reporter(), wait=lease, datasets_dir=datasets_dir)
        else:
            cluster = Cluster(ray, data_dir, device, datasets_dir)
            train_in_cluster(run, cluster, _Reporter(), wait=lease)
        load_verified(run.weights_path, choose_device("cpu"))  # what cannot answer is not published
    except RunBusy as error:
        print(error, file=sys.stderr)
        return BUSY
    except ClusterAway as error:
        print(error, file=sys.stderr)
        return LATER
    except (TrainingError, ModelError) as error:
        return failed(str(error))
    except OSError as error:
        return failed(_sentence(error, directory))
    send(event="done")
    return 0


class _Reporter:
    """Sends every epoch, and a step at most twice a second; epochs are logged too."""

    def __init__(self) -> None:
        self._sent = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Epoch):
            print(epoch_line(event), file=sys.stderr, flush=True)
            send(event="epoch", **asdict(event))
        elif isinstance(event, Note):
            print(event.text, file=sys.stderr, flush=True)
            send(event="note", text=event.text, **({} if event.trial is None else {"trial": event.trial}))
        elif isinstance(event, Resumed):
            for epoch in event.epochs:
                send(event="epoch", again=True, **asdict(epoch))
        elif time.monotonic() - self._sent >= STEP_SECONDS:
            self._sent = time.monotonic()
            send(event="step", **asdict(event))


def _sentence(error: OSError, directory: Path) -> str:
    if error.errno == ENOSPC:
        return f"the disk is full: {error.filename or directory} cannot be written; free some space and resume"
    if not RunDirectory(directory).config.exists():
        return f"the run directory {directory} was deleted during the run"
    return f"{error.strerror or error}: {error.filename or directory}"
