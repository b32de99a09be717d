"""How many training workers are there, as this process last saw."""

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

    def warning(self) -> str | None:
        """What a new job's owner has to know. Reads the database."""
        return None if self.refresh() else NOBODY
