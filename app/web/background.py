"""What an API worker does beside answering: work that is repeated until the worker ends."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

log = logging.getLogger("minist")


class Background:
    """Repeated work. An error is logged, and the next turn comes all the same."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending = asyncio.Event()

    def repeat(self, name: str, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        """Await `work()` now, and again `seconds` after each time."""
        self._tasks[name] = asyncio.create_task(self._repeat(name, seconds, work), name=name)

    @property
    def stopped(self) -> list[str]:
        """The names of tasks that have ended although the worker goes on."""
        return [name for name, task in self._tasks.items() if task.done()]

    async def end(self) -> None:
        """Wait for the turns that are running now: a thread in torch must not outlive the interpreter."""
        self._ending.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _repeat(self, name: str, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        while not self._ending.is_set():
            try:
                await work()
            except Exception as error:
                log.error("%s: %s (%s)", name, error, type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), seconds)
