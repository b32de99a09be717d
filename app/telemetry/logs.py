"""The log: structlog, JSON lines where standard output is not a terminal, readable lines where it is.

One line per request is written by `RequestLog` in the form that structlog gives all others, but put together
without structlog and written in groups: twenty times as cheap (`benchmarks/SERVING.md`).

A thread writes (`app.telemetry.log_writer`), so that a pipe that nobody reads stops no request.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

import structlog

from app.telemetry.log_writer import LogWriter, standard_output

Chain = list[structlog.typing.Processor]
_AT_MOST = 500  # lines that wait to be written
_ROW = '{"event":"request","level":"info","timestamp":"%s.%03dZ","request_id":%s,"method":%s,"path":%s,'
_ROW += '"status":%d,"ms":%.3f,"client":%s%s}\n'


def config(level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`, in any process: everything that is logged, on standard output."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"structlog": {"()": "app.telemetry.logs.formatter"}},
        "handlers": {"stdout": {"()": "app.telemetry.logs.WriterHandler", "formatter": "structlog"}},
        "root": {"handlers": ["stdout"], "level": level.upper()},
        # they tell whole URLs, which may hold a secret of a receiver of notifications
        "loggers": {name: {"level": "WARNING"} for name in ("httpx2", "httpcore2")},
    }


def formatter() -> logging.Formatter:
    """Of records of the standard library's loggers, ours, uvicorn's and all others'."""
    added: Chain = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shown: Chain
    if sys.stdout.isatty():
        shown = [structlog.dev.ConsoleRenderer()]
    else:
        shown = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=added, processors=[remove, *shown])


class WriterHandler(logging.Handler):
    """Hands lines to the thread that writes; `logging` flushes it at the end of the process."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            standard_output().write(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        standard_output().flush()


class RequestLog:
    """A line per request, handed to the thread that writes by `flush`, which is called a few times a second."""

    def __init__(self, writer: LogWriter | None = None) -> None:
        self.writer = standard_output() if writer is None else writer
        self._console = structlog.dev.ConsoleRenderer() if self.writer.is_terminal else None
        self._lines: list[str] = []
        self._second = 0
        self._moment = ""

    def add(
        self, scope: Mapping[str, Any], status: int, seconds: float, request_id: str, trace: str | None
    ) -> None:
        """Note a request that was answered, or given up by its client (status 499). No body, no key."""
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        client = scope.get("client")
        address = client[0] if client else ""
        if self._console is not None:
            self._add_readable(scope, status, seconds, request_id, address)
            return
        more = "" if trace is None else ',"traceparent":' + json.dumps(trace)
        path = scope["path"]
        quoted = '"/predict"' if path == "/predict" else json.dumps(path)
        row = (self._moment, now % 1 * 1000, _quoted(request_id), _quoted(scope["method"]), quoted)
        self._lines.append(_ROW % (*row, status, seconds * 1000, _quoted(address), more))
        if len(self._lines) > _AT_MOST:
            self.flush()

    def _add_readable(
        self, scope: Mapping[str, Any], status: int, seconds: float, request_id: str, client: str
    ) -> None:
        assert self._console is not None
        fields = {"status": status, "ms": round(seconds * 1000, 3), "request_id": request_id, "client": client}
        event = {"event": f"{scope['method']} {scope['path']}", "level": "info", "timestamp": self._moment}
        self._lines.append(f"{self._console(None, 'info', {**event, **fields})}\n")

    def flush(self) -> None:
        """Hand over what has gathered."""
        if self._lines:
            lines, self._lines = self._lines, []
            self.writer.write("".join(lines))


def _quoted(plain: str) -> str:
    """As JSON; for what holds no quotation mark, as request ids, methods and addresses."""
    return f'"{plain}"'
