"""What the application holds while it runs, and how endpoints get at it."""

from typing import Annotated, TypedDict, cast

from fastapi import Depends, Request

from app.batching import Batcher
from app.counts import Counts
from app.deadlines import Deadlines
from app.draining import Draining
from app.exam import Exam
from app.feedback import Feedback
from app.gate import Gate
from app.jobs.queue import Queue
from app.metrics import Processes
from app.registry import Registry
from app.remembering import Memory
from app.settings import Settings
from app.versions import Versions


class State(TypedDict):
    """Made by the lifespan; Starlette hands it to every request."""

    settings: Settings
    registry: Registry
    versions: Versions
    queue: Queue
    feedback: Feedback
    memory: Memory | None  # none: predictions cannot be corrected
    exam: Exam
    gate: Gate
    draining: Draining
    batcher: Batcher
    deadlines: Deadlines
    counts: Counts
    processes: Processes
    cpu_quota: float


def _state(request: Request) -> State:
    return cast(State, request.scope["state"])


StateOf = Annotated[State, Depends(_state)]


def _registry(state: StateOf) -> Registry:
    return state["registry"]


def _settings(state: StateOf) -> Settings:
    return state["settings"]


def _versions(state: StateOf) -> Versions:
    return state["versions"]


def _feedback(state: StateOf) -> Feedback:
    return state["feedback"]


def _queue(state: StateOf) -> Queue:
    return state["queue"]


RegistryOf = Annotated[Registry, Depends(_registry)]
SettingsOf = Annotated[Settings, Depends(_settings)]
VersionsOf = Annotated[Versions, Depends(_versions)]
FeedbackOf = Annotated[Feedback, Depends(_feedback)]
QueueOf = Annotated[Queue, Depends(_queue)]
