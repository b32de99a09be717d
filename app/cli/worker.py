"""`minist serve worker`: a supervisor of training jobs, alone or attached to the API's process."""

import logging
import logging.config
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from secrets import token_hex
from types import FrameType

from app.cli.deployment import await_home, read_settings
from app.interpreter import module_command
from app.jobs.gpus import one_each, visible_gpus
from app.jobs.machine import Machine
from app.jobs.supervisor import Supervisor
from app.jobs.webhooks import Courier
from app.settings import Settings
from app.store.supervisors import Heartbeat, Supervisors
from app.telemetry import logs

log = logging.getLogger("minist.jobs")

RETRY_SECONDS = 5.0


def supervise(attached: str | None) -> int:
    """Run jobs until a signal, MINIST_TRAIN_JOBS of training at a time.

    Attached, under the name that its parent gave: also until its input closes.
    """
    settings = read_settings()
    check_executor(settings)
    home = await_home(settings)
    logging.config.dictConfig(logs.config(settings.log_level))
    gpus = visible_gpus(os.environ) if settings.device in ("auto", "cuda") else []
    # a cluster finds a place by itself
    machine = None if settings.executor == "ray" else Machine.here(len(gpus))
    training, *more = (home.supervisor(gpu, machine) for gpu in one_each(settings.train_jobs, gpus))
    courier = home.courier()
    others: list[Supervisor | Courier] = [
        *more,
        home.importer(),
        home.weights_reader(),
        *([courier] if courier else []),
    ]

    def stop(number: int, frame: FrameType | None) -> None:
        for one in (training, *others):
            one.stop()

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C reaches the whole process group: an attached supervisor ends when its parent does
    signal.signal(signal.SIGINT, signal.SIG_IGN if attached else stop)
    with Heartbeat(home.supervisors, attached or token_hex(8), asdict(machine) if machine else None):
        alive = _watch_stdin() if attached else lambda: True
        threads = [threading.Thread(target=other.run, args=[alive], name=other.kind) for other in others]
        for thread in threads:
            thread.start()
        try:
            training.run(alive)
        finally:
            for other in others:
                other.stop()
            for thread in threads:
                thread.join()
    return 0


def check_executor(settings: Settings) -> None:
    """Ends the process with a line where jobs could never run."""
    if settings.executor == "ray" and find_spec("ray") is None:
        sys.exit("error: MINIST_EXECUTOR: Ray is not installed: pip install 'minist[ray]'")


def _watch_stdin() -> Callable[[], bool]:
    """Whether the process that started this one, and holds its standard input, is still there."""
    closed = threading.Event()

    def read() -> None:
        while os.read(0, 4096):
            pass
        closed.set()

    threading.Thread(target=read, name="watch", daemon=True).start()
    return lambda: not closed.is_set()


class AttachedSupervisor:
    """A supervisor as a child process, started again when it dies; it ends when this process does."""

    def __init__(self, supervisors: Supervisors) -> None:
        self._name = token_hex(8)
        supervisors.beat(self._name)  # jobs that come while it starts are not told that nobody takes them
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._let_go)
        self._thread = threading.Thread(target=self._keep, name="supervisor", daemon=True)
        self._thread.start()

    def _let_go(self) -> None:
        """In a fork: only the parent holds the child's standard input."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def _keep(self) -> None:
        command = module_command("app", "serve", "worker", "--attached", self._name)
        while not self._ending.is_set():
            try:
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
                self._process.wait()
                self._ending.wait(1)
            except OSError as error:  # no process or descriptor is free
                log.error("the training worker cannot be started (%s); it is tried again", error)
                self._ending.wait(RETRY_SECONDS)

    def end(self) -> None:
        """End the child and wait until it is gone."""
        self._ending.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(10)
