"""What lies under MINIST_HOME, opened."""

from dataclasses import dataclass

from app.jobs.executor import LocalExecutor
from app.jobs.queue import Queue
from app.jobs.supervisor import Supervisor
from app.settings import Settings
from app.store.database import Database
from app.store.feedback import Feedback
from app.store.keys import Keys
from app.store.paths import HomePaths
from app.store.shipped import publish_shipped
from app.store.versions import Versions


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

    @classmethod
    def open(cls, settings: Settings) -> "Home":
        """Make or migrate what is there; the shipped weights become versions. Safe in several processes."""
        paths = HomePaths(settings.home)
        database = Database(settings.home)
        database.migrate()
        versions = Versions(database, paths)
        publish_shipped(versions)
        from_environment = settings.api_key.get_secret_value() if settings.api_key else None
        keys = Keys(database, from_environment)
        feedback = Feedback(database, settings.feedback_max_count, settings.feedback_max_bytes)
        return cls(settings, paths, database, Queue(database), versions, keys, feedback)

    def supervisor(self) -> Supervisor:
        """A supervisor for the jobs of this home."""
        return Supervisor(
            self.queue,
            self.versions,
            LocalExecutor(self.settings.data_dir, self.settings.device),
            self.paths,
            self.settings.lease_seconds,
            self.settings.keep_versions,
            self.settings.keep_runs_days,
            self.feedback,
        )
