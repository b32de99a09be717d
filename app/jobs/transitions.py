"""Every change of a job's row: each function works inside a transaction that somebody else has begun.

A job has one terminal state, written once. A claim bumps the job's token, and every later write of the claimant
carries it (`change`).
"""

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, and_, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from app.jobs import deliveries
from app.jobs.facts import facts
from app.jobs.job import ACTIVE, MAX_CRASHES, ClaimLost, Event, Job, Kind, QueueFull, Submitter, WrongStatus
from app.jobs.leases import Claim
from app.store.tables import events, jobs

STEPS_KEPT = 200  # events of an ended job, about 30 kB


def add(connection: Connection, limit: int, submitter: Submitter | None, **values: Any) -> Job:
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
    return fetch(connection, values["id"])


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
    ended(connection, job_id)
    return True


def label(connection: Connection, job_id: str, changes: Mapping[str, Any]) -> None:
    """Write what people say of a job: outside its life, so no token is asked for."""
    values = {name: changes[name] for name in ("name", "notes", "tags") if name in changes}
    if values:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))


def resume(connection: Connection, job_id: str, limit: int, notify: str | None = None) -> Job:
    """Queue a cancelled or failed job again, which tells `notify` from now on, unless that is None. Raises
    WrongStatus or QueueFull."""
    require_place(connection, fetch(connection, job_id).kind, limit)
    ended = (jobs.c.id == job_id) & jobs.c.status.in_(("cancelled", "failed"))
    values = {"status": "queued", "crashes": 0, "seconds": 0, **({"notify": notify} if notify else {})}
    nothing = dict.fromkeys(("error", "exit_code", "finished_at"))
    if connection.execute(update(jobs).where(ended).values(**values, **nothing)).rowcount == 0:
        raise wrong_status(connection, job_id)
    add_event(connection, job_id, "status", {"status": "queued"})
    return fetch(connection, job_id)


def fetch(connection: Connection, job_id: str) -> Job:
    job = fetch_one(connection, jobs.c.id == job_id)
    assert job is not None
    return job


def wrong_status(connection: Connection, job_id: str) -> WrongStatus:
    return WrongStatus(f"the job is {connection.scalar(select(jobs.c.status).where(jobs.c.id == job_id))}")


def fetch_one(connection: Connection, condition: Any) -> Job | None:
    row = connection.execute(select(jobs).where(condition)).mappings().first()
    return None if row is None else Job.from_row(row)


def event_of(row: RowMapping) -> Event:
    return Event(row["id"], row["kind"], row["data"], row["at"])


def is_claim(claim: Claim) -> ColumnElement[bool]:
    return and_(
        jobs.c.id == claim.job_id,
        jobs.c.token == claim.token,
        jobs.c.beat == claim.beat,
        jobs.c.status == "running",
    )


def give_up_on_crashers(connection: Connection, silent: Sequence[Claim]) -> None:
    """Fail the jobs whose claimant has died for the last time that is allowed."""
    values = {
        "status": "failed",
        "token": jobs.c.token + 1,
        "finished_at": time.time(),
        "crashes": jobs.c.crashes + 1,
        "error": f"{MAX_CRASHES} attempts in a row ended with the death of their supervisor",
    }
    for claim in sorted(silent, key=lambda one: one.job_id):  # all supervisors in one order
        crashed = is_claim(claim) & (jobs.c.crashes >= MAX_CRASHES - 1)
        if connection.execute(update(jobs).where(crashed).values(**values)).rowcount:
            ended(connection, claim.job_id)


def claim_next(connection: Connection, free: ColumnElement[bool]) -> Job | None:
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


def change(connection: Connection, job: Job, **values: Any) -> None:
    claim = and_(jobs.c.id == job.id, jobs.c.token == job.token, jobs.c.status == "running")
    if connection.execute(update(jobs).where(claim).values(**values)).rowcount == 0:
        raise ClaimLost


def add_event(connection: Connection, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
    connection.execute(insert(events).values(job_id=job_id, kind=kind, data=dict(data), at=time.time()))


def ended(connection: Connection, job_id: str) -> Job:
    """Add the event of the terminal status, and a delivery where it notifies; of the steps some are kept."""
    _thin_steps(connection, job_id)
    job = fetch(connection, job_id)
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
