"""How many CPUs this process may use: what a container is given counts, not what the host has."""

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


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


def threads_per_worker(quota: float, workers: int) -> int:
    """CPU threads of each of so many processes that share a quota: at least one, together not more than it."""
    return max(1, int(quota // workers))
