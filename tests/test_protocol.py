"""What a connection may send, and how slowly: asked by raw sockets, since HTTP clients are too polite."""

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

import app.web.connections
import app.web.protocol
from app.web.connections import Connections
from app.web.protocol import MAX_HEAD_BYTES, WHOLE_ANSWER, HttpProtocol

H2C = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"


class Echo:
    """ASGI: answers with what it understood; `/refuse` answers before it has read the body, `/stream`
    sends its body some time after the head, `/whole` its answer by one call."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["services"] = SimpleNamespace(connections=self.connections)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, status = b"", 200
        if scope["path"] in ("/refuse", "/whole-413"):
            status = 413
        else:
            while (message := await receive()).get("more_body"):
                body += message["body"]
            body += message.get("body", b"")
        names = [name.decode() for name, _ in scope["headers"]]
        answer = json.dumps([scope["method"], scope["path"], len(body), names]).encode()
        headers = [(b"content-length", b"%d" % len(answer))]
        if status == 413:
            headers.append((b"connection", b"close"))
        write = scope["extensions"][WHOLE_ANSWER]["write"]
        if scope["path"].startswith("/whole") and write(send, status, headers, answer):
            return
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if scope["path"] == "/stream":
            await asyncio.sleep(0.5)
            await send({"type": "http.response.body", "body": answer[:10], "more_body": True})
            answer = answer[10:]
        await send({"type": "http.response.body", "body": answer})


@contextmanager
def server(limit: int = 100) -> Iterator[tuple[int, Connections]]:
    """A real server in a thread: its port, and its connections."""
    connections = Connections(limit)
    config = uvicorn.Config(Echo(connections), port=0, http=HttpProtocol, ws="none", log_level="error")
    running = uvicorn.Server(config)

    async def serve() -> None:
        sweeping = asyncio.create_task(sweep())
        await running.serve()
        sweeping.cancel()

    async def sweep() -> None:
        while True:
            await asyncio.sleep(0.05)
            await connections.sweep()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield running.servers[0].sockets[0].getsockname()[1], connections
    running.should_exit = True
    thread.join()


@pytest.fixture
def port() -> Iterator[int]:
    with server() as (port, _):
        yield port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def ask(port: int, *parts: bytes, pause: float = 0.05) -> bytes:
    """Send the parts one after the other, each in a segment of its own; what comes until the server closes."""
    with closing(connect(port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        return rest(connection)


def bodies(answer: bytes) -> list[Any]:
    """The JSON bodies of the answers on one connection."""
    return [json.loads(part.split(b"\r\n\r\n", 1)[1]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def request(path: str, body: bytes = b"", more: bytes = b"", close: bool = True) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n".encode()
    return head + more + (b"Connection: close\r\n" if close else b"") + b"\r\n" + body


# -- upgrades ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 10, -60, -1, None])
def test_an_upgrade_is_ignored_and_the_body_read(port: int, cut: int | None) -> None:
    """In one segment or in several: it is the body of this request, never another request."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    sent = request("/one", smuggled, H2C, close=False) + request("/two")
    end_of_head = sent.index(b"\r\n\r\n") + 4
    at = end_of_head if cut is None else (end_of_head + cut if cut >= 0 else cut)
    answers = bodies(ask(port, sent[:at], sent[at:]))
    assert [(method, path, size) for method, path, size, _ in answers] == [
        ("POST", "/one", len(smuggled)),
        ("POST", "/two", 0),
    ]
    assert not {"upgrade", "http2-settings"} & set(answers[0][3])


def test_a_chunked_body_after_an_upgrade_is_read(port: int) -> None:
    head = b"POST /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + H2C + b"\r\n"
    answers = bodies(ask(port, head, b"5\r\nGET /\r\n0\r\n\r\n".replace(b"5", b"5", 1), request("/two")))
    assert [answer[:3] for answer in answers] == [["POST", "/one", 5], ["POST", "/two", 0]]


