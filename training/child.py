"""The child process of a job, `python -m training work RUN`, and its conversation with the supervisor.

It writes events as lines of JSON on standard output (step, epoch, and at the end done or failed) and reads
heartbeats, one per line, from standard input. When the input closes, or no heartbeat comes for the length of
a lease, the supervisor has died or has lost its claim on the job, and the process ends at once.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import asdict
from errno import ENOSPC
from pathlib import Path

from models.devices import choose_device
from models.errors import ModelError
from models.verification import load_verified
from training.directory import RunDirectory
from training.errors import RunBusy, TrainingError
from training.events import Epoch, Event
from training.progress import epoch_line
from training.run import Run, train

# Exit codes: failed for a reason that an event gives; another process holds the run; the supervisor is gone.
FAILED, BUSY, ORPHANED = 1, 75, 76
NICENESS = 15  # requests come first
STEP_SECONDS = 0.5  # between two step events
GRACE_SECONDS = 1.0  # after a lease, for heartbeats that came while this process itself was stopped


def work(directory: Path, data_dir: Path, device: str, lease: float) -> int:
    """Train the run in `directory` from its last checkpoint; returns the exit code."""
    if hasattr(os, "nice"):  # elsewhere the executor sets the priority
        os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is handled by the supervisor
    _end_without_heartbeats(lease)
    try:
        run = Run.open(directory)
        train(run, data_dir, choose_device(device), _Reporter(), wait=lease)
        load_verified(run.weights_path, choose_device("cpu"))  # what cannot answer is not published
    except RunBusy as error:
        print(error, file=sys.stderr)
        return BUSY
    except (TrainingError, ModelError) as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(_sentence(error, directory))
    _send(event="done")
    return 0


class _Reporter:
    """Sends every epoch, and a step at most twice a second; epochs are logged too."""

    def __init__(self) -> None:
        self._sent = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Epoch):
            print(epoch_line(event), file=sys.stderr, flush=True)
            _send(event="epoch", **asdict(event))
        elif time.monotonic() - self._sent >= STEP_SECONDS:
            self._sent = time.monotonic()
            _send(event="step", **asdict(event))


def _send(**message: object) -> None:
    print(json.dumps(message, allow_nan=False), flush=True)


def _failed(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    _send(event="failed", error=sentence)
    return FAILED


def _sentence(error: OSError, directory: Path) -> str:
    if error.errno == ENOSPC:
        return f"the disk is full: {error.filename or directory} cannot be written; free some space and resume"
    if not RunDirectory(directory).config.exists():
        return f"the run directory {directory} was deleted during the run"
    return f"{error.strerror or error}: {error.filename or directory}"


def _end_without_heartbeats(lease: float) -> None:
    """End this process when heartbeats stop, even in the middle of a long step.

    One thread reads, another waits: `select` on pipes exists on POSIX only.
    """
    heartbeats: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        while chunk := os.read(0, 4096):
            heartbeats.put(chunk)
        os._exit(ORPHANED)

    def wait() -> None:
        while True:
            try:
                heartbeats.get(timeout=lease)
            except queue.Empty:
                time.sleep(GRACE_SECONDS)
                if heartbeats.empty():
                    os._exit(ORPHANED)

    for task in (read, wait):
        threading.Thread(target=task, name=f"heartbeats-{task.__name__}", daemon=True).start()
