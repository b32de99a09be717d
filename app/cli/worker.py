"""`minist serve worker`: a supervisor of training jobs, alone or attached to the API's process."""

import logging.config
import signal
import subprocess
import threading
from types import FrameType

from app.cli.deployment import open_home, read_settings
from app.interpreter import module_command
from app.jobs.supervisor import stdin_is_open
from app.telemetry import logs


def supervise(attached: bool) -> int:
    """Run jobs until a signal; attached: also until standard input closes."""
    settings = read_settings()
    home = open_home(settings)
    logging.config.dictConfig(logs.config(settings.log_level))
    supervisor = home.supervisor()

    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.stop()

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C reaches the whole process group: an attached supervisor is told by its parent
    signal.signal(signal.SIGINT, signal.SIG_IGN if attached else stop)
    supervisor.run(alive=stdin_is_open if attached else lambda: True)
    return 0


class AttachedSupervisor:
    """A supervisor as a child process, started again when it dies; it ends when this process does."""

    def __init__(self) -> None:
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="supervisor", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        command = module_command("app", "serve", "worker", "--attached")
        while not self._ending.is_set():
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
            self._process.wait()
            self._ending.wait(1)

    def end(self) -> None:
        """End the child and wait until it is gone."""
        self._ending.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(10)
