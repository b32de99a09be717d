"""What is known of a job as JSON: the same in `GET /train/{id}` and in what a job notifies."""

from collections.abc import Mapping
from typing import Any

from app.clock import utc
from app.jobs.job import Job

_NO_CHANGE = dict.fromkeys(("used", "right_before", "right_after"))


def facts(job: Job) -> dict[str, Any]:
    """All of a job that does not depend on the moment: without its place in the queue and its progress."""
    return {
        "id": job.id,
        "kind": job.kind,
        "status": job.status,
        "model": job.model,
        "recipe": job.config["recipe"],
        "name": job.name,
        "notes": job.notes,
        "tags": list(job.tags or ()),
        "promote": job.promote,
        "config": dict(job.config),
        "epoch": job.last["epoch"] if job.last else 0,
        "epochs": _epochs(job),
        "last": _dict(job.last),
        "best": _dict(job.best),
        "attempts": job.attempts,
        "created_at": _moment(job.created_at),
        "started_at": _moment(job.started_at),
        "finished_at": _moment(job.finished_at),
        "error": job.error,
        "exit_code": job.exit_code,
        "version": job.version,
        "decision": _dict(job.decision),
        "feedback": None if job.feedback is None else {**_NO_CHANGE, **job.feedback},
    }


def _epochs(job: Job) -> int | None:
    """Of a search those of all trials together, which are known once it has begun."""
    told = (job.progress or {}, job.last or {})
    for source in told if job.config.get("search") else (job.config, *told):
        if source.get("epochs") is not None:
            return int(source["epochs"])
    return None


def _dict(mapping: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if mapping is None else dict(mapping)


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else utc(seconds).isoformat().replace("+00:00", "Z")
