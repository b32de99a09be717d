"""What a machine has for training jobs, and whether a job that asks for resources fits on it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func

from app.cpus import cpu_quota, memory
from app.store.tables import jobs

ASKED = ("cpus", "memory_bytes", "gpus")


@dataclass(frozen=True)
class Machine:
    """CPUs, bytes of memory (None: not known, so no bound), and GPUs: of all jobs on it together.

    A job is put where it fits at all. Nothing is set aside for it: how many run at a time is MINIST_TRAIN_JOBS.
    """

    cpus: int
    memory_bytes: int | None
    gpus: int

    @classmethod
    def here(cls, gpus: int) -> "Machine":
        return cls(max(1, int(cpu_quota())), memory(), gpus)

    def holds(self, asked: Mapping[str, Any] | None) -> bool:
        """Whether a job that asks for this may be started here."""
        return all(((asked or {}).get(name) or 0) <= most for name, most in self._bounds())

    def fits(self) -> ColumnElement[bool]:
        """The same as a condition on rows of jobs."""
        return and_(*(func.coalesce(_asked(name), 0) <= most for name, most in self._bounds()))

    def _bounds(self) -> list[tuple[str, int]]:
        return [(name, most) for name, most in asdict(self).items() if most is not None]


def _asked(name: str) -> ColumnElement[Any]:
    found: ColumnElement[Any] = jobs.c.config["resources"][name].as_float()
    return found


def spelled(resources: Mapping[str, Any]) -> str:
    """In a sentence: "2 CPUs, 4.0 GiB of memory and 1 GPU"."""
    parts = [
        _counted(resources.get("cpus"), "CPU"),
        f"{resources['memory_bytes'] / 1024**3:.1f} GiB of memory" if resources.get("memory_bytes") else "",
        _counted(resources.get("gpus"), "GPU"),
    ]
    *first, last = [part for part in parts if part] or ["nothing"]
    return f"{', '.join(first)} and {last}" if first else last


def _counted(count: int | None, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}" if count else ""
