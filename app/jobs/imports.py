"""Imports of data sets: jobs of a kind of their own, beside the training jobs.

Imports.submit: the file is kept, a row and a job in one transaction
==(supervisor, child process: training.importing.child)==> RUN/dataset
-> ImportPublication: renamed to datasets/NAME/N; row and job change together
"""

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from app.jobs.executor import (
    ImageProfile,
    RunDirectory,
    TableDraft,
    TableProfile,
    read_profile,
    same_options,
)
from app.jobs.job import ACTIVE, Job, Submitter
from app.jobs.queue import Queue
from app.jobs.transitions import cancel, resume
from app.store import locks
from app.store.datasets import IMAGES, Datasets, DatasetsFull, DatasetVersion, Imported, Source, remove
from app.store.tables import jobs
from app.store.versions import Versions
from models.datasets import DATASETS
from models.errors import CheckpointError
from models.files import flush_directory, write_atomically

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class DatasetInUse(Exception):
    """A job or the card of a version needs the data set."""


class DatasetNotReady(Exception):
    """The data set is still imported, or its import has failed."""


@dataclass(frozen=True)
class Request:
    """What is to be imported, as which data set, and how; `notify` is a URL that is told how the job ended."""

    name: str
    source: Source
    options: Mapping[str, Any]
    from_version: int | None = None
    corrections_of: str | None = None
    notify: str | None = None


@dataclass(frozen=True)
class Imports:
    """The data sets, as clients ask for them."""

    queue: Queue
    datasets: Datasets
    versions: Versions
    limit: int  # unfinished imports

    def submit(self, request: Request, submitter: Submitter) -> tuple[DatasetVersion, bool]:
        """The version that comes of the file and the options, and whether it is new.

        The same bytes and options give the same version; where its import had failed, it is tried again. A
        version that waits for its target becomes complete by it.
        Raises QueueFull, DatasetsFull or ArtifactsAway.
        """
        datasets = self.datasets
        upload = datasets.upload_source(request.source)
        with datasets.database.write(locks.DATASETS, locks.QUEUE) as connection:
            before = datasets.of_source(connection, request.name, request.source.digest)
            found = next((one for one in before if one.options in same_options(request.options)), None)
            if found is not None and found.status != "failed":
                return found, False
            datasets.keep_source(connection, request.source, upload)
            if found is not None:
                return self._again(connection, found, submitter, request.notify), False
            waiting = [one for one in before if one.status == "needs_target"]
            if waiting and request.options.get("target") is not None:
                datasets.set_options(connection, waiting[-1], request.options)
                told = replace(waiting[-1], options=request.options)
                return self._again(connection, told, submitter, request.notify), False
            number = datasets.next_version(connection, request.name)
            config = _config(request.name, number, request.source.digest, request.options)
            job = self.queue.add_import(connection, request.name, config, self.limit, submitter, request.notify)
            version = datasets.add(
                connection,
                request.name,
                number,
                job_id=job.id,
                kind=request.options.get("kind", IMAGES),
                options=dict(request.options),
                source=request.source.digest,
                source_bytes=request.source.bytes,
                from_version=request.from_version,
                corrections_of=request.corrections_of,
                submitted_by=submitter.who,
            )
        return version, True

    def _again(
        self, connection: Connection, version: DatasetVersion, submitter: Submitter, notify: str | None
    ) -> DatasetVersion:
        """Queue the import of a version once more: its job, or a new one where that is gone or succeeded."""
        status = connection.scalar(select(jobs.c.status).where(jobs.c.id == version.job_id))
        if status in ("failed", "cancelled") and version.job_id is not None:
            resume(connection, version.job_id, self.limit, notify)
        else:
            config = _config(version.name, version.version, version.source, version.options)
            job = self.queue.add_import(connection, version.name, config, self.limit, submitter, notify)
            self.datasets.set_job(connection, version, job.id)
            self.datasets.forget_import(connection, version)
        return self.datasets.inside(connection, version.name, version.version)

    def require_room(self) -> None:
        """Raises DatasetsFull where nothing more can be taken."""
        used, most = self.datasets.used(), self.datasets.keep_bytes
        if used >= most:
            raise DatasetsFull(f"the data sets take {used:,} of {most:,} bytes")

    def source_of(self, version: DatasetVersion) -> Source:
        """The file that a version came as. Raises DatasetNotReady where it is gone, or ArtifactsAway."""
        path = self.datasets.bring_source(version.source)
        if not path.exists():
            raise DatasetNotReady(f"the file that {version.reference} came as is not kept any more")
        return Source(path, version.source, version.source_bytes)

    def pin(self, reference: str) -> DatasetVersion:
        """The version that a training job will use: `NAME@2`, or the newest ready one of `NAME`.

        Raises NoSuchDataset or DatasetNotReady.
        """
        wanted = self.datasets.find(reference)
        if "@" not in reference:
            ready = [one for one in self.datasets.versions(wanted.name) if one.status == "ready"]
            wanted = ready[0] if ready else wanted
        if wanted.status != "ready":
            waits = "which column is its target was not said yet: POST /datasets/NAME/versions says it"
            why = wanted.error or (waits if wanted.status == "needs_target" else "it is still being imported")
            raise DatasetNotReady(f"{wanted.reference} is not ready: {why}")
        return wanted

    def suggestion(self, reference: str) -> str:
        """What may have been meant by a name that is not there."""
        names = [*DATASETS, *self.datasets.names()]
        near = get_close_matches(reference.partition("@")[0][:64], names, 1)
        return f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names[:20])}"

    def delete(self, wanted: list[DatasetVersion], force: bool) -> None:
        """Remove versions; imports that are under way are cancelled. Raises DatasetInUse unless `force`."""
        gone: list[Path] = []
        with self.datasets.database.write(locks.DATASETS) as connection:
            for version in wanted:
                if not force and (user := self._user(connection, version)) is not None:
                    raise DatasetInUse(f"{version.reference} is needed by {user}")
                if version.job_id is not None:
                    cancel(connection, version.job_id)
                gone += self.datasets.delete(connection, version)
        for path in gone:
            remove(path)
        self.datasets.folders.sweep()

    def _user(self, connection: Connection, version: DatasetVersion) -> str | None:
        """A job that will read it, or a model whose test set it is."""
        unfinished = select(jobs.c.id, jobs.c.config).where(jobs.c.status.in_(ACTIVE), jobs.c.kind != "import")
        for row in connection.execute(unfinished):
            if row.config.get("dataset") == version.reference:
                return f"job {row.id}"
        for model in self.versions.snapshot().versions.values():
            with suppress(CheckpointError):
                facts = model.card().dataset
                if facts is not None and facts.name == version.reference:
                    return f"{model.model}@{model.version}, whose test set it is"
        return None


