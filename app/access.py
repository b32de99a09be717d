"""The scope that an endpoint needs, as a dependency."""

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.gate import presented_key
from app.keys import Identity, Scope
from app.state import StateOf

_Bearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(HTTPBearer(auto_error=False, description="Authorization: Bearer KEY")),
]
_Header = Annotated[
    str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False, description="X-API-Key: KEY"))
]


def _requires(scope: Scope) -> Callable[..., Identity]:
    def admit(request: Request, state: StateOf, bearer: _Bearer, header: _Header) -> Identity:
        return state["gate"].admit(presented_key(request.headers), scope)

    return admit


async def _may_read(request: Request, state: StateOf, bearer: _Bearer, header: _Header) -> None:
    if not state["settings"].open_predict:
        state["gate"].admit(presented_key(request.headers), None)


MayTrain = Annotated[Identity, Depends(_requires("train"))]
MayAdminister = Annotated[Identity, Depends(_requires("admin"))]
MAY_READ = Depends(_may_read)
