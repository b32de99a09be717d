"""Which GPU of NVIDIA's a training job gets where several run at a time."""

from collections.abc import Mapping
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each, on Linux


def visible_gpus(environment: Mapping[str, str], driver: Path = DRIVER) -> list[str]:
    """Those that a child of this process would see, as CUDA_VISIBLE_DEVICES names them, found without torch."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number, _ in enumerate(driver.iterdir())] if driver.is_dir() else []


def one_each(count: int, gpus: list[str]) -> list[str | None]:
    """The GPU of each of `count` jobs at a time, in turn; None where there is no choice."""
    if count == 1 or len(gpus) < 2:
        return [None] * count
    return [gpus[number % len(gpus)] for number in range(count)]
