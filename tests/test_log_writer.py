"""Lines of the log are written by a thread: nobody waits for whoever reads them, or does not."""

import io
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from app.telemetry.log_writer import LogWriter
from tests.processes import service, wait_for


@pytest.fixture
def pipe() -> Iterator[tuple[IO[str], IO[str]]]:
    """What is read, and what is written."""
    ends = os.pipe()
    with open(ends[0]) as reader, open(ends[1], "w") as writer:  # noqa: PTH123
        yield reader, writer


def test_lines_come_in_order(pipe: tuple[IO[str], IO[str]]) -> None:
    reader, stream = pipe
    writer = LogWriter(stream)
    for number in range(1000):
        writer.write(f"{number} \udcff\n")
    assert writer.flush()
    assert [reader.readline().split()[0] for _ in range(1000)] == [str(number) for number in range(1000)]


def test_what_nobody_reads_is_dropped_and_counted_and_told(pipe: tuple[IO[str], IO[str]]) -> None:
    reader, stream = pipe
    writer = LogWriter(stream, max_waiting=100_000)
    line = "x" * 99 + "\n"
    for _ in range(5_000):
        writer.write(line)
    assert not writer.flush(0.1)
    assert 3_000 <= writer.dropped < 5_000  # a pipe takes some 64 kB, and 100 kB wait
    dropped, found = 0, 0
    while dropped + found < 5_000:  # it is told as often as some were written meanwhile
        text = reader.readline()
        if text == line:
            found += 1
        else:
            dropped += int(re.match(r"[\d,]+", json.loads(text)["event"])[0].replace(",", ""))  # type: ignore[index]
    assert dropped == writer.dropped
    writer.write("again\n")
    assert writer.flush()
    assert reader.readline() == "again\n"


def test_a_stream_that_fails_loses_lines_and_nothing_else() -> None:
    """A full disk; a pipe that was closed."""

    class Full(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    writer = LogWriter(stream)
    writer.write("lost\n")
    assert writer.flush()
    stream.full = False
    writer.write("kept\n")
    assert writer.flush()
    assert writer.dropped == 1
    assert stream.getvalue().startswith("kept\n")
    assert "1 lines of the log were dropped" in stream.getvalue()


def test_a_pipe_that_nobody_reads_does_not_stop_the_service(tmp_path: Path) -> None:
    """Everything stopped after 622 requests; 7,500 are more than wait in memory, too."""
    with service(tmp_path, "api", stdout=subprocess.PIPE) as (process, client):
        with socket.create_connection(("127.0.0.1", client.base_url.port or 80), timeout=60) as connection:
            for _ in range(150):
                connection.sendall(b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
                found = b""
                while found.count(b"HTTP/1.1 404") < 50:
                    found += connection.recv(65536)

        def dropped() -> int:
            page = client.get("/metrics").text
            (number,) = re.findall(r"^minist_log_lines_dropped_total (\S+)$", page, re.M)
            return int(float(number))

        assert wait_for(dropped) > 500
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_the_last_lines_are_written_at_the_end(tmp_path: Path) -> None:
    with service(tmp_path, "--workers", "2") as (process, client):
        asked = {client.get("/models").headers["x-request-id"] for _ in range(20)}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    log = (tmp_path / "service.log").read_text()
    assert asked <= set(re.findall(r'"request_id":"(\w+)"', log))
    assert "Finished server process" in log or "Stopping parent process" in log
