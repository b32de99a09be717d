"""Computes an ONNX graph: pixels come by standard input, figures go by standard output; ends with its input.

Started by `models.graphs.runner` as a script, without torch and without anything of ours. A graph is foreign:
what it takes, it takes here, within limits of memory and CPU time, and there is no file that it could open.

    in   uint64 size, the graph; then for each batch uint32 fixed, rank and sizes, float32 values;
         `fixed` pictures go in each run, or any number where it is 0
    out  for each of them uint8 kind, uint64 size, content:
         uint32 rows and columns, float32 figures; or a sentence
"""

import math
import os
import re
import signal
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

try:
    import resource
except ImportError:  # Windows: the deadline of the runner is the only limit
    resource = None  # type: ignore[assignment]

FIGURES, REFUSED = 0, 1
MAX_SENTENCE = 300
NICENESS = 5  # the event loop goes first
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def main() -> None:
    """Answer until the input ends. Arguments: CPU seconds of a batch, bytes of memory."""
    cpu_seconds, memory_bytes = (int(word) for word in sys.argv[1:])
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # only answers go there
    (size,) = struct.unpack("<Q", requests.read(8))
    graph = requests.read(size)
    _limit(memory_bytes)
    _allow(cpu_seconds)
    try:
        session = _session(graph)
    except Exception as error:
        _refuse(answers, error)
        return
    del graph
    _answer(answers, b"")
    while (batch := _next(requests)) is not None:
        _allow(cpu_seconds)
        try:
            figures = _all_figures(session, *batch)
            _answer(answers, struct.pack("<2I", *figures.shape) + figures.tobytes())
        except Exception as error:
            _refuse(answers, error)


def _session(graph: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _next(requests: IO[bytes]) -> tuple[NDArray[np.float32], int] | None:
    """Values, and how many go in each run."""
    head = requests.read(8)
    if len(head) < 8:
        return None
    fixed, rank = struct.unpack("<2I", head)
    sizes = struct.unpack(f"<{rank}I", requests.read(4 * rank))
    return np.frombuffer(requests.read(4 * math.prod(sizes)), np.float32).reshape(sizes), fixed


def _all_figures(session: Any, values: NDArray[np.float32], fixed: int) -> NDArray[np.float32]:
    """[N, classes]"""
    if not fixed:
        return _figures(session, values)
    missing = np.zeros((-len(values) % fixed, *values.shape[1:]), np.float32)
    filled = np.concatenate([values, missing])
    parts = [_figures(session, filled[at : at + fixed]) for at in range(0, len(filled), fixed)]
    return np.concatenate(parts)[: len(values)]


def _figures(session: Any, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, classes]"""
    (taken,) = session.get_inputs()
    kind = TYPES[taken.type]
    given = np.rint(values).clip(0, 255).astype(kind) if kind is np.uint8 else values.astype(kind, copy=False)
    (found,) = session.run(None, {taken.name: given})
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind != "f":
        raise ValueError("it gives no figures [N, classes]")
    if len(found) != len(given):
        raise ValueError(f"it gives {len(found)} rows of figures for {len(given)} pictures")
    return np.ascontiguousarray(found, np.float32)


def _answer(answers: IO[bytes], content: bytes, kind: int = FIGURES) -> None:
    answers.write(struct.pack("<BQ", kind, len(content)) + content)
    answers.flush()


def _refuse(answers: IO[bytes], error: Exception) -> None:
    words = re.sub(r"\S*/\S*", "", str(error))  # paths, of onnxruntime's own source
    words = " ".join(words.split())[:MAX_SENTENCE] or type(error).__name__
    _answer(answers, words.encode(errors="replace"), REFUSED)


def _limit(memory_bytes: int) -> None:
    """What this process may take, and how it ends: with its input, and not by the signals of a terminal."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory is short, this goes first
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    if resource is not None:
        _lower(resource.RLIMIT_AS, memory_bytes)
        for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
            _lower(limit, 0)


def _allow(seconds: int) -> None:
    """So much CPU time from now on; then the system ends this process (SIGXCPU)."""
    if resource is not None:
        _lower(resource.RLIMIT_CPU, int(time.process_time()) + 1 + seconds)


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    within = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with suppress(ValueError, OSError):  # a system that has no such limit
        resource.setrlimit(limit, (within, hard))


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # the service was killed: nobody reads
        main()
