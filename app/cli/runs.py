"""`minist runs`: the training jobs of this home, newest first."""

import time
from collections.abc import Sequence
from contextlib import closing

from app.cli.columns import columns
from app.cli.deployment import open_home, read_settings
from app.clock import utc
from app.jobs.job import Job
from models.arguments import Parser

HEADS = ("job", "model", "recipe", "data", "status", "epochs", "accuracy", "version", "started", "took", "name")


def run(words: Sequence[str]) -> int:
    """Print the jobs; the status."""
    parser = Parser(prog="minist runs", description="The training jobs, newest first; the service may run.")
    parser.add_argument("--model", help="only jobs of this model")
    parser.add_argument("--search", metavar="WORDS", help="only jobs that have these words, in any order")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="of jobs (default %(default)s)")
    chosen = parser.parse_args(words)
    home = open_home(read_settings())
    with closing(home.database):
        jobs = home.queue.page(None, 10_000 if chosen.model or chosen.search else max(1, chosen.limit), None)
    wanted = (chosen.search or "").lower().split()
    found = [job for job in jobs if chosen.model in (None, job.model) and _has(job, wanted)]
    rows = [_row(job) for job in found[: max(1, chosen.limit)]]
    nothing = "no such training jobs" if jobs else "no training jobs yet: POST /train starts one"
    print(columns(HEADS, rows) if rows else nothing)
    return 0


def _has(job: Job, words: Sequence[str]) -> bool:
    config = job.config
    texts = (job.id, job.model, job.status, config.get("recipe"), config.get("dataset"), job.name, job.notes)
    text = " ".join(map(str, filter(None, (*texts, *_tags(job))))).lower()
    return all(word in text for word in words)


def _tags(job: Job) -> list[str]:
    return [f"#{tag}" for tag in job.tags or ()]


def _row(job: Job) -> tuple[object, ...]:
    best, last = job.best or {}, job.last or {}
    started = f"{utc(job.started_at):%Y-%m-%d %H:%M}" if job.started_at else "-"
    accuracy = f"{best['accuracy']:.4f}" if "accuracy" in best else "-"
    epochs = f"{last.get('epoch', 0)}/{last.get('epochs') or job.config.get('epochs') or '?'}"
    config = job.config
    return (
        job.id[:8],
        job.model,
        config.get("recipe", "-"),
        config.get("dataset", "-"),
        job.status,
        epochs,
        accuracy,
        job.version or "-",
        started,
        _took(job),
        " ".join([*filter(None, [job.name]), *_tags(job)]) or "-",
    )


def _took(job: Job) -> str:
    """Of all attempts; "-" before the first."""
    if not job.started_at:
        return "-"
    seconds = (job.finished_at or time.time()) - job.started_at
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
