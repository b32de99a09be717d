"""A decoder: reads tasks from its standard input, writes results to its standard output, ends with the input.

Started by `app.serving.decoding.process`, without torch; whatever it takes, it takes in its own process.
"""

import gc
import io
import os
import signal
import sys
import time
import traceback
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from app.errors import RequestError, WrongTable, WrongTensor
from app.serving.decoding import wire
from app.serving.decoding.forms import one_image
from app.serving.decoding.instances import READERS
from app.serving.decoding.tensors import Head
from app.serving.decoding.wire import (
    MAX_RESULT_BYTES,
    MAX_TENSORS_BYTES,
    AnyTask,
    Decoded,
    DecodingFailed,
    Encoded,
    Result,
    Spec,
    TableTask,
    Task,
    TensorTask,
)
from models.errors import BrokenImage, CostlyImage, ImageError
from models.preprocessing.decode import open_image
from models.preprocessing.several import read_digits

if TYPE_CHECKING:
    from models.tables import TableInput

try:
    import resource
except ImportError:  # Windows: the pool's deadline is the only limit
    resource = None  # type: ignore[assignment]

NICENESS = 5  # the event loop goes first
COLLECTED = 4_000_000  # pixels after which the garbage of a picture is not left lying about
_SIZES = {"PNG": (300, 200), "JPEG": (800, 600)}


def main() -> None:
    """Serve tasks until the input ends. Arguments: CPU seconds of a task, bytes of memory."""
    tasks, results = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # only results go there
    cpu_seconds, memory_bytes = (int(word) for word in sys.argv[1:])
    _limit(memory_bytes)
    _warm_up()
    gc.collect()
    gc.freeze()
    try:
        results.write(wire.pack_result(None))
        results.flush()
        while (task := wire.read_task(tasks)) is not None:
            _allow(cpu_seconds)
            results.write(wire.pack_result(decode(task)))
            results.flush()
    except BrokenPipeError:  # the service was killed: nobody reads
        os._exit(0)


def decode(task: AnyTask) -> Result:
    """The pixels or the rows of a task, or the error that answers it."""
    try:
        return _read_otherwise(task) if isinstance(task, TableTask | TensorTask) else _decoded(task)
    except (RequestError, ImageError) as error:
        return _too_much_memory(task) if isinstance(error.__cause__, MemoryError) else error
    except MemoryError:
        return _too_much_memory(task)
    except Exception:  # a mistake of ours: it must not take the other tasks down
        traceback.print_exc()
        return DecodingFailed()
    finally:
        if task.pixels > COLLECTED:
            gc.collect()


def _decoded(task: Task) -> Decoded:
    content_type = task.content_type.decode("latin-1")
    encoded = bytes(one_image(content_type, task.body) if content_type else task.body)  # type: ignore[arg-type]
    with open_image(encoded) as image:
        size = image.width * image.height
        if size > task.pixels:
            raise BrokenImage(f"the image has {size:,} pixels, more than it announces", "save it again")
        pixels, info, candidates = read_digits(image, task.spec, task.mode, task.reading)
    return Decoded(pixels, info if task.mode == "auto" else None, candidates)


def _read_otherwise(task: TableTask | TensorTask) -> Encoded | Head:
    gc.disable()  # it would look through all cells, again and again
    try:
        return _encoded(task) if isinstance(task, TableTask) else _tensors(task)
    finally:
        gc.enable()


def _tensors(task: TensorTask) -> Head:
    view = memoryview(task.body)
    text, rest = view[: task.json_bytes], view[task.json_bytes :]
    if not task.spec:
        found = READERS[task.kind](text)
    else:
        from app.serving.decoding import tensor_rows  # here: decoders of pictures do without pydantic

        spec = _table_input(task.spec)
        plain = task.kind == b"v1"
        found = tensor_rows.encoded_instances(spec, text) if plain else tensor_rows.encoded(spec, text, rest)
    if sum(one.size for one in found.inputs if one.data is not None) > MAX_TENSORS_BYTES - MAX_RESULT_BYTES:
        raise WrongTensor(
            "the tensors in the JSON are too large",
            "send them as raw bytes (binary_data_size), or fewer at a time",
        )
    return found


def _encoded(task: TableTask) -> Encoded:
    from app.serving.decoding import tables  # here: decoders of pictures do without pydantic

    read = tables.one_row if task.one else tables.many_rows
    rows = read(_table_input(task.spec), task.content_type.decode("latin-1"), bytes(task.body))
    problems = {row: (problem.detail, problem.hint) for row, problem in rows.problems.items()}
    return Encoded(rows.values.tobytes(), rows.count, problems)


@lru_cache(maxsize=16)
def _table_input(spec: bytes) -> "TableInput":
    from models.tables import TableInput

    return TableInput.model_validate_json(spec)


def _too_much_memory(task: AnyTask) -> CostlyImage | WrongTable | WrongTensor:
    if isinstance(task, TensorTask):
        return WrongTensor(
            "the tensors take too much memory to read", "send them as raw bytes, or fewer at a time"
        )
    if isinstance(task, TableTask):
        return WrongTable("the table takes too much memory to read", "send fewer rows at a time")
    return CostlyImage("the image takes too much memory to decode", "scale it down first, or save it as PNG")


def _limit(memory_bytes: int) -> None:
    """What this process may take, and how it ends: with its input, and not by the signals of a terminal."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # of files that are a little wrong
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory is short, this goes first
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    if resource is not None:
        _lower(resource.RLIMIT_AS, memory_bytes)
        _lower(resource.RLIMIT_CORE, 0)


def _allow(seconds: int) -> None:
    """So much CPU time from now on; then the system ends this process (SIGXCPU)."""
    if resource is not None:
        _lower(resource.RLIMIT_CPU, int(time.process_time()) + 1 + seconds)


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    within = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with suppress(ValueError, OSError):  # a system that has no such limit
        resource.setrlimit(limit, (within, hard))


def _warm_up() -> None:
    """Import and allocate now what the first picture would wait for."""
    spec = Spec((1, 28, 28), "light-on-dark", "digit")
    for kind, size in _SIZES.items():
        sheet = Image.new("L", size, 230)
        ImageDraw.Draw(sheet).line([(100, 50), (160, 50), (120, 150)], fill=30, width=12)
        stream = io.BytesIO()
        sheet.save(stream, kind)
        decode(Task(spec, "auto", stream.getvalue(), pixels=size[0] * size[1]))


if __name__ == "__main__":
    main()
