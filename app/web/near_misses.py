"""Names that nobody asked for: a parameter that is silently ignored is an answer to another question."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from fastapi import Request

from app.errors import InvalidRequest
from app.web.paths import path_of
from app.web.rate_limit import FREE


def unknown(kind: str, name: str, known: Sequence[str]) -> tuple[str, str]:
    """Detail and hint for a name that is not among the known ones."""
    near = get_close_matches(name[:64].lower().replace("-", "_"), known, 1)
    if near:
        return f"there is no {kind} {name[:64]!r}", f"did you mean {near[0]!r}?"
    there_is = f"there is {', '.join(known)}" if known else "there is none here"
    return f"there is no {kind} {name[:64]!r}", f"leave it out: {there_is}"


async def known_parameters(request: Request) -> None:
    """A dependency of every router: raises InvalidRequest for query parameters that the route does not have."""
    given = request.query_params.multi_items()
    if not given or path_of(request.scope) in FREE:  # monitoring adds what it likes
        return
    known = tuple(dict.fromkeys(_parameters(request.scope["route"].dependant)))
    for name, _ in given:
        if name not in known:
            raise InvalidRequest(*unknown("query parameter", name, known))
    if len({name for name, _ in given}) < len(given):
        raise InvalidRequest("a query parameter comes twice", "send each once")


def _parameters(dependant: Any) -> Iterator[str]:
    yield from (parameter.alias for parameter in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _parameters(inner)
