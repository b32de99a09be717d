"""Everything under MINIST_HOME, opened."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from filelock import FileLock
from sqlalchemy.exc import OperationalError

from app.jobs.checkpoints import Checkpoints
from app.jobs.deliveries import Deliveries
from app.jobs.executor import Executor, ImportExecutor, LocalExecutor, RayExecutor, WeightsExecutor
from app.jobs.imports import ImportPreparation, ImportPublication, Imports
from app.jobs.machine import Machine
from app.jobs.preparation import Preparation
from app.jobs.publication import Publication
from app.jobs.queue import Queue
from app.jobs.retention import Retention
from app.jobs.supervisor import Limits, Supervisor
from app.jobs.webhooks import Courier
from app.jobs.weights import WeightsPreparation, WeightsUploads
from app.settings import Settings
from app.store.answered import AnsweredHours
from app.store.cache import Cache
from app.store.database import Database
from app.store.dataset_recovery import reconcile_datasets
from app.store.datasets import Datasets
from app.store.errors import DatabaseAway, StoreError, reason
from app.store.feedback import Feedback
from app.store.folders import Folders
from app.store.keys import Keys
from app.store.moving import move_in
from app.store.objects import Objects
from app.store.paths import HomePaths
from app.store.recovery import reconcile
from app.store.shipped import publish_shipped
from app.store.sqlite import BUSY_SECONDS
from app.store.supervisors import Supervisors
from app.store.versions import Versions

WEIGHTS_SECONDS = 900.0  # of CPU that uploaded weights may take


@dataclass(frozen=True)
class Home:
    """The database and everything that is kept in it or beside it."""

    settings: Settings
    paths: HomePaths
    database: Database
    queue: Queue
    versions: Versions
    keys: Keys
    feedback: Feedback
    supervisors: Supervisors
    datasets: Datasets

    @classmethod
    def open(cls, settings: Settings) -> "Home":
        """Create or migrate it; the shipped weights become versions. Safe in several processes.

        Raises StoreError where the database is damaged or too new, DatabaseAway where its server does not
        answer, and OSError where nothing can be written.
        """
        paths = HomePaths(settings.home)
        # a claimant that waits for the database must be back before its lease is over
        database = Database(
            settings.home,
            min(BUSY_SECONDS, settings.lease_seconds / 4),
            settings.database_address,
            settings.database_connections,
        )
        folders = folders_of(settings, database)
        versions = Versions(database, paths, folders)
        datasets = Datasets(database, paths, settings.keep_datasets_bytes, folders)
        with FileLock(paths.lock), _away(database):  # several processes may start at once, also on a new volume
            database.migrate()
            reconcile(versions)
            publish_shipped(versions)
            reconcile_datasets(datasets)
            move_in(versions, datasets)
        from_environment = settings.api_key.get_secret_value() if settings.api_key else None
        keys = Keys(database, from_environment)
        feedback = Feedback(database, settings.feedback_max_count, settings.feedback_max_bytes)
        supervisors = Supervisors(database)
        return cls(settings, paths, database, Queue(database), versions, keys, feedback, supervisors, datasets)

    @property
    def answered(self) -> AnsweredHours:
        return AnsweredHours(self.database)

    @property
    def cache(self) -> Cache:
        """What of an object store lies in this home."""
        return Cache(self.versions.folders, self.settings.store_cache_bytes)

    @property
    def _checkpoints(self) -> Checkpoints:
        return Checkpoints(self.queue, self.versions.folders)

    @property
    def imports(self) -> Imports:
        return Imports(self.queue, self.datasets, self.versions, self.settings.queue_limit)

    def importer(self) -> Supervisor:
        """A supervisor for the imports of this home: they do not wait for training jobs."""
        settings, datasets = self.settings, self.datasets
        return Supervisor(
            self.queue,
            ImportExecutor(
                self.paths.sources,
                settings.import_memory_bytes,
                lambda: datasets.keep_bytes - datasets.used(),
            ),
            ImportPreparation(self.datasets),
            ImportPublication(self.queue, datasets),
            None,
            Limits(settings.lease_seconds, settings.import_minutes * 60, "MINIST_IMPORT_MINUTES"),
            "import",
            self._checkpoints,
        )

    @property
    def weights(self) -> WeightsUploads:
        return WeightsUploads(self.queue, self.datasets, self.settings.queue_limit)

    def weights_reader(self) -> Supervisor:
        """A supervisor for the weights that are uploaded to this home: they wait for nothing else."""
        settings = self.settings
        seconds = min(WEIGHTS_SECONDS, settings.import_minutes * 60)
        memory = settings.import_memory_bytes
        return Supervisor(
            self.queue,
            WeightsExecutor(settings.data_dir, self.paths.datasets, memory, math.ceil(seconds)),
            WeightsPreparation(self.datasets, self.queue),
            Publication(self.queue, self.versions),
            self._retention(),
            Limits(settings.lease_seconds, 4 * seconds, "MINIST_IMPORT_MINUTES"),
            "weights",
            self._checkpoints,
        )

    def courier(self) -> Courier | None:
        """Who tells the receivers that jobs notify; None where there may be none."""
        origins, secret = self.settings.notified_origins, self.settings.webhook_secret
        if not origins or secret is None:
            return None
        return Courier(Deliveries(self.database), origins, secret.get_secret_value())

    def _retention(self) -> Retention:
        settings = self.settings
        return Retention(
            self.queue,
            self.versions,
            self.paths,
            settings.keep_versions,
            settings.keep_runs_days,
            settings.keep_jobs_days,
        )

    def _executor(self, gpu: str | None) -> Executor:
        settings, datasets = self.settings, self.paths.datasets
        if settings.executor == "ray":
            assert settings.ray_address is not None
            return RayExecutor(settings.data_dir, settings.device, datasets, settings.ray_address)
        return LocalExecutor(settings.data_dir, settings.device, datasets, gpu)

    def supervisor(self, gpu: str | None = None, machine: Machine | None = None) -> Supervisor:
        """A supervisor for the training jobs of this home that fit on the machine (default: all); they see this
        GPU alone (default: all)."""
        settings = self.settings
        return Supervisor(
            self.queue,
            self._executor(gpu),
            Preparation(self.paths, self.versions, self.feedback, self.datasets),
            Publication(self.queue, self.versions),
            self._retention(),
            Limits(settings.lease_seconds, settings.job_hours * 3600),
            checkpoints=self._checkpoints,
            machine=machine,
        )


def folders_of(settings: Settings, database: Database) -> Folders:
    """What of the home is in the object store of a deployment, if it has one. Raises StoreError."""
    return Folders(database, settings.home, Objects(settings.store) if settings.store else None)


@contextmanager
def _away(database: Database) -> Iterator[None]:
    """A server that goes away meanwhile is one that does not answer."""
    try:
        yield
    except StoreError:
        database.close()
        raise
    except OperationalError as error:
        database.close()
        if database.in_home:
            raise
        raise DatabaseAway(f"the {database.name} does not answer: {reason(error)}") from error
