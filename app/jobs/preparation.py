"""The run directory of a job, with all that its child needs."""

import json
from dataclasses import dataclass

from app.jobs.executor import RunDirectory
from app.jobs.queue import Job
from app.store.feedback import Feedback
from app.store.paths import HomePaths
from app.store.versions import Versions
from models.files import write_atomically


@dataclass(frozen=True)
class Preparation:
    """Makes run directories."""

    paths: HomePaths
    versions: Versions
    feedback: Feedback

    def prepare(self, job: Job) -> RunDirectory:
        """The run directory with its config, and the corrections where the job is to learn them.

        Both are written once: a job that is started again learns what it learned before. Raises OSError.
        """
        run = self.run_directory(job)
        if job.last and not run.config.exists():
            raise FileNotFoundError(f"the run directory {run.path} was deleted; its checkpoint is lost")
        run.path.mkdir(parents=True, exist_ok=True)
        if not run.config.exists():
            if job.feedback is not None:
                self._write_corrections(job, run)
            write_atomically(run.config, json.dumps(job.config, indent=2).encode() + b"\n")
        return run

    def run_directory(self, job: Job) -> RunDirectory:
        return RunDirectory(self.paths.run(job.id))

    def clear(self, job: Job) -> None:
        """Nothing: the next attempt goes on from what is there."""

    def _write_corrections(self, job: Job, run: RunDirectory) -> None:
        with self.versions.database.read() as connection:
            serving = self.versions.in_production(connection, job.model)
        before = serving.weights if serving else None
        versions = self.versions.snapshot().versions
        weights = {
            number: version.weights for (model, number), version in versions.items() if model == job.model
        }
        self.feedback.write(run.corrections, job.model, job.created_at, before, weights)
