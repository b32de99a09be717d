"""What the service answers, as frozen values. What a newer service adds is ignored, what an older one lacks is
None or empty."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, TypeVar, cast

T = TypeVar("T")
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something was refused (RFC 9457); `status` is 0 where it was never sent."""

    title: str
    status: int = 0
    detail: str = ""
    hint: str = ""
    type: str = "about:blank"
    errors: Sequence[Mapping[str, Any]] = ()

    def __str__(self) -> str:
        said = f"{self.title}: {self.detail}" if self.detail else self.title
        return f"{said}. {self.hint[:1].upper()}{self.hint[1:]}" if self.hint else said


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer of a model for one picture, or one row of a table."""

    model: str
    version: int
    label: str
    index: int
    probability: float
    probabilities: Mapping[str, float]  # of every class, in class order
    id: str | None = None  # by which it can be corrected, where the service keeps predictions
    input: Mapping[str, Any] | None = None  # what was done to the picture: size, inverted, box
    seen: bytes | None = None  # with explain: what the model saw, as PNG
    saliency: bytes | None = None  # with explain: how much each pixel counts, as PNG
    overlay: bytes | None = None  # with explain: in colour, whether for the answer or against it, as PNG
    contributions: Mapping[str, float] | None = None  # with explain, of a row: how much each column counts
    typical: Mapping[str, Any] | None = None
    novelty: float | None = None  # of a picture: share of held-out pictures that are less unusual, 0..1
    warning: Mapping[str, Any] | None = None  # type ("several" digits, "unfamiliar"), detail

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """Classes with their probabilities, the most probable first."""
        return sorted(self.probabilities.items(), key=lambda pair: -pair[1])


@dataclass(frozen=True, slots=True)
class NumberDigit:
    """One digit of a number."""

    label: str
    index: int
    probability: float
    box: Sequence[int]  # x, y, width and height in the picture as it is shown
    line: int = 0
    id: str | None = None  # by which it can be corrected, where the service keeps predictions


@dataclass(frozen=True, slots=True)
class Number:
    """All digits of one picture, in reading order."""

    model: str
    version: int
    number: str  # lines are separated by newlines
    lines: Sequence[str]
    probability: float  # that all are right
    digits: Sequence[NumberDigit]
    input: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A served model. `card`, where one model was asked for: all that is known of it."""

    name: str
    version: int | None = None
    default: bool = False
    architecture: str = ""
    dataset: str | None = None
    accuracy: float | None = None  # on the test set, 0..1
    parameters: int = 0
    classes: Sequence[str] = ()
    input: str = "picture"  # or "table"
    card: Mapping[str, Any] | None = None

    @property
    def takes_rows(self) -> bool:
        """Whether it takes rows of a table rather than pictures."""
        return self.input == "table"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model."""

    version: int
    aliases: Sequence[str] = ()
    created_at: datetime | None = None
    job: str | None = None
    sha256: str = ""
    accuracy: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    """Where an alias points."""

    model: str
    alias: str
    version: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """A version of a data set: `status` is importing, needs_target, ready or failed."""

    name: str
    reference: str
    status: str
    version: int | None = None  # None: it comes with the service
    error: str | None = None
    built_in: bool = False
    kind: str = "images"  # or "table"
    created_at: datetime | None = None
    ready_at: datetime | None = None
    bytes: int = 0
    summary: Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None
    digest: str | None = None
    job: str | None = None
    progress: Mapping[str, Any] | None = None
    profile: Mapping[str, Any] | None = None

    @property
    def proposals(self) -> list[str]:
        """Of a table that needs its target: the columns that may be it."""
        return [str(found["column"]) for found in (self.profile or {}).get("proposals", ())]


@dataclass(frozen=True, slots=True)
class Job:
    """A training job, or an import: `status` is queued, running, succeeded, failed or cancelled."""

    id: str
    status: str
    model: str
    kind: str = "train"
    recipe: str = ""
    promote: str = ""
    config: Mapping[str, Any] | None = None
    position: int | None = None
    epoch: int = 0  # complete ones
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = None
    last: Mapping[str, Any] | None = None
    best: Mapping[str, Any] | None = None
    attempts: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    version: int | None = None
    decision: Mapping[str, Any] | None = None
    feedback: Mapping[str, Any] | None = None
    notify: Mapping[str, Any] | None = None
    warning: str | None = None
    search: Mapping[str, Any] | None = None  # trials, trial, best, ended: where settings are searched
    name: str | None = None  # what people write on it
    notes: str | None = None
    tags: Sequence[str] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing more happens unless it is resumed."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Correction:
    """A prediction with its right label."""

    id: str
    model: str
    version: int
    label: str
    predicted: str


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job; ids grow. Its subclasses are those that this client knows."""

    kind: ClassVar[str] = ""

    id: int


