"""How long what jobs leave behind is kept."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.jobs.queue import Queue
from app.store import audit
from app.store.paths import HomePaths, run_place
from app.store.versions import Versions

EVERY_SECONDS = 600.0
DAY = 86_400.0


@dataclass
class Retention:
    """Removes run directories, jobs and audit entries when they are old, and versions when they are many."""

    queue: Queue
    versions: Versions
    paths: HomePaths
    keep_versions: int
    keep_runs_days: float
    keep_jobs_days: float
    _pruned: float | None = field(default=None, init=False)

    def prune(self) -> None:
        """Remove what is too old; at most every ten minutes."""
        if self._pruned is not None and time.monotonic() - self._pruned < EVERY_SECONDS:
            return
        self._pruned = time.monotonic()
        self._remove_runs(self.queue.ended_before(time.time() - self.keep_runs_days * DAY))
        before = time.time() - self.keep_jobs_days * DAY
        old = self.queue.ended_before(before)
        self._remove_runs(old)
        self.queue.forget(old)
        audit.prune(self.versions.database, before)
        self.versions.folders.sweep()

    def _remove_runs(self, job_ids: Sequence[str]) -> None:
        """Of ended jobs: here, and in the object store."""
        for job_id in job_ids:
            shutil.rmtree(self.paths.run(job_id), ignore_errors=True)
        folders = self.versions.folders
        stored = {run_place(job_id) for job_id in job_ids} & folders.names() if folders.objects else ()
        if stored:  # most were let go when the job ended
            with self.versions.database.write() as connection:
                for place in sorted(stored):
                    folders.let_go(connection, place)

    def prune_versions(self, model: str) -> None:
        """Delete a model's oldest versions."""
        self.versions.prune(model, self.keep_versions)
