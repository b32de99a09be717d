"""What `minist serve` answers while it waits for its database: that it lives, and is not ready."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

SECONDS = 2.0  # that a client has for its request
MOST = 16 * 1024  # bytes of a head
AT_ONCE = 100  # connections; others wait in the socket

_ALIVE = (200, "OK", "application/json", {"status": "ok"})
_WAITS = (
    503,
    "Service Unavailable",
    "application/problem+json",
    {
        "type": "urn:minist:not-ready",
        "title": "Not ready",
        "status": 503,
        "detail": "the service waits for its database",
        "hint": "try again; the operator should look at the server that MINIST_DATABASE_URL names",
    },
)


@contextmanager
def answering(sockets: Sequence[socket.socket]) -> Iterator[None]:
    """Answer on listening sockets, which stay open, in a thread."""
    loop, ending = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=_run, args=(loop, sockets, ending), name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, sockets: Sequence[socket.socket], ending: asyncio.Event) -> None:
    loop.run_until_complete(_serve(sockets, ending))


async def _serve(sockets: Sequence[socket.socket], ending: asyncio.Event) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with room, asyncio.timeout(SECONDS):
                writer.write(_response(await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
        writer.close()

    servers = [await asyncio.start_server(answer, sock=one.dup(), limit=MOST) for one in sockets]
    await ending.wait()
    for server in servers:
        server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _response(head: bytes) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    status, reason, media_type, body = _ALIVE if path.endswith(b"/livez") else _WAITS
    content = json.dumps(body).encode()
    lines = (
        f"HTTP/1.1 {status} {reason}",
        f"content-type: {media_type}",
        f"content-length: {len(content)}",
        *(("retry-after: 5",) if status == 503 else ()),
        "connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + (b"" if method == b"HEAD" else content)
