"""The child process of a job: `python -m training work RUN`, watched over by a supervisor.

It speaks by lines of JSON on standard output (step, epoch, and at the end done or failed) and listens
on standard input: each line is a heartbeat. When the input closes, or no heartbeat comes for the length
of a lease, whoever started this process is gone or has lost its claim, and the process ends at once.
"""

import json
import os
import select
import signal
import sys
import threading
import time
from dataclasses import asdict
from errno import ENOSPC
from pathlib import Path

from models.devices import choose_device
from models.errors import ModelError
from training.errors import RunBusy, TrainingError
from training.events import Epoch, Event
from training.progress import epoch_line
from training.run import Run, train

FAILED, BUSY, ORPHANED = (
    1,
    75,
    76,
)  # exit codes: a sentence says why; the run is held by another; nobody listens
STEP_SECONDS = 0.5
NICENESS = 15  # requests go first


def work(directory: Path, data_dir: Path, device: str, lease: float) -> int:
    """Train the run in `directory` from its last checkpoint; returns the exit code."""
    if hasattr(os, "nice"):  # elsewhere the priority is the executor's to set
        os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the supervisor to deal with
    _watch(lease)
    try:
        run = Run.open(directory)
        train(run, data_dir, choose_device(device), _Reporter(), wait=lease)
    except RunBusy as error:
        print(error, file=sys.stderr)
        return BUSY
    except (TrainingError, ModelError) as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(_sentence(error, directory))
    _say(event="done")
    return 0


class _Reporter:
    """Says epochs at once and steps at most twice a second; epochs go to the log too."""

    def __init__(self) -> None:
        self._said = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Epoch):
            print(epoch_line(event), file=sys.stderr, flush=True)
            _say(event="epoch", **asdict(event))
        elif time.monotonic() - self._said >= STEP_SECONDS:
            self._said = time.monotonic()
            _say(event="step", **asdict(event))


def _say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def _failed(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    _say(event="failed", error=sentence)
    return FAILED


def _sentence(error: OSError, directory: Path) -> str:
    if error.errno == ENOSPC:
        return (
            f"the disk is full: {error.filename or directory} could not be written; free some space and resume"
        )
    if not (directory / "config.json").exists():
        return f"the run directory {directory} was deleted while the run went on"
    return f"{error.strerror or error}: {error.filename or directory}"


def _watch(lease: float) -> None:
    """End this process when heartbeats stop, even inside a long step."""

    def watch() -> None:
        while True:
            ready, _, _ = select.select([0], [], [], lease)
            if not ready or not os.read(0, 4096):
                os._exit(ORPHANED)

    threading.Thread(target=watch, name="watch", daemon=True).start()
