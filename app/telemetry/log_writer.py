"""Text to a stream by a thread: nobody who logs waits for the pipe, the terminal or the disk behind it.

What waits is bounded. Beyond that, lines are dropped and counted; one line says so when writing works again.
"""

import json
import os
import sys
import threading
import time
from collections import deque
from typing import IO

MAX_WAITING = 1024 * 1024  # characters, of some 5,000 requests
FLUSH_SECONDS = 1.0  # that the end of a process waits for a stream that takes nothing


class LogWriter:
    """Writes whole lines, in order. Used from any thread."""

    def __init__(self, stream: IO[str], max_waiting: int = MAX_WAITING) -> None:
        self.stream = stream
        self.dropped = 0  # lines, since the start
        self._max_waiting = max_waiting
        self._waiting: deque[str] = deque()
        self._size = 0  # characters that wait or are being written
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty()

    def write(self, text: str) -> None:
        """Hand over whole lines; nothing is waited for."""
        with self._changed:
            if self._size + len(text) > self._max_waiting:
                self.dropped += text.count("\n")
                return
            self._waiting.append(text)
            self._size += len(text)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until all is written, but only so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._size, seconds)

    def _run(self) -> None:
        told = 0
        while True:
            text = self._take()
            written = self._put(text)
            if written and self.dropped > told:
                told, more = self.dropped, self.dropped - told
                self._put(self._sentence(f"{more:,} lines of the log were dropped, since nothing took them"))
            with self._changed:
                self._size -= len(text)
                self._changed.notify_all()

    def _take(self) -> str:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            text = "".join(self._waiting)
            self._waiting.clear()
            return text

    def _put(self, text: str) -> bool:
        """Write; whether that was possible. What a full disk or a closed pipe did not take is dropped."""
        try:
            write_all(self.stream, text)
        except (OSError, ValueError):  # ValueError: the stream is closed
            with self._changed:
                self.dropped += text.count("\n")
            return False
        return True

    def _sentence(self, text: str) -> str:
        if self.is_terminal:
            return f"{text}\n"
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return json.dumps({"event": text, "level": "warning", "timestamp": moment}) + "\n"


def write_all(stream: IO[str], text: str) -> None:
    """To the file behind the stream where there is one: a thread that waits in the stream's own buffer would
    hold its lock, without which the interpreter cannot end."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError
        stream.write(text)
        stream.flush()
        return
    left = memoryview(text.encode("utf-8", "backslashreplace"))
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # somebody has made the pipe non-blocking
            time.sleep(0.05)


_writers: dict[IO[str], LogWriter] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_writers.clear)  # threads stay in the parent


def standard_output() -> LogWriter:
    """The one of this process that writes to standard output."""
    stream = sys.stdout
    if stream not in _writers:
        _writers.clear()  # only tests change it
        _writers[stream] = LogWriter(stream)
    return _writers[stream]
