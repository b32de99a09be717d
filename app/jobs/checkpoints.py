"""What another machine needs to go on with a job: put into the object store after every epoch.

A thread beside the supervisor's does it: neither the run nor its heartbeats wait for the store. Where epochs
are shorter than uploads, the newest is uploaded next. Without an object store there is no thread.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy.exc import OperationalError

from app.jobs.executor import RunDirectory
from app.jobs.job import ClaimLost, Job
from app.jobs.queue import Queue
from app.store.errors import ArtifactsAway
from app.store.folders import Folders
from app.store.paths import run_place

log = logging.getLogger("minist.jobs")


@dataclass(frozen=True)
class Checkpoints:
    """Those of the jobs of one queue."""

    queue: Queue
    folders: Folders

    @contextmanager
    def following(self, job: Job, run: RunDirectory) -> Iterator[Callable[[], None]]:
        """Call what this yields after every epoch. At the end of the block an upload may still be under way:
        without the claim it comes to nothing."""
        if self.folders.objects is None:
            yield lambda: None
            return
        due, ending = threading.Event(), threading.Event()

        def follow() -> None:
            while not ending.is_set():
                due.wait()
                due.clear()
                if not ending.is_set():
                    self._try(job, run)

        thread = threading.Thread(target=follow, name="checkpoints", daemon=True)
        thread.start()
        try:
            yield due.set
        finally:
            ending.set()
            due.set()

    def _try(self, job: Job, run: RunDirectory) -> None:
        try:
            self.save(job, run)
        except (ArtifactsAway, OperationalError, OSError) as error:
            log.error("job %s: a checkpoint is not in the store; the run goes on: %s", job.id, error)
        except ClaimLost:
            return

    def save(self, job: Job, run: RunDirectory) -> None:
        """Upload the state of a run. Raises ClaimLost, ArtifactsAway, OperationalError or OSError."""
        with TemporaryDirectory(prefix=".checkpoint-", dir=run.path) as folder:
            files = {path.relative_to(folder).as_posix(): path for path in _copies(run, Path(folder))}
            upload = self.folders.upload("runs", files)
        with self.queue.database.write() as connection:
            self.queue.require_claim(connection, job)
            self.folders.keep(connection, upload, run_place(job.id))
        self.folders.sweep()


def _copies(run: RunDirectory, folder: Path) -> Iterator[Path]:
    """Of what a run goes on from, as of one epoch: the history is written first, so it is copied last."""
    trials = [
        part for trial in run.trials() for part in (trial.result, trial.choice, trial.resume, trial.metrics)
    ]
    for path in (run.config, run.corrections, *trials, run.choice, run.last_blocks, run.resume, run.metrics):
        copy = folder / path.relative_to(run.path)
        with suppress(FileNotFoundError):
            copy.parent.mkdir(parents=True, exist_ok=True)
            yield Path(shutil.copyfile(path, copy))
