"""How the result of a run becomes a version: files, row, alias and job change together or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from sqlalchemy.engine import Connection

from app.jobs.artifacts import artifacts
from app.jobs.executor import RunDirectory
from app.jobs.job import Job
from app.jobs.promotion import Current, Decision, Rule, decide
from app.jobs.queue import Queue
from app.store import locks
from app.store.audit import Change, note
from app.store.feedback import mark_used
from app.store.paths import run_place
from app.store.versions import PRODUCTION, Staged, Version, Versions, digest_of, point
from models.card import Card, read_card
from models.errors import CheckpointError


@dataclass(frozen=True)
class Publication:
    """Publishes what runs leave in their directories.

    Raises CheckpointError for a card that cannot be read, OSError where a file cannot be copied, and
    ArtifactsAway where the object store does not take them; then nothing has changed.
    """

    queue: Queue
    versions: Versions

    def publish(self, job: Job, run: RunDirectory) -> int:
        """Make a job's result the next version and the job a success; the version.

        `production` moves as the job's `promote` says; the decision is recorded with both figures.
        Raises ClaimLost where the job is not the claimant's any more: then nothing has changed.
        """
        who = f"job {job.id}"
        with (
            self._staged(run, job.model) as (staged, card),
            self.versions.database.write(*_alone(job)) as connection,
        ):
            self.queue.require_claim(connection, job)
            decision = self._decide(connection, job.model, job.promote, card, job.by_admin)
            publish = Change(who, "publish", job.model, f"{who} succeeded")
            number = self.versions.add(connection, staged, card, job.id, publish)
            self._settle(connection, decision, publish, number)
            self.queue.finish(connection, job, number, asdict(decision), card.corrections)
            self.versions.folders.let_go(connection, run_place(job.id))  # its checkpoints
            if job.feedback is not None:
                mark_used(connection, job.id, job.model, card.classes, job.created_at)
        self.versions.folders.sweep()
        return number

    def publish_run(self, model: str, promote: Rule, run: RunDirectory, who: str) -> tuple[int, Decision]:
        """Make the result of a run that was no job the next version, and decide as for a job."""
        with (
            self._staged(run, model) as (staged, card),
            self.versions.database.write(locks.VERSIONS) as connection,
        ):
            decision = self._decide(connection, model, promote, card)
            publish = Change(who, "publish", model, "published at the command line")
            number = self.versions.add(connection, staged, card, None, publish)
            self._settle(connection, decision, publish, number)
        return number, decision

    @contextmanager
    def _staged(self, run: RunDirectory, model: str) -> Iterator[tuple[Staged, Card]]:
        self._bring_current(model)
        sample = [run.sample] if run.sample.is_file() else []
        with self.versions.staged(model, [*artifacts(run.path).values(), *sample]) as staged:
            card = read_card(staged.folder / run.card(model).name)
            if digest_of(staged.folder / run.weights(model).name) != card.sha256:  # verified by the child
                raise CheckpointError(f"{run.weights(model)} is not the file that its card was written for")
            yield staged, card

    def _bring_current(self, model: str) -> None:
        """Fetch the card that the result is compared with: not in the transaction, where others wait."""
        with self.versions.database.read() as connection:
            current = self.versions.in_production(connection, model)
        if current is not None:
            with suppress(CheckpointError):
                current.card()

    def _decide(
        self, connection: Connection, model: str, rule: Rule, card: Card, may_replace: bool = True
    ) -> Decision:
        return decide(rule, card, _current(self.versions.in_production(connection, model)), may_replace)

    def _settle(self, connection: Connection, decision: Decision, publish: Change, number: int) -> None:
        """Move `production`, or note that it stays."""
        who, model = publish.who, publish.model
        why = f"{who}: {decision.reason}"
        if decision.promoted:
            point(connection, Change(who, "promote", model, why, PRODUCTION, to_version=number))
        else:
            stays = decision.current_version
            note(connection, Change(who, "keep", model, why, PRODUCTION, stays, stays))


def _alone(job: Job) -> tuple[str, ...]:
    """What the transaction of its publication looks at before it writes."""
    return (locks.VERSIONS,) if job.feedback is None else (locks.FEEDBACK, locks.VERSIONS)


def _current(version: Version | None) -> Current | None:
    if version is None:
        return None
    try:
        return Current(version.version, version.card())
    except CheckpointError:
        return Current(version.version, None)
