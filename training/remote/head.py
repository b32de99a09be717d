"""Whether the head of a cluster is there. Ray itself ends a driver whose head is gone, or waits for minutes."""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from training.errors import ClusterAway
from training.supervision import LATER

CONNECT_SECONDS = 3.0
LOOK_SECONDS = 2.0
AWAY_SECONDS = 15.0  # less than the 60 after which Ray ends its driver


def require_head(address: str) -> None:
    """Raises ClusterAway where nobody listens at the address."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        socket.create_connection((parts.hostname, parts.port), CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterAway(f"the Ray cluster at {address} does not answer: {error.strerror or error}") from error


@contextmanager
def watched_head(address: str) -> Iterator[None]:
    """End this process, so that it is tried later, once the head is away for long."""
    ending = threading.Event()

    def watch() -> None:
        seen = time.monotonic()
        while not ending.wait(LOOK_SECONDS):
            try:
                require_head(address)
                seen = time.monotonic()
            except ClusterAway as error:
                if time.monotonic() - seen > AWAY_SECONDS:
                    sys.stderr.write(f"{error}\n")
                    sys.stderr.flush()
                    os._exit(LATER)

    threading.Thread(target=watch, name="head", daemon=True).start()
    try:
        yield
    finally:
        ending.set()
