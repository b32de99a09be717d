"""The connections of one API worker: how many there are, and which have been slow for too long.

A client that sends nothing, half a head, or a body drop by drop costs a descriptor and little else, but only
for so long; and when all places are taken, it is such a connection that makes room for a new one.
"""

import asyncio
import logging
from typing import Protocol

log = logging.getLogger("minist.connections")

HEAD_SECONDS = 15  # until the head of a request is complete
BODY_SECONDS = 10  # before the rate of a body counts
BODY_RATE = 1024  # bytes per second, on average, that a body must have
WRITE_SECONDS = 60  # in which a client must read what fills its buffers
RESERVED = 32  # connections above the limit, for probes
SPARE_DESCRIPTORS = 256  # for files, decoders, the database


class Connection(Protocol):
    """What is known of a connection; all times are the event loop's."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""

    def slowness(self, now: float) -> str | None:
        """Why the connection has been too slow, if it has."""

    def close_slow(self, reason: str) -> None:
        """Answer 408 where that is still possible, and close."""


class Connections:
    """All connections of one process. Used in its event loop only."""

    def __init__(self, limit: int) -> None:
        self.limit = min(limit, max(1, raise_descriptor_limit() - SPARE_DESCRIPTORS - RESERVED))
        self.refused = 0
        self._open: dict[Connection, None] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> bool:
        """Whether requests of the connection may be answered; if not, only probes may. Makes room if it can."""
        if len(self._open) >= self.limit:
            self._make_room()
        self._open[connection] = None
        return len(self._open) <= self.limit

    @property
    def is_full(self) -> bool:
        """Whether there is no place even for probes."""
        return len(self._open) > self.limit + RESERVED

    def remove(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def _make_room(self) -> None:
        """Close the oldest connection without a request."""
        for connection in self._open:
            if connection.is_idle:
                connection.close_slow("the connection was idle, and others were waiting")
                self.remove(connection)
                return

    async def sweep(self) -> None:
        """Close what has been slow for too long."""
        now = asyncio.get_running_loop().time()
        slow = [(one, reason) for one in self._open if (reason := one.slowness(now)) is not None]
        for connection, reason in slow:
            connection.close_slow(reason)
        if slow:
            log.info("%d slow connections were closed: %s", len(slow), slow[0][1])


def raise_descriptor_limit(most: int = 65_536) -> int:
    """Allow this process as many open files as the system lets it, up to `most`; how many those are."""
    try:
        import resource
    except ImportError:  # not on this system
        return 8192
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return most if soft == resource.RLIM_INFINITY else soft
