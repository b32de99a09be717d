"""The search of a job, as its body shows it."""

from collections.abc import Mapping
from math import prod
from typing import Any

from pydantic import BaseModel, Field

from app.jobs.job import Job
from app.jobs.queue import Queue
from models.card import Trial


class SearchBody(BaseModel):
    """How far a search is, and what its trials came to."""

    trials: int = Field(description="how many there are")
    trial: int | None = Field(description="number of the one that is trained; null while none is")
    best: int | None = Field(description="number of the best so far, which becomes the version at the end")
    ended: list[Trial] = Field(description="those that have ended")


def search_body(job: Job, queue: Queue) -> SearchBody | None:
    """None where nothing is searched. Reads the database."""
    grid: Mapping[str, Any] | None = job.config.get("search")
    if not grid:
        return None
    told = (event.data.get("trial") for event in queue.notes(job.id))
    ended = {
        trial.number: trial for trial in map(Trial.model_validate, filter(None, told))
    }  # some are told again
    running = job.progress.get("trial") if job.progress and job.status == "running" else None
    scored = [trial for trial in ended.values() if trial.loss is not None]
    return SearchBody(
        trials=prod(map(len, grid.values())),
        trial=running,
        best=min(scored, key=lambda trial: trial.rank).number if scored else None,
        ended=[ended[number] for number in sorted(ended)],
    )
