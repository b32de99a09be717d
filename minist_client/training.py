"""Training jobs: start, look at, cancel, resume; and how one is followed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Any, Literal
from urllib.parse import quote

from minist_client.answers import Job, JobEvent, event_of, read
from minist_client.errors import ClientError, NotReachable, ServiceError, UnexpectedAnswer
from minist_client.steps import Call, Plan, ask, json_body
from minist_client.waiting import AGAIN, Retries

Promote = Literal["if_better", "always", "never"]
SILENCE_SECONDS = 45  # without even a sign of life, which comes every 15: the connection is lost
HELD_SECONDS = 10  # a connection that held so long was none that failed


def train(
    model: str,
    recipe: str,
    dataset: str | None = None,
    promote: Promote = "if_better",
    feedback: bool = False,
    idempotency_key: str | None = None,
    notify: str | None = None,
    priority: int | None = None,
    search: Mapping[str, Sequence[Any]] | None = None,
    resources: Mapping[str, int] | None = None,
    **settings: Any,
) -> Plan[Job]:
    """Start a job that makes a new version of `model`. `settings` are those of the recipe (`epochs=3`,
    `lr=0.1`); None: as the recipe has it. `notify` is a URL that is told how the job ended,
    where the service may. Of jobs that wait, larger priorities (-10 to 10) are started first. With `search`,
    such as `{"lr": [0.001, 0.003]}`, all combinations are trained; the best by validation becomes the version.
    `resources`, such as `{"cpus": 2, "gpus": 1}`, are what it needs of the machine that trains it.

    The request has an idempotency key of its own, so that sending it again never starts a second job.
    """
    grid = None if search is None else {name: list(values) for name, values in search.items()}
    needs = None if resources is None else dict(resources)
    more = {"dataset": dataset, "notify": notify, "priority": priority, "search": grid, "resources": needs}
    wanted = {**more, **settings}
    found = {"model": model, "recipe": recipe, "promote": promote, "feedback": feedback}
    found |= {name: value for name, value in wanted.items() if value is not None}
    headers = {"idempotency-key": idempotency_key or token_hex(16)}
    return (yield from ask(Call("POST", "/train", partial(read, Job), body=json_body(found), headers=headers)))


def job(id: str | Job) -> Plan[Job]:
    """Where a job stands."""
    return (yield from ask(Call("GET", _path(id), partial(read, Job))))


def jobs(
    status: str | None = None, kind: Literal["train", "import"] = "train", most: int = 100
) -> Plan[list[Job]]:
    """The newest jobs, at most so many; only those of a status where one is said."""
    found: list[Job] = []
    params = {"kind": kind, **({"status": status} if status else {})}
    cursor: str | None = ""
    while cursor is not None and len(found) < most:
        page = {**params, "limit": str(min(100, most - len(found))), **({"cursor": cursor} if cursor else {})}
        some, cursor = yield from ask(Call("GET", "/train", _read_page, page))
        found += some
    return found


def label(
    id: str | Job, name: str | None = None, notes: str | None = None, tags: Sequence[str] | None = None
) -> Plan[Job]:
    """Write a name, notes or tags on a job; what is None stays, what is empty is taken away."""
    said = {"name": name, "notes": notes, "tags": None if tags is None else list(tags)}
    body = json_body({key: value for key, value in said.items() if value is not None})
    return (yield from ask(Call("PATCH", _path(id), partial(read, Job), body=body)))


def cancel(id: str | Job) -> Plan[Job]:
    """End a queued or running job; it can be resumed from its last complete epoch."""
    return (yield from ask(Call("DELETE", _path(id), partial(read, Job), repeatable=False)))


def resume(id: str | Job) -> Plan[Job]:
    """Queue a cancelled or failed job again."""
    return (yield from ask(Call("POST", f"{_path(id)}/resume", partial(read, Job), repeatable=False)))


def _read_page(found: Mapping[str, Any]) -> tuple[list[Job], str | None]:
    return [read(Job, one) for one in found["jobs"]], found["next"]


def _path(id: str | Job) -> str:
    return f"/train/{quote(id.id if isinstance(id, Job) else id, safe='')}"


@dataclass
class Following:
    """How a job's events are read to their end over connections that break.

    A client asks for `path` with `headers`, says when a stream is `opened`, what is `seen` in it, and how it
    ended; then it gets the seconds to wait before the next. 204 says that the job has ended and all was seen: a
    terminal status alone may be one that a resumed job has left behind.
    """

    id: str | Job
    retries: Retries
    last: int = 0
    _moment: float = 0.0  # when the present stream was opened
    _progress: bool = False  # whether it brought anything
    _failures: int = 0
    _since: float = 0.0

    @property
    def path(self) -> str:
        return f"{_path(self.id)}/events"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"last-event-id": str(self.last), "accept": "text/event-stream"}

    def opened(self, content_type: str) -> None:
        """Raises UnexpectedAnswer where it is no stream of events."""
        if not content_type.startswith("text/event-stream"):
            raise UnexpectedAnswer(f"{self.path} is {content_type or 'of no type'}, not a stream of events")
        self._moment, self._progress = time.monotonic(), False

    def seen(self, kind: str, id: str, data: str) -> Iterator[JobEvent]:
        """The event, unless it was seen before. Raises UnexpectedAnswer."""
        if not data:
            return
        try:
            event = event_of(kind, int(id), data)
        except (ValueError, TypeError, KeyError) as error:
            raise UnexpectedAnswer(f"an event of {self.path} cannot be read ({error!r})") from error
        self._progress, self._failures = True, 0
        if event.id > self.last:
            self.last = event.id
            yield event

    def ended(self) -> float:
        """The stream came to its end: all was seen, or the service restarts."""
        if self._progress:
            return 0.0
        return self.lost(NotReachable("the stream of events ends again and again before the job does"))

    def lost(self, error: ClientError) -> float:
        """Raises the error where another attempt would not help, or there were enough."""
        now = time.monotonic()
        if self._moment and now - self._moment > HELD_SECONDS:  # a proxy that ends what is silent
            self._failures = 0
        if self._failures == 0:
            self._since = now
        self._failures, self._moment = self._failures + 1, 0.0
        if not self.retries.times or not _may_pass(error):
            raise error
        asked = error.retry_after if isinstance(error, ServiceError) else None
        wait = Retries(self._failures, self.retries.seconds).wait(self._failures, now - self._since, asked)
        if wait is None:
            raise error
        return wait


def _may_pass(error: ClientError) -> bool:
    return isinstance(error, NotReachable) or (isinstance(error, ServiceError) and error.status in AGAIN)
