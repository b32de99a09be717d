"""A decoder process, as the event loop sees it."""

import asyncio
import subprocess
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from math import prod

from app.interpreter import module_command
from app.serving.decoding import wire
from app.serving.decoding.wire import AnyTask, Decoded, Limits, Result, TableTask, TensorTask
from models.environment import without_secrets

START_SECONDS = 60  # on a machine that is very busy
CLOSE_SECONDS = 1
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Decoder:
    """One process; tasks go in and results come out in the same order."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._tasks = process.stdin
        self._results = process.stdout

    @classmethod
    async def start(cls, limits: Limits) -> "Decoder":
        """A process that is ready. Raises OSError, EOFError or TimeoutError."""
        process = await asyncio.create_subprocess_exec(
            *module_command("app.serving.decoding.worker", str(limits.cpu_seconds), str(limits.memory_bytes)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        decoder = cls(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                await wire.read_result(decoder._results, 0)
        except BaseException:
            await decoder.kill()
            raise
        return decoder

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, tasks: Sequence[AnyTask]) -> None:
        """Hand tasks over; nothing is waited for. Memory of their bodies is held until the process has them."""
        self._tasks.writelines(part for task in tasks for part in (wire.pack_task(task), task.body))

    async def result(self, task: AnyTask) -> Result:
        """The result of the oldest task that was sent. Raises EOFError where the process has ended."""
        if isinstance(task, TableTask):
            result = await wire.read_result(self._results, 0, task.width)
        elif isinstance(task, TensorTask):
            result = await wire.read_tensors(self._results)
        else:
            result = await wire.read_result(self._results, prod(task.spec.shape))
            if isinstance(result, Decoded) and bool(result.pixels) == (task.reading == "number"):
                raise EOFError("not what was asked for")
        if result is None:
            raise EOFError("not a result")
        return result

    async def kill(self) -> int:
        """End it at once, and wait until it is gone; how it ended: negative, by that signal."""
        if self._results.at_eof():  # it is ending: Popen.kill would take its status from asyncio (bpo-43884)
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._process.wait()
        with suppress(ProcessLookupError):
            self._process.kill()
        self._tasks.close()
        code = await self._process.wait()
        with suppress(OSError, TimeoutError):  # until the pipes are closed too
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._results.read()
                await self._tasks.wait_closed()
        return code


def environment() -> dict[str, str]:
    return without_secrets() | _ONE_THREAD
