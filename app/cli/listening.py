"""The sockets that the service listens on, bound before anything else is done."""

import errno
import os
import socket
import sys
from typing import Any

Address = tuple[Any, ...]  # as the family has it

BACKLOG = 2048
NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def listen(host: str, port: int) -> list[socket.socket]:
    """A listening socket for every address of the host; `::` takes IPv4 as well.

    Ends the process with status 1 and one line where that cannot be.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            if port == 0 and sockets:  # the port that the first was given
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sockets.append(_listening(family, address))
            except OSError as error:  # `localhost` may have an IPv6 address where there is no IPv6
                if not sockets or error.errno not in NOT_HERE:
                    raise
    except OSError as error:
        sys.exit(f"error: {_reason(error, host, port)}")
    return sockets


def url(host: str, sockets: list[socket.socket]) -> str:
    """Where a browser on this machine finds the service."""
    name = WILDCARDS.get(host, host)
    port = sockets[0].getsockname()[1]
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def own_names(host: str) -> tuple[str, ...]:
    """What a request may call the service where nothing else is set: `*` where it listens on every address."""
    if host in WILDCARDS:
        return ("*",)
    return (f"[{host}]" if ":" in host else host, *LOOPBACK)


def _addresses(host: str, port: int) -> list[tuple[int, Address]]:
    """Family and address of each; IPv4 first."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    unique = {(family, address) for family, _, _, _, address in found}
    return sorted(unique, key=lambda one: (one[0] != socket.AF_INET, str(one[1])))


def _listening(family: int, address: Address) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows it would let others take the port, too
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        made.bind(address)
        made.listen(BACKLOG)  # from now on nobody else can have it
    except OSError:
        made.close()
        raise
    return made


def _reason(error: OSError, host: str, port: int) -> str:
    if isinstance(error, socket.gaierror):
        return f"MINIST_HOST: no address is known for {host!r}"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: choose another with --port or MINIST_PORT"
    if error.errno == errno.EACCES:
        return f"port {port} may not be used by this user: choose one above 1023 with --port or MINIST_PORT"
    return f"MINIST_HOST: {host} cannot be listened on ({error.strerror})"
