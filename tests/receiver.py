"""A receiver of notifications on this machine: it answers as it is told, and keeps what came."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Notification:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Answers with `statuses` one after the other, then with 200."""

    port: int
    statuses: list[int] = field(default_factory=list)
    location: str = "/elsewhere"  # of redirects
    answer: bytes = b"a secret of the receiver"
    hangs: threading.Event | None = None  # answers begin when it is set
    got: list[Notification] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    """One that listens on a port, or on a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.got.append(Notification(self.path, dict(self.headers.items()), body))
            if found.hangs is not None:
                found.hangs.wait(30)
            status = found.statuses.pop(0) if found.statuses else 200
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", found.location)
            self.send_header("content-length", str(len(found.answer)))
            self.end_headers()
            self.wfile.write(found.answer)

        do_GET = do_POST  # noqa: N815 (what a redirect would lead to)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    found = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
