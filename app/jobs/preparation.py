"""The run directory of a job, with all that its child needs, on whichever machine it is."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.jobs.executor import RunDirectory
from app.jobs.job import Job
from app.store.datasets import IMPORTED, Datasets
from app.store.feedback import Feedback
from app.store.paths import HomePaths, run_place
from app.store.versions import Version, Versions
from models.errors import CheckpointError
from models.files import write_atomically


@dataclass(frozen=True)
class Preparation:
    """Makes run directories."""

    paths: HomePaths
    versions: Versions
    feedback: Feedback
    datasets: Datasets

    def prepare(self, job: Job) -> RunDirectory:
        """The run directory with its config, and the corrections where the job is to learn them.

        Both are written once: a job that is started again learns what it learned before. With an object store
        it goes on from the newest checkpoint of any machine, or else begins anew. Raises OSError or
        ArtifactsAway.
        """
        run = self.run_directory(job)
        stored = self._bring_run(job, run)
        self._bring_dataset(job.config.get("dataset"))
        if job.last and not run.config.exists() and self.datasets.folders.objects is None:
            raise FileNotFoundError(f"the run directory {run.path} was deleted; its checkpoint is lost")
        run.path.mkdir(parents=True, exist_ok=True)
        if not run.config.exists():
            if job.feedback is not None:
                self._write_corrections(job, run)
            write_atomically(run.config, json.dumps(job.config, indent=2).encode() + b"\n")
        elif stored and run.corrections.exists():
            self._find_versions(job, run)
        return run

    def _bring_run(self, job: Job, run: RunDirectory) -> bool:
        """Fetch the checkpoint, unless the one that is here is as new; whether there is one in the store."""
        facts, name = self.versions.folders.facts(run_place(job.id)), run.metrics.name
        if not facts:
            return False
        there = sum(one.bytes for path, one in facts.items() if path.rpartition("/")[2] == name)
        if _progress(run) < there:
            with suppress(CheckpointError):  # gone after all: it goes on from what is here, or begins anew
                self.versions.folders.bring(run_place(job.id))
        return True

    def _bring_dataset(self, name: Any) -> None:
        """What the child will say better where it is gone."""
        if (imported := IMPORTED.fullmatch(str(name))) is not None:
            with suppress(CheckpointError):
                self.datasets.bring(imported[1], int(imported[2]))

    def run_directory(self, job: Job) -> RunDirectory:
        return RunDirectory(self.paths.run(job.id))

    def clear(self, job: Job) -> None:
        """Nothing: the next attempt goes on from what is there."""

    def _write_corrections(self, job: Job, run: RunDirectory) -> None:
        with self.versions.database.read() as connection:
            serving = self.versions.in_production(connection, job.model)
        before = serving.weights if serving else None
        weights = {number: version.weights for number, version in self._versions(job).items()}
        self.feedback.write(run.corrections, job.model, job.created_at, before, weights)
        self._find_versions(job, run)

    def _versions(self, job: Job) -> Mapping[int, Version]:
        found = self.versions.snapshot().versions.items()
        return {number: version for (model, number), version in found if model == job.model}

    def _find_versions(self, job: Job, run: RunDirectory) -> None:
        """Fetch the versions that the corrections name, and the data set of the one that served; say where they
        lie on this machine."""
        if self.versions.folders.objects is None:
            return
        body, versions = json.loads(run.corrections.read_bytes()), self._versions(job)
        for number in map(int, body["weights"]):
            body["weights"][str(number)] = self._here(versions.get(number), job.model, number)
        if body["before"]:
            number = int(Path(body["before"]).parent.name)
            body["before"] = self._here(version := versions.get(number), job.model, number)
            with suppress(CheckpointError):
                facts = version.card().dataset if version else None
                self._bring_dataset(facts.name if facts else None)
        write_atomically(run.corrections, json.dumps(body).encode(), mode=0o600)

    def _here(self, version: Version | None, model: str, number: int) -> str:
        with suppress(CheckpointError):  # the child says it better
            if version is not None:
                version.bring()
        return str((self.paths.version(model, number) / f"{model}.pth").absolute())


def _progress(run: RunDirectory) -> int:
    """Grows with every epoch, which is a line in a file; -1 without such a file."""
    histories = [part.metrics for part in (run, *run.trials()) if part.metrics.exists()]
    return sum(path.stat().st_size for path in histories) if histories else -1