def is_name(name: str) -> bool:
    """Whether a data set may be called so."""
    return _NAME.fullmatch(name) is not None


def folder_of(version: DatasetVersion, *names: str) -> Path:
    """The folder of what was imported, with all files or those named.

    Raises DatasetNotReady where it is gone, or ArtifactsAway.
    """
    try:
        return version.bring(*names)
    except CheckpointError as error:
        raise DatasetNotReady(f"{version.reference} is not in the store any more: import it again") from error


def profile_of(version: DatasetVersion) -> ImageProfile | TableProfile | TableDraft:
    """What an import found. Raises DatasetNotReady where that cannot be read, or ArtifactsAway."""
    try:
        return read_profile(folder_of(version, "profile.json"))
    except (OSError, ValueError) as error:
        raise DatasetNotReady(f"{version.reference} cannot be read: import it again") from error


def is_built_in(name: str) -> bool:
    """Whether the name is of a data set that comes with the service."""
    return name in DATASETS


def _config(name: str, version: int, source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the child reads; `recipe` and `epochs` as every job has them."""
    order = {"dataset": name, "version": version, "source": source, "options": dict(options)}
    return {"recipe": "import", "epochs": 1, **order}


@dataclass(frozen=True)
class ImportPreparation:
    """Makes the run directories of imports."""

    datasets: Datasets

    def prepare(self, job: Job) -> RunDirectory:
        """The run directory with what is to be imported. Raises OSError or ArtifactsAway."""
        self.datasets.bring_source(job.config["source"])
        run = self.run_directory(job)
        run.path.mkdir(parents=True, exist_ok=True)
        write_atomically(run.config, json.dumps(job.config, indent=2).encode() + b"\n")
        return run

    def run_directory(self, job: Job) -> RunDirectory:
        return RunDirectory(self.datasets.paths.run(job.id))

    def clear(self, job: Job) -> None:
        """Remove what an attempt has left that was not published."""
        shutil.rmtree(self.run_directory(job).dataset, ignore_errors=True)


@dataclass(frozen=True)
class ImportPublication:
    """Makes what an import left the version that it was asked for."""

    queue: Queue
    datasets: Datasets

    def publish(self, job: Job, run: RunDirectory) -> int:
        """The version. Raises ClaimLost, CheckpointError for a profile that cannot be read, ArtifactsAway or
        OSError."""
        name, number = job.config["dataset"], job.config["version"]
        there = self.datasets.paths.dataset(name, number)  # where a transaction that failed may have moved it
        imported = Imported.read(run.dataset if run.dataset.exists() or not there.exists() else there)
        flush_directory(imported.directory)  # takes long, as the upload; others wait for the transaction
        upload = self.datasets.upload(imported)
        with self.datasets.database.write(locks.DATASETS) as connection:
            self.queue.require_claim(connection, job)
            self.datasets.complete(connection, name, number, imported, upload)
            self.queue.finish(connection, job, number)
        return int(number)
