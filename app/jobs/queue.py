"""The job table: who may change which row, when.

Every job has one terminal state, written once. A claim bumps the job's token, and every later write of
the claimant carries it: zero rows changed means that the job was cancelled or claimed by someone else.
"""

import hashlib
import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, RowMapping, and_, delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from app.jobs import deliveries
from app.jobs.facts import facts
from app.jobs.leases import Claim, LeaseWatch
from app.jobs.promotion import Rule
from app.store import locks, tables
from app.store.database import Database
from app.store.tables import events, jobs
from models.card import Corrections

ACTIVE = ("queued", "running")
TERMINAL = ("succeeded", "failed", "cancelled")
MAX_CRASHES = 3
STEPS_KEPT = 200  # events of an ended job, about 30 kB
Kind = Literal["train", "import", "weights"]
NOTHING_LEARNED = Corrections(used=0, right_before=0, right_after=0)


@dataclass(frozen=True)
class Job:
    """One row of the table, times in seconds since the epoch."""

    id: str
    number: int
    kind: Kind
    status: str
    model: str  # of an import: the data set
    config: Mapping[str, Any]
    promote: Rule
    token: int
    beat: int
    seconds: float
    attempts: int
    crashes: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    progress: Mapping[str, Any] | None
    last: Mapping[str, Any] | None
    best: Mapping[str, Any] | None
    error: str | None
    exit_code: int | None
    version: int | None
    decision: Mapping[str, Any] | None
    request_digest: str
    feedback: Mapping[str, Any] | None
    submitted_by: str | None
    by_admin: bool
    notify: str | None  # URL that is told how it ended
    priority: int  # larger ones are started first

    @classmethod
    def from_row(cls, row: RowMapping) -> "Job":
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; ids grow."""

    id: int
    kind: str
    data: Mapping[str, Any]
    at: float


@dataclass(frozen=True)
class Submitter:
    """The key that a job was asked for with: its name for the audit list, and whether it is an admin's."""

    who: str
    admin: bool


class QueueFull(Exception):
    """There are as many unfinished jobs as are allowed; `retry_after` is in seconds."""

    def __init__(self, limit: int, retry_after: int) -> None:
        super().__init__(f"{limit} jobs are waiting or running already")
        self.limit = limit
        self.retry_after = retry_after


class KeyReused(Exception):
    """An idempotency key came again with another request."""


class WrongStatus(Exception):
    """The job's status does not allow the change."""


