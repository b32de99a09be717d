"""A server that answers as it is told, one answer after the other, and remembers what it was asked."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """`cut`: so many bytes of the body come, then the connection breaks. `late`: seconds before anything."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    late: float = 0

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float


class Flaky(ThreadingHTTPServer):
    """Gives its `replies` in order, the last again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class _Handler(BaseHTTPRequestHandler):
    server: Flaky
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # a client that does not wait
            self.close_connection = True

    def do(self) -> None:
        size = int(self.headers.get("content-length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(
            Asked(self.command, self.path, headers, self.rfile.read(size), time.monotonic())
        )
        reply = self.server.next()
        time.sleep(reply.late)
        self.send_response(reply.status)
        length = {} if reply.status == 204 else {"content-length": str(len(reply.content))}
        for name, value in {"content-type": "application/json", **length, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.status != 204:
            self.wfile.write(reply.content[: reply.cut])
        self.close_connection = reply.cut is not None

    do_GET = do_POST = do_PUT = do_DELETE = do  # noqa: N815

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def flaky_server() -> Iterator[Flaky]:
    with Flaky() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
