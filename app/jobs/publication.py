"""How the result of a run becomes a version: files, row, alias and job change together or not at all."""

from dataclasses import asdict, dataclass

from sqlalchemy.engine import Connection

from app.jobs.artifacts import artifacts
from app.jobs.executor import RunDirectory
from app.jobs.promotion import Current, Decision, Rule, decide
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
                who = f"job {job.id}"
                change = Change(who, "publish", job.model, f"{who} succeeded")
                number = versions.add(connection, staged, card, job.id, change)
                self.queue.finish(connection, job, number, asdict(decision), card.corrections)
                if job.feedback is not None:
                    mark_used(connection, job.id, job.model, card.classes, job.created_at)
                _follow(connection, who, job.model, decision, number)
        return number

    def publish_run(self, run: RunDirectory, model: str, rule: Rule, who: str) -> tuple[int, Decision]:
        """Make what a run at the command line left the next version; the version, and the decision.

        Raises as `publish`.
        """
        versions = self.versions
        with versions.staged(model, list(artifacts(run.path).values())) as staged:
            card = read_card(staged / run.card(model).name)
            with versions.database.write() as connection:
                decision = decide(rule, card, _current(versions.in_production(connection, model)))
                change = Change(who, "publish", model, "published at the command line")
                number = versions.add(connection, staged, card, None, change)
                _follow(connection, who, model, decision, number)
        return number, decision


def _current(version: Version | None) -> Current | None:
    if version is None:
        return None
    try:
        return Current(version.version, version.card())
    except CheckpointError:
        return Current(version.version, None)


def _follow(connection: Connection, who: str, model: str, decision: Decision, number: int) -> None:
    """Let `production` move to the new version, or stay; the audit list says why."""
    why = f"{who}: {decision.reason}"
    if decision.promoted:
        point(connection, Change(who, "promote", model, why, PRODUCTION, to_version=number))
    else:
        stays = decision.current_version
        note(connection, Change(who, "keep", model, why, PRODUCTION, stays, stays))
