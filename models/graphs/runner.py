"""The process that computes an ONNX graph, as those who ask it see it."""

import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from models.environment import without_secrets
from models.errors import CheckpointError, GraphFailed

WORKER = Path(__file__).with_name("worker.py")
FIGURES = 0  # the kind of an answer that is not a sentence
MAX_ANSWER = 2**26  # bytes
Figures = NDArray[np.float32]
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_CPU_LIMIT = -int(getattr(signal, "SIGXCPU", 0)) or None


@dataclass(frozen=True)
class Limits:
    """Of one batch, and of the start; memory beside four times the size of the graph."""

    cpu_seconds: int = 10
    wall_seconds: float = 30.0
    memory_bytes: int = 2**30


LIMITS = Limits()
START_SECONDS = 60.0  # on a machine that is very busy


class Runner:
    """One process, started when it is first asked; one batch at a time. It ends when this object is gone.

    A process that was killed is replaced, and what it had is asked again once; a batch that met a limit is not.
    """

    def __init__(self, graph: NDArray[np.uint8], limits: Limits | None = None) -> None:
        """Raises CheckpointError where onnxruntime is not installed."""
        if find_spec("onnxruntime") is None:
            raise CheckpointError("an ONNX model needs the package onnxruntime: pip install 'minist[onnx]'")
        self._graph = graph
        self._limits = limits or LIMITS
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ending: weakref.finalize | None = None  # type: ignore[type-arg]

    @property
    def pid(self) -> int | None:
        """Of the process, where it was started."""
        return self._process.pid if self._process is not None else None

    def run(self, values: Figures, fixed: int) -> Figures:
        """Figures [N, classes] of a batch, in the graph's own layout, `fixed` (0: all) in each run.

        Raises GraphFailed.
        """
        with self._lock:
            for last in (False, True):
                begun = time.monotonic()
                try:
                    return self._ask(values, fixed)
                except (OSError, EOFError) as error:
                    code = self._end()
                    met = self._limit_met(code, time.monotonic() - begun)
                    if last or met:
                        raise GraphFailed(
                            f"the process that computes this ONNX model {met or 'ended'}"
                        ) from error
        raise AssertionError

    def _limit_met(self, code: int | None, seconds: float) -> str | None:
        if seconds >= self._limits.wall_seconds:
            return f"did not answer within {self._limits.wall_seconds:g} s"
        if code == _CPU_LIMIT:
            return f"took more than {self._limits.cpu_seconds} CPU seconds"
        return None

    def _ask(self, values: Figures, fixed: int) -> Figures:
        process = self._process or self._start()
        head = struct.pack(f"<{2 + values.ndim}I", fixed, values.ndim, *values.shape)
        body = np.ascontiguousarray(values).data.cast("B")
        answer = self._exchange(process, head, body, self._limits.wall_seconds)
        rows, columns = struct.unpack_from("<2I", answer)
        return np.frombuffer(answer, np.float32, offset=8).reshape(rows, columns)

    def _start(self) -> subprocess.Popen[bytes]:
        limits = self._limits
        memory = limits.memory_bytes + 4 * len(self._graph)
        process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(limits.cpu_seconds), str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        self._process, self._ending = process, weakref.finalize(self, _end, process)
        try:
            self._exchange(process, struct.pack("<Q", len(self._graph)), self._graph.data, START_SECONDS)
        except GraphFailed:
            self._end()
            raise
        return process

    def _exchange(
        self, process: subprocess.Popen[bytes], head: bytes, body: memoryview, seconds: float
    ) -> bytes:
        """Raises GraphFailed for a refusal; OSError or EOFError where the process has ended."""
        assert process.stdin is not None
        assert process.stdout is not None
        clock = threading.Timer(seconds, process.kill)
        clock.daemon = True
        clock.start()
        try:
            process.stdin.write(head)
            process.stdin.write(body)
            process.stdin.flush()
            kind, size = struct.unpack("<BQ", _read(process.stdout, 9))
            if size > MAX_ANSWER:
                raise EOFError("an answer that is too long")
            answer = _read(process.stdout, size)
        finally:
            clock.cancel()
        if kind != FIGURES:
            raise GraphFailed(f"the ONNX model cannot be computed: {answer.decode(errors='replace')}")
        return answer

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if self._ending is not None:
            self._ending.detach()
        return _end(process) if process is not None else None


def _end(process: subprocess.Popen[bytes]) -> int:
    """At once; how it ended: negative, by that signal."""
    process.kill()
    code = process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            assert pipe is not None
            pipe.close()
    return code


def _read(stream: IO[bytes], size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise EOFError("the process has ended")
    return found


def _environment() -> dict[str, str]:
    return without_secrets() | _ONE_THREAD
