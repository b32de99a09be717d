"""Weights that people bring: jobs of a kind of their own, beside training jobs and imports.

WeightsUploads.submit: a job, and the file in its run directory, in one transaction
==(supervisor, child process: training.foreign.child)==> RUN/NAME.pth and its card
-> Publication: as the result of a training job
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.jobs.executor import RunDirectory
from app.jobs.job import TERMINAL, Job, Submitter
from app.jobs.promotion import Rule
from app.jobs.queue import Queue
from app.store import locks
from app.store.datasets import IMPORTED, Datasets, Source
from app.store.paths import run_place
from models.errors import CheckpointError
from models.files import flush, write_atomically

RECIPE = "weights"  # what such a job has in place of a recipe


@dataclass(frozen=True)
class WeightsRequest:
    """A file, the model that gets a version of it, and how it is read: `card` as `executor.check_card` gives
    it, `dataset` a built-in one or `NAME@n`; `notify` is a URL that is told how the job ended."""

    model: str
    source: Source
    card: Mapping[str, Any]
    dataset: str | None
    calibrate: bool
    promote: Rule
    notify: str | None = None

    def config(self) -> dict[str, Any]:
        """What the child reads; `recipe` and `epochs` as every job has them."""
        said = {"card": dict(self.card), "dataset": self.dataset, "calibrate": self.calibrate}
        return {"recipe": RECIPE, "epochs": 1, "name": self.model, "source": self.source.digest, **said}


@dataclass(frozen=True)
class WeightsUploads:
    """The uploads, as clients ask for them."""

    queue: Queue
    datasets: Datasets
    limit: int  # unfinished ones

    def submit(self, request: WeightsRequest, submitter: Submitter) -> Job:
        """A job that reads the file, which is moved into its run directory.

        Raises QueueFull, OSError or ArtifactsAway.
        """
        upload = self.datasets.folders.upload("uploads", {"": request.source.path})
        with self.queue.database.write(locks.QUEUE) as connection:
            job = self.queue.add_weights(
                connection,
                request.model,
                request.config(),
                request.promote,
                self.limit,
                submitter,
                request.notify,
            )
            run = RunDirectory(self.datasets.paths.run(job.id))
            self.datasets.folders.keep(connection, upload, _place(job))
            try:
                run.path.mkdir(parents=True)
                request.source.path.replace(run.upload)
                flush(run.path)
            except OSError:
                shutil.rmtree(run.path, ignore_errors=True)
                raise
        return job


@dataclass(frozen=True)
class WeightsPreparation:
    """Makes the run directories of uploads ready."""

    datasets: Datasets
    queue: Queue

    def prepare(self, job: Job) -> RunDirectory:
        """The run directory with what its child has to know. Raises OSError or ArtifactsAway."""
        run = self.run_directory(job)
        with suppress(CheckpointError):
            self.datasets.folders.bring(_place(job))
            if (imported := IMPORTED.fullmatch(job.config.get("dataset") or "")) is not None:
                self.datasets.bring(imported[1], int(imported[2]))
        if not run.upload.exists():
            raise FileNotFoundError("the file that was uploaded is not kept any more: upload it again")
        for half in (run.weights(job.model), run.card(job.model)):  # of an attempt that died
            half.unlink(missing_ok=True)
        write_atomically(run.config, json.dumps(job.config, indent=2).encode() + b"\n")
        return run

    def run_directory(self, job: Job) -> RunDirectory:
        return RunDirectory(self.datasets.paths.run(job.id))

    def clear(self, job: Job) -> None:
        """Remove the file once the job has ended: what was made of it is a version, or it cannot be used."""
        now = self.queue.get(job.id)
        if now is None or now.status in TERMINAL:
            with suppress(OSError):
                self.run_directory(job).upload.unlink()
            if self.datasets.folders.objects is not None:
                with self.queue.database.write() as connection:
                    self.datasets.folders.let_go(connection, _place(job))
                self.datasets.folders.sweep()


def _place(job: Job) -> str:
    """Of the file that was uploaded, under MINIST_HOME and in the object store."""
    return f"{run_place(job.id)}/upload"
