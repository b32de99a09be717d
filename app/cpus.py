"""How many CPUs and how much memory there are: what a container is given counts, not what the host has."""

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_MEMORY = "memory.max", "memory/memory.limit_in_bytes"  # of a container: cgroup v2, v1
FIRST_BYTES = 1 << 30  # of memory, for one worker with its decoders, and a training job that is small
WORKER_BYTES = 512 << 20  # for each further one: most of a fork is shared, decoders and requests are its own
MAX_WORKERS = 64


def cpu_quota(root: Path = CGROUPS) -> float:
    """CPUs' worth of time: the container's quota (cgroup v2, then v1), at most those we may run on."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _quota_v2(root) or _quota_v1(root)
    return allowed if quota is None else min(allowed, quota)


def _quota_v2(root: Path) -> float | None:
    """`cpu.max` holds "max 100000" or "150000 100000": microseconds per period of microseconds."""
    words = _words(root / "cpu.max")
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdecimal() else None


def _quota_v1(root: Path) -> float | None:
    for folder in ("cpu", "cpu,cpuacct"):
        quota = _words(root / folder / "cpu.cfs_quota_us")
        period = _words(root / folder / "cpu.cfs_period_us")
        if quota and period and int(quota[0]) > 0:  # -1: no limit
            return int(quota[0]) / int(period[0])
    return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def memory(root: Path = CGROUPS) -> int | None:
    """Bytes that this container, or this machine, has; None where the system does not say."""
    limits = [int(text) for name in _MEMORY if (text := "".join(_words(root / name))).isdecimal()]
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)


def workers_for(quota: float, memory_bytes: int | None) -> int:
    """API workers that so much has room for: at least one, at most one for each whole CPU."""
    if memory_bytes is None:
        return 1
    return max(1, min(int(quota), 1 + (memory_bytes - FIRST_BYTES) // WORKER_BYTES, MAX_WORKERS))


def threads_per_worker(quota: float, workers: int) -> int:
    """CPU threads of each of so many processes that share a quota: at least one, together not more than it."""
    return max(1, int(quota // workers))
