"""How many training workers are there, as this process last saw, and whether a job fits on one of them."""

from collections.abc import Mapping
from typing import Any

from app.jobs.machine import Machine, spelled
from app.store.supervisors import Supervisors

NOBODY = "no training worker is running: jobs wait until one is started (minist serve worker)"


class TrainingWorkers:
    """Counted now and then, in a thread: probes ask in the event loop."""

    def __init__(self, supervisors: Supervisors) -> None:
        self._supervisors = supervisors
        self.count = supervisors.count()

    def refresh(self) -> int:
        """Count them; the number. Reads the database."""
        self.count = self._supervisors.count()
        return self.count

    def warning(self, config: Mapping[str, Any] | None = None) -> str | None:
        """What the owner of a queued job with that config has to know. Reads the database."""
        if not self.refresh():
            return NOBODY
        asked = (config or {}).get("resources")
        return self._too_small(asked) if asked else None

    def _too_small(self, asked: Mapping[str, Any]) -> str | None:
        machines = [None if one is None else Machine(**one) for one in self._supervisors.machines()]
        if not machines or any(one is None or one.holds(asked) for one in machines):
            return None
        there = "; ".join(sorted({spelled(vars(one)) for one in machines if one}))
        return (
            f"no training worker has the {spelled(asked)} that the job asks for: it waits until one is started "
            f"on a machine that has. Those that run have {there}"
        )
