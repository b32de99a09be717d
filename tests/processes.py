"""The service as a process, and what can be asked of the operating system about it."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx2

from tests.conftest import ADMIN, ADMIN_KEY, ROOT, SAMPLE


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def service(
    home: Path,
    *words: str,
    port: int | None = None,
    command: Sequence[str] = (sys.executable, "-m", "app", "serve"),
    cwd: Path = ROOT,
    stdout: int | None = None,
    **settings: str,
) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client]]:
    """`minist serve` on a free port, ready to answer; killed at the end if it still runs.

    What it prints goes to `service.log` in its home, or its standard output to where `stdout` says.
    """
    port = port or free_port()
    environment = {
        **os.environ,
        "MINIST_HOME": str(home),
        "MINIST_DATA_DIR": str(SAMPLE),
        "MINIST_DEVICE": "cpu",
        "MINIST_API_KEY": ADMIN_KEY,
        **settings,
    }
    with (home / "service.log").open("a") as log:
        process = subprocess.Popen(
            [*command, *words, "--port", str(port)],
            cwd=cwd,
            env=environment,
            stdout=log if stdout is None else stdout,
            stderr=log,
            text=True,
        )
    try:
        with httpx2.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False, headers=ADMIN
        ) as client:
            wait_until_ready(process, client)
            yield process, client
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_until_ready(process: subprocess.Popen[str], client: httpx2.Client) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.05)
    raise AssertionError("not ready; see service.log")


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def settled_mib(pid: int) -> float:
    """Resident memory once it rests: the other models are loaded and frozen after the start."""
    before, now = 0.0, resident_mib(pid)
    for _ in range(60):
        if abs(now - before) < 0.5:
            break
        time.sleep(2)
        before, now = now, resident_mib(pid)
    return now


def cpu_seconds(pid: int) -> float:
    """Of a process, without its children; 0 once it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")


T = TypeVar("T")


def children(pid: int) -> list[int]:
    """Pids of the processes that a process has started."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in path.read_text().split()]
        except OSError:  # a thread has just ended
            continue
    return found


def supervisor_of(process: subprocess.Popen[str]) -> int:
    """Pid of the training worker beside an API."""
    (found,) = [
        pid
        for pid in children(process.pid)
        if b"--attached" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]
    return found


def wait_for(what: Callable[[], T | None], seconds: float = 180) -> T:
    """What comes of it; a job's process has the lowest priority, so on a busy machine it may take long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Pids of the API's workers, which are larger than the training worker beside them."""

    def is_large(pid: int) -> bool:
        try:
            return resident_mib(pid) > 150
        except (OSError, AssertionError):  # it has just ended
            return False

    return [pid for pid in children(process.pid) if alive(pid) and is_large(pid)]


def own_mib(pid: int) -> float:
    """Memory of a process and of those that it has started, what they share counted once (PSS), in MiB."""
    sizes = [line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if "Pss:" in line]
    return int(sizes[0].split()[1]) / 1024 + sum(own_mib(child) for child in children(pid))


def run_job(client: httpx2.Client) -> dict[str, object]:
    """A short job from request to result; it has succeeded."""
    request = {"model": "mine", "recipe": "softmax-mnist", "epochs": 1, "validation_images": 100}
    url = f"/train/{client.post('/train', json=request).raise_for_status().json()['id']}"

    def ended() -> dict[str, object] | None:
        job: dict[str, object] = client.get(url).raise_for_status().json()
        return None if job["status"] in ("queued", "running") else job

    job = wait_for(ended)
    assert job["status"] == "succeeded", job
    return job
