"""The job table, as clients and supervisors use it.

Every job has one terminal state, written once. A claim bumps the job's token, and every later write of
the claimant carries it: zero rows changed means that the job was cancelled or claimed by someone else.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.engine import Connection

from app.jobs import transitions
from app.jobs.job import (
    ACTIVE,
    MAX_CRASHES,
    TERMINAL,
    Event,
    Job,
    KeyReused,
    Kind,
    Submitter,
)
from app.jobs.leases import Claim, LeaseWatch
from app.jobs.machine import Machine
from app.jobs.promotion import Rule
from app.store import locks, tables
from app.store.database import Database
from app.store.tables import events, jobs
from models.card import Corrections

NOTHING_LEARNED = Corrections(used=0, right_before=0, right_after=0)


class Queue:
    """Jobs by priority, and by arrival where that is the same."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # -- by clients ---------------------------------------------------------------------------

    def submit(
        self,
        config: Mapping[str, Any],
        promote: Rule,
        limit: int,
        idempotency_key: str | None,
        feedback: bool = False,
        submitter: Submitter | None = None,
        notify: str | None = None,
        priority: int = 0,
    ) -> Job:
        """Add a job, that learns the model's corrections too where `feedback`, and tells the URL `notify` how
        it ended; the same key and request again give the same job. Larger priorities are started first.

        Raises QueueFull, or KeyReused.
        """
        request = [config, promote, *filter(None, (feedback, notify, priority))]
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        with self.database.write(locks.QUEUE) as connection:
            if idempotency_key is not None:
                found = transitions.fetch_one(connection, jobs.c.idempotency_key == idempotency_key)
                if found is not None:
                    if found.request_digest != digest:
                        raise KeyReused(f"the Idempotency-Key {idempotency_key!r} was used for another request")
                    return found
            return transitions.add(
                connection,
                limit,
                submitter,
                kind="train",
                model=config["name"],
                config=dict(config),
                promote=promote,
                idempotency_key=idempotency_key,
                request_digest=digest,
                feedback={} if feedback else None,
                notify=notify,
                priority=priority,
            )

    def add_import(
        self,
        connection: Connection,
        dataset: str,
        config: Mapping[str, Any],
        limit: int,
        submitter: Submitter,
        notify: str | None = None,
    ) -> Job:
        """Add a job that imports a data set, inside the transaction that adds its row.

        It is alone with `locks.QUEUE`. Raises QueueFull.
        """
        return transitions.add(
            connection,
            limit,
            submitter,
            kind="import",
            model=dataset,
            config=dict(config),
            promote="never",
            request_digest="",
            notify=notify,
        )

    def add_weights(
        self,
        connection: Connection,
        model: str,
        config: Mapping[str, Any],
        promote: Rule,
        limit: int,
        submitter: Submitter,
        notify: str | None = None,
    ) -> Job:
        """Add a job that reads uploaded weights, inside the transaction that keeps their file. Raises
        QueueFull."""
        return transitions.add(
            connection,
            limit,
            submitter,
            kind="weights",
            model=model,
            config=dict(config),
            promote=promote,
            request_digest="",
            notify=notify,
        )

    def get(self, job_id: str) -> Job | None:
        with self.database.read() as connection:
            return transitions.fetch_one(connection, jobs.c.id == job_id)

    def page(self, status: str | None, limit: int, before: int | None, kind: Kind = "train") -> list[Job]:
        """Newest first; `before` is the number of the last job of the page before."""
        query = select(jobs).where(jobs.c.kind == kind).order_by(jobs.c.number.desc()).limit(limit)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if before is not None:
            query = query.where(jobs.c.number < before)
        with self.database.read() as connection:
            return [Job.from_row(row) for row in connection.execute(query).mappings()]

    def unfinished(self, limit: int) -> list[Job]:
        """Jobs of every kind that wait or run, newest first."""
        query = select(jobs).where(jobs.c.status.in_(ACTIVE)).order_by(jobs.c.number.desc()).limit(limit)
        with self.database.read() as connection:
            return [Job.from_row(row) for row in connection.execute(query).mappings()]

    def position(self, job: Job) -> int | None:
        """How many jobs will be started before it, and itself: 1 is the next. None once it is claimed."""
        if job.status != "queued":
            return None
        before = or_(
            jobs.c.priority > job.priority,
            and_(jobs.c.priority == job.priority, jobs.c.number <= job.number),
        )
        ahead = and_(jobs.c.status == "queued", jobs.c.kind == job.kind, before)
        with self.database.read() as connection:
            return connection.scalar(select(func.count()).select_from(jobs).where(ahead))

    def events(self, job_id: str, after: int = 0, limit: int | None = None) -> list[Event]:
        """Of a job, in order; at most so many."""
        mine = select(events).where(events.c.job_id == job_id, events.c.id > after)
        with self.database.read() as connection:
            rows = connection.execute(mine.order_by(events.c.id).limit(limit)).mappings()
            return [transitions.event_of(row) for row in rows]

    def events_after(self, after: Mapping[str, int], limit: int) -> list[tuple[str, Event]]:
        """Of jobs, of each those after an id, in order; each with the id of its job.

        Ids grow within a job, whose row every writer of its events has locked. Those of two jobs may be
        committed the other way round, so that one id for all would miss some.
        """
        new = or_(*(and_(events.c.job_id == job, events.c.id > seen) for job, seen in after.items()))
        query = select(events).where(new).order_by(events.c.id).limit(limit)
        with self.database.read() as connection:
            return [(row["job_id"], transitions.event_of(row)) for row in connection.execute(query).mappings()]

    def notes(self, job_id: str) -> list[Event]:
        """What its run has decided, in order."""
        mine = select(events).where(events.c.job_id == job_id, events.c.kind == "note")
        with self.database.read() as connection:
            rows = connection.execute(mine.order_by(events.c.id)).mappings()
            return [transitions.event_of(row) for row in rows]

    def newest_event(self, job_id: str) -> int:
        """Its id; 0 without any."""
        with self.database.read() as connection:
            return connection.scalar(select(func.max(events.c.id)).where(events.c.job_id == job_id)) or 0

    def cancel(self, job_id: str) -> Job:
        """End a queued or running job at once; its claimant finds its token outdated and kills the child.

        Raises WrongStatus for a job that has ended.
        """
        with self.database.write() as connection:
            if not transitions.cancel(connection, job_id):
                raise transitions.wrong_status(connection, job_id)
            return transitions.fetch(connection, job_id)

    def label(self, job_id: str, changes: Mapping[str, Any]) -> Job:
        """Write a name, notes or tags on a job, in any state; what is not among the changes stays."""
        with self.database.write() as connection:
            transitions.label(connection, job_id, changes)
            return transitions.fetch(connection, job_id)

    def resume(self, job_id: str, limit: int) -> Job:
        """Queue a cancelled or failed job again. Raises WrongStatus or QueueFull."""
        with self.database.write(locks.QUEUE) as connection:
            return transitions.resume(connection, job_id, limit)

    # -- by supervisors ----------------------------------------------------------------------------

    def claim(
        self, watch: LeaseWatch | None = None, kind: Kind = "train", machine: Machine | None = None
    ) -> Job | None:
        """Take the next job that is queued, or whose claimant has gone silent as `watch` has seen it, of those
        that fit on the machine."""
        silent = self.look(watch) if watch else []
        free = and_(jobs.c.kind == kind, or_(jobs.c.status == "queued", *map(transitions.is_claim, silent)))
        if machine is not None:
            free &= machine.fits()
        with self.database.read() as connection:  # asked several times a second: take no write lock for nothing
            if connection.scalar(select(jobs.c.id).where(free).limit(1)) is None:
                return None
        begun = watch.clock() if watch else 0.0
        with self.database.write() as connection:
            if watch and watch.clock() - begun > watch.lease / 10:
                watch.reset()  # the database was locked: the claimants could not give signs of life either
                return None
            transitions.give_up_on_crashers(connection, silent)
            return transitions.claim_next(connection, free)

    def look(self, watch: LeaseWatch) -> list[Claim]:
        """Let `watch` see the claims of all running jobs; those that have gone silent."""
        query = select(jobs.c.id, jobs.c.token, jobs.c.beat).where(jobs.c.status == "running")
        with self.database.read() as connection:
            return watch.silent(Claim(*row) for row in connection.execute(query))

    def renew(self, job: Job, seconds: float | None = None) -> None:
        """Send a heartbeat; the job has run for that many seconds in all its attempts. Raises ClaimLost."""
        run = {} if seconds is None else {"seconds": seconds}
        with self.database.write() as connection:
            transitions.change(connection, job, beat=jobs.c.beat + 1, **run)

    def owns(self, job: Job) -> bool:
        """Whether the claim is still good; reads only."""
        with self.database.read() as connection:
            row = connection.execute(select(jobs.c.token, jobs.c.status).where(jobs.c.id == job.id)).one()
        return (row.token, row.status) == (job.token, "running")

    def require_claim(self, connection: Connection, job: Job) -> None:
        """Inside a write transaction: make sure that the claim is still good. Raises ClaimLost."""
        transitions.change(connection, job, token=job.token)

    def step(self, job: Job, data: Mapping[str, Any]) -> None:
        """Record where the job is inside an epoch. Raises ClaimLost."""
        with self.database.write() as connection:
            transitions.change(connection, job, progress=dict(data))
            transitions.add_event(connection, job.id, "step", data)

    def epoch(self, job: Job, data: Mapping[str, Any]) -> None:
        """Record a complete epoch, and reset the count of crashes. Raises ClaimLost."""
        with self.database.write() as connection:
            best = connection.scalar(select(jobs.c.best).where(jobs.c.id == job.id))
            better = best is None or (data["accuracy"] or 0) > (best["accuracy"] or 0)
            transitions.change(connection, job, last=dict(data), crashes=0, best=dict(data) if better else best)
            transitions.add_event(connection, job.id, "epoch", data)

    def note(self, job: Job, data: Mapping[str, Any]) -> None:
        """Record what the run has decided. Raises ClaimLost."""
        with self.database.write() as connection:
            self.require_claim(connection, job)
            transitions.add_event(connection, job.id, "note", data)

    def finish(
        self,
        connection: Connection,
        job: Job,
        version: int,
        decision: Mapping[str, Any] | None = None,
        corrections: Corrections | None = None,
    ) -> None:
        """Write success, inside the transaction that publishes the version. Raises ClaimLost.

        `corrections` are what the job learned of people's corrections.
        """
        transitions.change(
            connection,
            job,
            status="succeeded",
            version=version,
            decision=None if decision is None else dict(decision),
            finished_at=time.time(),
            exit_code=0,
            feedback=None if job.feedback is None else (corrections or NOTHING_LEARNED).model_dump(),
        )
        transitions.ended(connection, job.id)

    def fail(self, job: Job, error: str, exit_code: int | None) -> None:
        """End the job with the reason. Raises ClaimLost."""
        with self.database.write() as connection:
            values = {"error": error, "exit_code": exit_code, "finished_at": time.time()}
            transitions.change(connection, job, status="failed", **values)
            transitions.ended(connection, job.id)

    def record_crash(self, job: Job, error: str, exit_code: int) -> None:
        """Count a crash: back into the queue, or failed after the last that is allowed. Raises ClaimLost."""
        with self.database.write() as connection:
            crashes = (connection.scalar(select(jobs.c.crashes).where(jobs.c.id == job.id)) or 0) + 1
            values: dict[str, Any] = {"crashes": crashes, "error": error, "exit_code": exit_code}
            if crashes >= MAX_CRASHES:
                transitions.change(connection, job, status="failed", finished_at=time.time(), **values)
                transitions.ended(connection, job.id)
            else:
                transitions.change(connection, job, status="queued", **values)
                transitions.add_event(connection, job.id, "status", {"status": "queued", "error": error})

    def requeue(self, job: Job, error: str | None = None) -> None:
        """Return a claim unused: the supervisor ends, or the run cannot be started now. Raises ClaimLost."""
        with self.database.write() as connection:
            transitions.change(connection, job, status="queued", attempts=jobs.c.attempts - 1, error=error)
            transitions.add_event(
                connection, job.id, "status", {"status": "queued"} | ({"error": error} if error else {})
            )

    def forget(self, job_ids: Sequence[str]) -> None:
        """Delete ended jobs with their events and deliveries. Their versions stay."""
        with self.database.write() as connection:
            ended = select(jobs.c.id).where(jobs.c.id.in_(job_ids), jobs.c.status.in_(TERMINAL))
            for job_id in connection.scalars(ended.order_by(jobs.c.number).with_for_update()).all():
                connection.execute(delete(events).where(events.c.job_id == job_id))
                connection.execute(delete(tables.deliveries).where(tables.deliveries.c.job_id == job_id))
                connection.execute(delete(jobs).where(jobs.c.id == job_id))

    def ended_before(self, moment: float) -> Sequence[str]:
        """Ids of the jobs that ended before a moment."""
        query = select(jobs.c.id).where(jobs.c.status.in_(TERMINAL), jobs.c.finished_at < moment)
        with self.database.read() as connection:
            return connection.scalars(query).all()

    def counts(self) -> dict[str, int]:
        """Number of jobs by status."""
        query = select(jobs.c.status, func.count().label("number")).group_by(jobs.c.status)
        with self.database.read() as connection:
            found = {row.status: row.number for row in connection.execute(query)}
        return {status: found.get(status, 0) for status in (*ACTIVE, *TERMINAL)}
