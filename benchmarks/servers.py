"""Processes that listen: started, watched, stopped for a while, ended with all their children."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.upload import Way, label_of

ROOT = Path(__file__).parent.parent
DIGITS = [ROOT / "examples" / f"{label}.png" for label in range(10)]


class NoAnswer(Exception):
    """A server ended, or was silent for too long; the message is its first error, or its last line."""


@dataclass(frozen=True)
class Server:
    """A process that was started, and where it listens. It leads a process group of its own."""

    process: subprocess.Popen[bytes]
    port: int

    def signal(self, number: signal.Signals) -> None:
        """To all processes of the group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self) -> None:
        self.signal(signal.SIGCONT)
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(40)
        self.signal(signal.SIGKILL)  # what the first process left behind
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(
    words: list[str], port: int, way: Way, log: Path, environment: Mapping[str, str], cwd: Path = ROOT
) -> Iterator[Server]:
    """A server that answers the first digit rightly; ended at the end. Raises NoAnswer."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env={**os.environ, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port)
    try:
        _wait_for_answer(server, way, log)
        yield server
    finally:
        server.end()


def _wait_for_answer(server: Server, way: Way, log: Path) -> None:
    until = time.monotonic() + 120
    while server.process.poll() is None and time.monotonic() < until:
        try:
            if label_of(server.port, way, DIGITS[7].read_bytes()) == "7":
                return
        except (OSError, http.client.HTTPException, ValueError):
            time.sleep(0.02)
    said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
    told = next((line for line in said if "error" in line.lower()), said[-1])
    raise NoAnswer(f"no right answer on port {server.port}: {told}")


@contextmanager
def awake(server: Server) -> Iterator[None]:
    """A stopped server runs for a while. Some use a tenth of a core when idle."""
    server.signal(signal.SIGCONT)
    try:
        yield
    finally:
        server.signal(signal.SIGSTOP)


def tree(pid: int) -> list[int]:
    children = (_text(path).split() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [pid, *(found for words in children for child in words for found in tree(int(child)))]


def cpu_seconds(pid: int) -> float:
    """What a process and its children have used, with those that have ended."""
    stats = (_text(Path(f"/proc/{one}/stat")).rpartition(")")[2].split() for one in tree(pid))
    return sum(int(word) for words in stats for word in words[11:15]) / os.sysconf("SC_CLK_TCK")


def _text(path: Path) -> str:
    """Nothing where the process has just ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
