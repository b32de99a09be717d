"""The conversation of a job's process with its supervisor. Imports nothing of ours.

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
from types import FrameType

# Exit codes: failed for a reason that an event gives; what it needs is away, so that it is to be tried later;
# another process holds the run; the supervisor is gone.
FAILED, LATER, BUSY, ORPHANED = 1, 69, 75, 76
NICENESS = 15  # requests come first
STEP_SECONDS = 0.5  # between two step events
LAST_SECONDS = 10  # of CPU, to say that the others are over
GRACE_SECONDS = 1.0  # after a lease, for heartbeats that came while this process itself was stopped


def begin(lease: float) -> None:
    """Work at low priority, as long as heartbeats come."""
    if hasattr(os, "nice"):  # elsewhere the executor sets the priority
        os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is handled by the supervisor
    _end_without_heartbeats(lease)


def limit(memory: int, file_bytes: int, cpu_seconds: int | None = None) -> None:
    """Of this process, where the system has such limits: bytes of memory (files that are mapped do not count),
    bytes of a file that it writes, seconds of CPU."""
    try:
        import resource
    except ImportError:  # not on this system
        return
    for kind, most in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, file_bytes)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    if cpu_seconds is not None:
        signal.signal(signal.SIGXCPU, _out_of_time)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + LAST_SECONDS))


class OutOfTime(Exception):
    """The CPU seconds of this process are over."""


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


def send(**message: object) -> None:
    """Tell the supervisor."""
    sys.stdout.write(json.dumps(message, allow_nan=False) + "\n")
    sys.stdout.flush()


def failed(sentence: str) -> int:
    """Tell the supervisor why, and the log; the exit code."""
    sys.stderr.write(f"error: {sentence}\n")
    send(event="failed", error=sentence)
    return FAILED


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
