"""What this process takes, as the operating system says it."""

import os
import time
from pathlib import Path

_STATM = Path("/proc/self/statm")  # pages: all, resident, ..


def facts() -> dict[str, float | int | None]:
    """Its id, seconds of CPU until now, bytes of memory (None where that is not known), and the moment."""
    return {"pid": os.getpid(), "cpu": time.process_time(), "memory": _memory(), "at": time.time()}


def _memory() -> int | None:
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError, ValueError):  # not Linux
        return None