@dataclass(frozen=True, slots=True)
class StatusEvent(JobEvent):
    """Its status has changed."""

    kind: ClassVar[str] = "status"

    status: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StepEvent(JobEvent):
    """Where it is within an epoch; loss and accuracy are those of this epoch so far."""

    kind: ClassVar[str] = "step"

    epoch: int = 0
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = None
    trial: int | None = None  # of a search: which of how many
    trials: int | None = None


@dataclass(frozen=True, slots=True)
class EpochEvent(JobEvent):
    """The end of an epoch; loss and accuracy are of `split`, validation or test."""

    kind: ClassVar[str] = "epoch"

    epoch: int = 0
    epochs: int | None = None
    train_loss: float | None = None
    train_accuracy: float | None = None
    split: str | None = None
    loss: float | None = None
    accuracy: float | None = None
    lr: float | None = None
    seconds: float | None = None
    trial: int | None = None  # of a search: which of how many
    trials: int | None = None


@dataclass(frozen=True, slots=True)
class NoteEvent(JobEvent):
    """What the run has decided, and why."""

    kind: ClassVar[str] = "note"

    text: str = ""


_EVENTS = {kind.kind: kind for kind in (StatusEvent, StepEvent, EpochEvent, NoteEvent)}


def event_of(kind: str, number: int, text: str) -> JobEvent:
    """The event of one server-sent event; of a kind that this client does not know, its id alone."""
    known = _EVENTS.get(kind)
    return JobEvent(number) if known is None else read(known, {**json.loads(text), "id": number})


def read(kind: type[T], found: Mapping[str, Any]) -> T:
    """A value of this kind from a JSON object. Raises KeyError or TypeError where it is no such thing."""
    given = {
        name: found[name] if convert is None or found[name] is None else convert(found[name])
        for name, convert in _fields(cast(Hashable, kind))
        if name in found
    }
    return kind(**given)


def prediction_of(found: Mapping[str, Any]) -> Prediction | Problem:
    """An answer of a batch: a prediction, or the problem with it."""
    return read(Prediction, found) if "label" in found else read(Problem, found)


def model_of(name: str, card: Mapping[str, Any]) -> ModelInfo:
    """What a card says."""
    taken, dataset, test = card.get("input"), card.get("dataset"), (card.get("metrics") or {}).get("test")
    return ModelInfo(
        name=str(card.get("name", name)),
        version=card.get("version"),
        architecture=str(card.get("architecture", "")),
        dataset=dataset.get("name") if isinstance(dataset, Mapping) else None,
        accuracy=test.get("accuracy") if isinstance(test, Mapping) else None,
        parameters=int(card.get("parameters") or 0),
        classes=tuple(card.get("classes", ())),
        input="table" if isinstance(taken, Mapping) and taken.get("kind") == "table" else "picture",
        card=card,
    )


@cache
def _fields(kind: Any) -> list[tuple[str, Callable[[Any], Any] | None]]:
    return [(field.name, _CONVERT.get((field.name, str(field.type)))) for field in fields(kind)]


def _from_data_url(text: str) -> bytes:
    return b64decode(text.partition(",")[2])


def _digits(found: Sequence[Mapping[str, Any]]) -> tuple[NumberDigit, ...]:
    return tuple(read(NumberDigit, one) for one in found)


_MOMENT = "datetime | None"
_CONVERT: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    **{
        (name, _MOMENT): datetime.fromisoformat
        for name in ("created_at", "ready_at", "started_at", "finished_at")
    },
    ("seen", "bytes | None"): _from_data_url,
    ("saliency", "bytes | None"): _from_data_url,
    ("overlay", "bytes | None"): _from_data_url,
    ("classes", "Sequence[str]"): tuple,
    ("lines", "Sequence[str]"): tuple,
    ("box", "Sequence[int]"): tuple,
    ("digits", "Sequence[NumberDigit]"): _digits,
    ("aliases", "Sequence[str]"): tuple,
    ("errors", "Sequence[Mapping[str, Any]]"): tuple,
}