class ClaimLost(Exception):
    """The claim is gone: the job was cancelled, or another supervisor has it."""


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
                found = fetch_one(connection, jobs.c.idempotency_key == idempotency_key)
                if found is not None:
                    if found.request_digest != digest:
                        raise KeyReused(f"the Idempotency-Key {idempotency_key!r} was used for another request")
                    return found
            return _add(
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
        return _add(
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
        return _add(
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
            return fetch_one(connection, jobs.c.id == job_id)

    def page(self, status: str | None, limit: int, before: int | None, kind: Kind = "train") -> list[Job]:
        """Newest first; `before` is the number of the last job of the page before."""
        query = select(jobs).where(jobs.c.kind == kind).order_by(jobs.c.number.desc()).limit(limit)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if before is not None:
            query = query.where(jobs.c.number < before)
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
            return [_event(row) for row in rows]

    def events_after(self, after: Mapping[str, int], limit: int) -> list[tuple[str, Event]]:
        """Of jobs, of each those after an id, in order; each with the id of its job.

        Ids grow within a job, whose row every writer of its events has locked. Those of two jobs may be
        committed the other way round, so that one id for all would miss some.
        """
        new = or_(*(and_(events.c.job_id == job, events.c.id > seen) for job, seen in after.items()))
        query = select(events).where(new).order_by(events.c.id).limit(limit)
        with self.database.read() as connection:
            return [(row["job_id"], _event(row)) for row in connection.execute(query).mappings()]

    def newest_event(self, job_id: str) -> int:
        """Its id; 0 without any."""
        with self.database.read() as connection:
            return connection.scalar(select(func.max(events.c.id)).where(events.c.job_id == job_id)) or 0

    def cancel(self, job_id: str) -> Job:
        """End a queued or running job at once; its claimant finds its token outdated and kills the child.

        Raises WrongStatus for a job that has ended.
        """
        with self.database.write() as connection:
            if not cancel(connection, job_id):
                raise _wrong_status(connection, job_id)
            return _fetch(connection, job_id)

    def resume(self, job_id: str, limit: int) -> Job:
        """Queue a cancelled or failed job again. Raises WrongStatus or QueueFull."""
        with self.database.write(locks.QUEUE) as connection:
            return resume(connection, job_id, limit)

    # -- by supervisors ----------------------------------------------------------------------------

    def claim(self, watch: LeaseWatch | None = None, kind: Kind = "train") -> Job | None:
        """Take the next job that is queued, or whose claimant has gone silent as `watch` has seen it."""
        silent = self.look(watch) if watch else []
        free = and_(jobs.c.kind == kind, or_(jobs.c.status == "queued", *map(_is_claim, silent)))
        with self.database.read() as connection:  # asked several times a second: take no write lock for nothing
            if connection.scalar(select(jobs.c.id).where(free).limit(1)) is None:
                return None
        begun = watch.clock() if watch else 0.0
        with self.database.write() as connection:
            if watch and watch.clock() - begun > watch.lease / 10:
                watch.reset()  # the database was locked: the claimants could not give signs of life either
                return None
            _give_up_on_crashers(connection, silent)
            return _claim_next(connection, free)

    def look(self, watch: LeaseWatch) -> list[Claim]:
        """Let `watch` see the claims of all running jobs; those that have gone silent."""
        query = select(jobs.c.id, jobs.c.token, jobs.c.beat).where(jobs.c.status == "running")
        with self.database.read() as connection:
            return watch.silent(Claim(*row) for row in connection.execute(query))

    def renew(self, job: Job, seconds: float | None = None) -> None:
        """Send a heartbeat; the job has run for that many seconds in all its attempts. Raises ClaimLost."""
        run = {} if seconds is None else {"seconds": seconds}
        with self.database.write() as connection:
            _change(connection, job, beat=jobs.c.beat + 1, **run)

    def owns(self, job: Job) -> bool:
        """Whether the claim is still good; reads only."""
        with self.database.read() as connection:
            row = connection.execute(select(jobs.c.token, jobs.c.status).where(jobs.c.id == job.id)).one()
        return (row.token, row.status) == (job.token, "running")

    def require_claim(self, connection: Connection, job: Job) -> None:
        """Inside a write transaction: make sure that the claim is still good. Raises ClaimLost."""
        _change(connection, job, token=job.token)

    def step(self, job: Job, data: Mapping[str, Any]) -> None:
        """Record where the job is inside an epoch. Raises ClaimLost."""
        with self.database.write() as connection:
            _change(connection, job, progress=dict(data))
            add_event(connection, job.id, "step", data)

    def epoch(self, job: Job, data: Mapping[str, Any]) -> None:
        """Record a complete epoch, and reset the count of crashes. Raises ClaimLost."""
        with self.database.write() as connection:
            best = connection.scalar(select(jobs.c.best).where(jobs.c.id == job.id))
            better = best is None or (data["accuracy"] or 0) > (best["accuracy"] or 0)
            _change(connection, job, last=dict(data), crashes=0, best=dict(data) if better else best)
            add_event(connection, job.id, "epoch", data)

    def note(self, job: Job, data: Mapping[str, Any]) -> None:
        """Record what the run has decided. Raises ClaimLost."""
        with self.database.write() as connection:
            self.require_claim(connection, job)
            add_event(connection, job.id, "note", data)

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
        _change(
            connection,
            job,
            status="succeeded",
            version=version,
            decision=None if decision is None else dict(decision),
            finished_at=time.time(),
            exit_code=0,
            feedback=None if job.feedback is None else (corrections or NOTHING_LEARNED).model_dump(),
        )
        _ended(connection, job.id)

    def fail(self, job: Job, error: str, exit_code: int | None) -> None:
        """End the job with the reason. Raises ClaimLost."""
        with self.database.write() as connection:
            values = {"error": error, "exit_code": exit_code, "finished_at": time.time()}
            _change(connection, job, status="failed", **values)
            _ended(connection, job.id)

    def record_crash(self, job: Job, error: str, exit_code: int) -> None:
        """Count a crash: back into the queue, or failed after the last that is allowed. Raises ClaimLost."""
        with self.database.write() as connection:
            crashes = (connection.scalar(select(jobs.c.crashes).where(jobs.c.id == job.id)) or 0) + 1
            values: dict[str, Any] = {"crashes": crashes, "error": error, "exit_code": exit_code}
            if crashes >= MAX_CRASHES:
                _change(connection, job, status="failed", finished_at=time.time(), **values)
                _ended(connection, job.id)
            else:
                _change(connection, job, status="queued", **values)
                add_event(connection, job.id, "status", {"status": "queued", "error": error})

    def requeue(self, job: Job, error: str | None = None) -> None:
        """Return a claim unused: the supervisor ends, or the run cannot be started now. Raises ClaimLost."""
        with self.database.write() as connection:
            _change(connection, job, status="queued", attempts=jobs.c.attempts - 1, error=error)
            add_event(connection, job.id, "status", {"status": "queued"} | ({"error": error} if error else {}))

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


def _add(connection: Connection, limit: int, submitter: Submitter | None, **values: Any) -> Job:
    """Add a queued job; of its kind at most `limit` are unfinished. Raises QueueFull."""
    values |= {
        "id": uuid.uuid4().hex,
        "status": "queued",
        "token": 0,
        "attempts": 0,
        "crashes": 0,
        "created_at": time.time(),
        "submitted_by": submitter.who if submitter else None,
        "by_admin": submitter.admin if submitter else False,
    }
    require_place(connection, values["kind"], limit)
    connection.execute(insert(jobs).values(**values))
    add_event(connection, values["id"], "status", {"status": "queued"})
    return _fetch(connection, values["id"])


def require_place(connection: Connection, kind: Kind, limit: int) -> None:
    """Raises QueueFull where so many jobs of the kind are unfinished. Alone with `locks.QUEUE`."""
    unfinished = select(func.count()).where(jobs.c.kind == kind, jobs.c.status.in_(ACTIVE))
    if (connection.scalar(unfinished) or 0) >= limit:
        raise QueueFull(limit, _retry_after(connection, kind))


def cancel(connection: Connection, job_id: str) -> bool:
    """End a job unless it has ended; whether it had not."""
    unfinished = (jobs.c.id == job_id) & jobs.c.status.in_(ACTIVE)
    values = {"status": "cancelled", "token": jobs.c.token + 1, "finished_at": time.time()}
    if connection.execute(update(jobs).where(unfinished).values(**values)).rowcount == 0:
        return False
    _ended(connection, job_id)
    return True


def resume(connection: Connection, job_id: str, limit: int, notify: str | None = None) -> Job:
    """Queue a cancelled or failed job again, which tells `notify` from now on, unless that is None. Raises
    WrongStatus or QueueFull."""
    require_place(connection, _fetch(connection, job_id).kind, limit)
    ended = (jobs.c.id == job_id) & jobs.c.status.in_(("cancelled", "failed"))
    values = {"status": "queued", "crashes": 0, "seconds": 0, **({"notify": notify} if notify else {})}
    nothing = dict.fromkeys(("error", "exit_code", "finished_at"))
    if connection.execute(update(jobs).where(ended).values(**values, **nothing)).rowcount == 0:
        raise _wrong_status(connection, job_id)
    add_event(connection, job_id, "status", {"status": "queued"})
    return _fetch(connection, job_id)


def _fetch(connection: Connection, job_id: str) -> Job:
    job = fetch_one(connection, jobs.c.id == job_id)
    assert job is not None
    return job


def _wrong_status(connection: Connection, job_id: str) -> WrongStatus:
    return WrongStatus(f"the job is {connection.scalar(select(jobs.c.status).where(jobs.c.id == job_id))}")


def fetch_one(connection: Connection, condition: Any) -> Job | None:
    row = connection.execute(select(jobs).where(condition)).mappings().first()
    return None if row is None else Job.from_row(row)


def _event(row: RowMapping) -> Event:
    return Event(row["id"], row["kind"], row["data"], row["at"])


def _is_claim(claim: Claim) -> ColumnElement[bool]:
    return and_(
        jobs.c.id == claim.job_id,
        jobs.c.token == claim.token,
        jobs.c.beat == claim.beat,
        jobs.c.status == "running",
    )


def _give_up_on_crashers(connection: Connection, silent: Sequence[Claim]) -> None:
    """Fail the jobs whose claimant has died for the last time that is allowed."""
    values = {
        "status": "failed",
        "token": jobs.c.token + 1,
        "finished_at": time.time(),
        "crashes": jobs.c.crashes + 1,
        "error": f"{MAX_CRASHES} attempts in a row ended with the death of their supervisor",
    }
    for claim in sorted(silent, key=lambda one: one.job_id):  # all supervisors in one order
        crashed = _is_claim(claim) & (jobs.c.crashes >= MAX_CRASHES - 1)
        if connection.execute(update(jobs).where(crashed).values(**values)).rowcount:
            _ended(connection, claim.job_id)


def _claim_next(connection: Connection, free: ColumnElement[bool]) -> Job | None:
    """In one statement, so that no two claimants get the same job.

    On Postgres the inner query passes over rows that others are claiming now; `free` stands outside as well,
    since the row may have changed between the two.
    """
    waiting = select(jobs.c.id).where(free).order_by(jobs.c.priority.desc(), jobs.c.number).limit(1)
    first = waiting.with_for_update(skip_locked=True).scalar_subquery()
    values = {
        "status": "running",
        "token": jobs.c.token + 1,
        "attempts": jobs.c.attempts + 1,
        # the claim of one that has died was a crash; the one that begins is counted when it ends
        "crashes": jobs.c.crashes + (jobs.c.status == "running").cast(jobs.c.crashes.type),
        "started_at": func.coalesce(jobs.c.started_at, time.time()),
        "error": None,
    }
    claimed = update(jobs).where(jobs.c.id == first, free).values(**values).returning(*jobs.c)
    row = connection.execute(claimed).mappings().first()
    if row is None:
        return None
    job = Job.from_row(row)
    add_event(connection, job.id, "status", {"status": "running", "attempt": job.attempts})
    return job


def _change(connection: Connection, job: Job, **values: Any) -> None:
    claim = and_(jobs.c.id == job.id, jobs.c.token == job.token, jobs.c.status == "running")
    if connection.execute(update(jobs).where(claim).values(**values)).rowcount == 0:
        raise ClaimLost


def add_event(connection: Connection, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
    connection.execute(insert(events).values(job_id=job_id, kind=kind, data=dict(data), at=time.time()))


def _ended(connection: Connection, job_id: str) -> Job:
    """Add the event of the terminal status, and a delivery where it notifies; of the steps some are kept."""
    _thin_steps(connection, job_id)
    job = _fetch(connection, job_id)
    add_event(connection, job_id, "status", {"status": job.status, "error": job.error, "version": job.version})
    if job.notify is not None:
        deliveries.add(connection, job.notify, facts(job))
    return job


def _thin_steps(connection: Connection, job_id: str) -> None:
    """Keep every n-th step of a job, enough to draw its curves again."""
    steps = and_(events.c.job_id == job_id, events.c.kind == "step")
    ids = connection.scalars(select(events.c.id).where(steps).order_by(events.c.id)).all()
    every = math.ceil(len(ids) / STEPS_KEPT)
    if every > 1:
        connection.execute(delete(events).where(steps, events.c.id.not_in(ids[::every])))


def _retry_after(connection: Connection, kind: Kind) -> int:
    """Seconds until a place is likely to be free: what the running job still needs, or a usual job's time."""
    running = connection.scalar(
        select(jobs.c.progress).where(jobs.c.status == "running", jobs.c.kind == kind).limit(1)
    )
    if running and running["eta_seconds"] is not None:
        return max(1, round(running["eta_seconds"]))
    recent = (
        select((jobs.c.finished_at - jobs.c.started_at).label("seconds"))
        .where(jobs.c.status == "succeeded", jobs.c.kind == kind)
        .order_by(jobs.c.number.desc())
        .limit(20)
        .subquery()
    )
    usual = connection.scalar(select(func.avg(recent.c.seconds)))
    return max(1, round(usual or 60))
