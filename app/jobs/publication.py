"""How the result of a job becomes a version: files, row, alias and job change together or not at all."""

from dataclasses import asdict, dataclass

from app.jobs.artifacts import artifacts
from app.jobs.executor import RunDirectory
from app.jobs.promotion import Current, Decision, decide
from app.jobs.queue import Job, Queue
from app.store.audit import Change, note
from app.store.feedback import mark_used
from app.store.versions import PRODUCTION, Version, Versions, point
from models.card import read_card
from models.errors import CheckpointError


@dataclass(frozen=True)
class Publication:
    """Publishes what jobs leave in their run directories."""

    queue: Queue
    versions: Versions

    def publish(self, job: Job, run: RunDirectory) -> int:
        """Make a job's result the next version and the job a success, in one transaction; the version.

        `production` moves as the job's `promote` says; the decision is recorded with both figures.
        Raises ClaimLost where the job is not the claimant's any more, CheckpointError for a card that cannot
        be read, OSError where a file cannot be copied: then nothing has changed.
        """
        versions = self.versions
        with versions.staged(job.model, list(artifacts(run.path).values())) as staged:
            card = read_card(staged / run.card(job.model).name)
            with versions.database.write() as connection:
                self.queue.require_claim(connection, job)
                decision = decide(job.promote, card, _current(versions.in_production(connection, job.model)))
                change = Change(f"job {job.id}", "publish", job.model, f"job {job.id} succeeded")
                number = versions.add(connection, staged, card, job.id, change)
                self.queue.finish(connection, job, number, asdict(decision), card.corrections)
                if job.feedback is not None:
                    mark_used(connection, job.id, job.model, card.classes, job.created_at)
                move = _move(job, decision, number)
                (point if decision.promoted else note)(connection, move)
        return number


def _current(version: Version | None) -> Current | None:
    if version is None:
        return None
    try:
        return Current(version.version, version.card())
    except CheckpointError:
        return Current(version.version, None)


def _move(job: Job, decision: Decision, number: int) -> Change:
    """What is noted of `production`: that it moves to the new version, or stays."""
    who, why = f"job {job.id}", f"job {job.id}: {decision.reason}"
    if decision.promoted:
        return Change(who, "promote", job.model, why, PRODUCTION, to_version=number)
    stays = decision.current_version
    return Change(who, "keep", job.model, why, PRODUCTION, stays, stays)
