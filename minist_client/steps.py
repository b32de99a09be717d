"""What a call consists of, without doing any of it.

A plan is a generator: it yields steps (send this, wait so long, do this work) and gets what came of them. Both
clients carry out the same plans: `minist_client.client` waits, `minist_client.async_client` awaits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from minist_client.answers import Problem, read
from minist_client.errors import ServiceError, UnexpectedAnswer
from minist_client.waiting import retry_after

T = TypeVar("T")
PIECE_BYTES = 256 * 1024
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Body:
    """The bytes of a request; with `file`, those of the file between `before` and `after`."""

    kind: str
    before: bytes
    file: Path | None = None
    after: bytes = b""

    @property
    def size(self) -> int:
        return len(self.before) + (self.file.stat().st_size if self.file else 0) + len(self.after)

    def pieces(self) -> Iterator[bytes]:
        yield self.before
        if self.file is not None:
            with self.file.open("rb") as stream:
                while piece := stream.read(PIECE_BYTES):
                    yield piece
        yield self.after


def json_body(found: Any) -> Body:
    return Body(JSON, json.dumps(found, separators=(",", ":")).encode())


@dataclass(frozen=True, slots=True)
class Answer:
    """What came: below 400, else it is a ServiceError."""

    status: int
    headers: Mapping[str, str]  # by their names in small letters
    content: bytes

    def json(self) -> Any:
        """Raises UnexpectedAnswer."""
        try:
            return json.loads(self.content)
        except ValueError as error:
            raise UnexpectedAnswer(
                f"the answer is no JSON: {self.content[:100]!r}; is this the address of a minist service?"
            ) from error


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its answer is read. `repeatable`: to send it twice does no harm."""

    method: str
    path: str
    read: Callable[[Any], T]  # of the JSON of the answer
    params: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True
    raw: bool = False  # whether `read` gets the bytes instead

    def result(self, answer: Answer) -> T:
        """Raises ServiceError or UnexpectedAnswer."""
        if answer.status >= 300:
            raise refusal(answer)
        try:
            return self.read(answer.content if self.raw or answer.status == 204 else answer.json())
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UnexpectedAnswer(
                f"the answer to {self.method} {self.path} cannot be read ({error!r}); "
                "is this the address of a minist service?"
            ) from error


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Something that takes the CPU or the disk."""

    function: Callable[[], Any]


Step = Call[Any] | Pause | Work
Plan = Generator[Step, Any, T]


def ask(call: Call[T]) -> Plan[T]:
    """The result of a call."""
    result: T = yield call
    return result


def pause(seconds: float) -> Plan[None]:
    yield Pause(seconds)


def work(function: Callable[[], T]) -> Plan[T]:
    """What the function returns."""
    result: T = yield Work(function)
    return result


def refusal(answer: Answer) -> ServiceError:
    """What an answer of 300 and above says."""
    return ServiceError(_problem(answer), retry_after(answer.headers.get("retry-after", "")))


def _problem(answer: Answer) -> Problem:
    if 300 <= answer.status < 400:
        place = answer.headers.get("location", "elsewhere")
        return Problem(
            "Moved", answer.status, f"the service is at {place}", "use that address as the client's url"
        )
    try:
        return read(Problem, {**json.loads(answer.content), "status": answer.status})
    except (ValueError, TypeError, KeyError):  # of a proxy
        said = answer.content[:200].decode(errors="replace").strip()
        return Problem(
            f"HTTP {answer.status}", answer.status, said, "ask whoever runs the service or its proxy"
        )