def test_other_upgrades_are_ignored_too(port: int) -> None:
    for protocol in (b"websocket", b"TLS/1.0", b"x"):
        head = (
            b"GET /one HTTP/1.1\r\nHost: x\r\nUpgrade: " + protocol + b"\r\nConnection: close, upgrade\r\n\r\n"
        )
        with closing(connect(port)) as connection:
            connection.sendall(head + request("/two"))
            assert [answer[1] for answer in bodies(rest(connection))] == ["/one", "/two"]


def test_connect_is_refused(port: int) -> None:
    (body,) = bodies(ask(port, b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\nGET / HTTP/1.1\r\n\r\n"))
    assert (body["status"], body["title"]) == (400, "Malformed request")


# -- heads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["path", "value", "name", "many", "never ending"])
def test_a_large_head_is_431(port: int, kind: str) -> None:
    large = b"a" * (MAX_HEAD_BYTES + 1)
    head = {
        "path": b"GET /" + large + b" HTTP/1.1\r\n\r\n",
        "value": b"GET / HTTP/1.1\r\nx: " + large + b"\r\n\r\n",
        "name": b"GET / HTTP/1.1\r\n" + large + b": x\r\n\r\n",
        "many": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
        "never ending": b"GET / HTTP/1.1\r\nx: " + large * 4,
    }[kind]
    answer = ask(port, head)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert bodies(answer)[0]["hint"] == "send fewer or shorter headers"


def test_endless_headers_cost_little(port: int) -> None:
    """200 MiB on one connection: they are neither kept nor parsed."""
    began = time.process_time()
    with closing(connect(port)) as connection, suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        for _ in range(200):
            connection.sendall(b"a" * 1024 * 1024)
    assert time.process_time() - began < 3  # both ends, in this process


def test_a_large_head_that_is_not_too_large_is_answered(port: int) -> None:
    head = b"GET / HTTP/1.1\r\nx: " + b"a" * (MAX_HEAD_BYTES - 2000) + b"\r\nConnection: close\r\n\r\n"
    assert ask(port, head).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "junk", [b"\x00" * 100, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_what_is_not_http_is_a_problem(port: int, junk: bytes) -> None:
    (body,) = bodies(ask(port, junk))
    assert (body["status"], body["title"]) == (400, "Malformed request")


# -- bodies that nobody reads --------------------------------------------------------------------------


def test_a_refused_body_is_read_for_a_while_so_that_the_answer_arrives(port: int) -> None:
    """A client that sends everything before it reads: the answer is there, and no reset."""
    size = 32 * 1024 * 1024
    with closing(connect(port)) as connection:
        connection.sendall(f"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // 65536):
            connection.sendall(bytes(65536))
        assert rest(connection).startswith(b"HTTP/1.1 413 ")


def test_reading_what_nobody_wants_is_bounded(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.web.protocol, "LINGER_BYTES", 1024 * 1024)
    head = b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n"
    sent = 0
    with closing(connect(port)) as connection:
        connection.sendall(head)
        with suppress(BrokenPipeError, ConnectionResetError):
            while sent < 2_000_000_000:
                sent += connection.send(bytes(65536))
    assert sent < 100_000_000  # buffers of the system


def test_an_idle_client_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.web.protocol, "LINGER_SECONDS", 0.2)
    answer = ask(port, b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


# -- slowness ------------------------------------------------------------------------------------------


def test_half_a_head_is_408(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.web.protocol, "HEAD_SECONDS", 0.2)
    (body,) = bodies(ask(port, b"GET / HTTP/1.1\r\nHost:"))
    assert (body["status"], body["title"]) == (408, "Request timeout")


def test_a_head_in_drops_is_408_however_steadily_they_come(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.web.protocol, "HEAD_SECONDS", 0.3)
    answer = ask(port, b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 30)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_silence_is_closed_without_a_word(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.web.protocol, "HEAD_SECONDS", 0.2)
    assert ask(port) == b""


def test_a_body_in_drops_is_408(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.web.protocol, "BODY_SECONDS", 0.2)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n"
    (body,) = bodies(ask(port, head, *[b"x"] * 20))
    assert body["status"] == 408


def test_a_slow_but_steady_body_is_read(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.web.protocol, "BODY_SECONDS", 0.2)
    body = [bytes(1000)] * 10
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\nConnection: close\r\n\r\n"
    assert bodies(ask(port, head, *body, pause=0.1))[0][2] == 10_000


def test_pipelined_requests_are_bounded(port: int) -> None:
    answer = ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
    assert answer.count(b"HTTP/1.1 ") < 200


# -- places --------------------------------------------------------------------------------------------


def test_silent_connections_make_room_for_others() -> None:
    with server(limit=5) as (port, connections):
        silent = [connect(port) for _ in range(20)]
        answer = ask(port, request("/x"))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(connections) <= 6
        for connection in silent:
            connection.close()


def test_where_every_place_is_at_work_only_probes_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(limit=3) as (port, connections):
        busy = [connect(port) for _ in range(3)]
        for connection in busy:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        while sum(not one.is_idle for one in connections._open) < 3:
            time.sleep(0.01)
        (refused,) = bodies(ask(port, request("/predict")))
        assert (refused["status"], refused["title"]) == (503, "Overloaded")
        assert ask(port, request("/readyz")).startswith(b"HTTP/1.1 200 ")
        monkeypatch.setattr(app.web.connections, "RESERVED", 0)
        assert ask(port, request("/readyz")) == b""
        for connection in busy:
            connection.sendall(b"67890")
            assert b"200 OK" in connection.recv(1000)
            connection.close()


# -- what is written -----------------------------------------------------------------------------------


def test_an_answer_comes_in_one_piece(port: int) -> None:
    """Head and body by one system call: two would wake the client twice."""
    with closing(connect(port)) as connection:
        for _ in range(20):
            connection.sendall(request("/one", b"body", close=False))
            assert bodies(connection.recv(65536))[0][:3] == ["POST", "/one", 4]


def test_an_answer_by_one_call_is_the_same(port: int) -> None:
    with closing(connect(port)) as connection:
        connection.sendall(request("/same!", b"body", close=False))
        usual = connection.recv(65536)
        connection.sendall(request("/whole", b"body", close=False))
        whole = connection.recv(65536)
    assert whole.replace(b"/whole", b"/same!") == usual
    assert b"connection: close" in ask(port, request("/whole"))


def test_an_answer_that_closes_the_connection_is_read_while_the_body_comes(port: int) -> None:
    """`write` leaves it to `send`: the rest of the body is read, or the client would get a reset."""
    with closing(connect(port)) as connection:
        connection.sendall(b"POST /whole-413 HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
        connection.sendall(bytes(20_000_000))
        assert rest(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/one", "/whole"])
def test_a_request_leaves_nothing_to_the_garbage_collector(port: int, path: str) -> None:
    """Else it stops the event loop for long: the server is in this process."""
    with closing(connect(port)) as connection:
        for count in range(205):
            if count == 5:
                gc.collect()
                gc.disable()
            connection.sendall(request(path, b"body", close=False))
            assert bodies(connection.recv(65536))[0][:3] == ["POST", path, 4]
        found = gc.collect()
        gc.enable()
    assert found < 100


def test_the_head_of_a_stream_does_not_wait_for_the_body(port: int) -> None:
    with closing(connect(port)) as connection:
        connection.settimeout(0.4)
        connection.sendall(request("/stream"))
        head = connection.recv(65536)
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert head.endswith(b"\r\n\r\n")
        connection.settimeout(20)
        assert bodies(head + rest(connection))[0][:2] == ["POST", "/stream"]


def test_an_answer_without_a_body_is_written(port: int) -> None:
    sent = request("/one").replace(b"POST", b"HEAD")
    answer = ask(port, sent.replace(b"Connection: close\r\n", b""), sent)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b"\r\n\r\n")


def test_answers_to_pipelined_requests_stay_in_order(port: int) -> None:
    paths = ["/one", "/stream", "/whole", "/two", "/whole", "/stream", "/whole", "/whole"]
    sent = b"".join(request(path, close=False) for path in paths[:-1]) + request(paths[-1])
    assert [path for _, path, *_ in bodies(ask(port, sent))] == paths
