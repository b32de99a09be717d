"""Both clients behind one face, so that a test asks one as the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from minist_client import AsyncClient, Client, JobEvent

KINDS = ("waits", "awaited")


class _Awaited:
    """AsyncClient as if it were the other."""

    def __init__(self, client: AsyncClient, portal: BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._portal.call(partial(getattr(self._client, name), *args, **kwargs))

        return call

    def follow(self, *args: Any) -> list[JobEvent]:
        async def collect() -> list[JobEvent]:
            return [event async for event in self._client.follow(*args)]

        return self._portal.call(collect)


@contextmanager
def client_of(kind: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
    """A client of this kind, closed at the end."""
    if kind == "waits":
        with Client(*args, **kwargs) as client:
            yield client
    else:
        with start_blocking_portal() as portal:
            awaited = AsyncClient(*args, **kwargs)
            try:
                yield _Awaited(awaited, portal)
            finally:
                portal.call(awaited.close)
