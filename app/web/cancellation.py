"""When a request is given up: its time is over, or its client has gone."""

import asyncio
from types import TracebackType
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app import errors

T = TypeVar("T")


class Deadline:
    """`async with`: a time limit for what runs inside. Raises DeadlineExceeded.

    What `asyncio.timeout` does, in a third of its time: each prediction has one.
    """

    __slots__ = ("_cancelled_before", "_exceeded", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._exceeded = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelled_before = task, task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._cancel)

    def _cancel(self) -> None:
        self._exceeded = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if not self._exceeded:
            return
        if self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise errors.DeadlineExceeded(
                f"no answer could be given within {self._seconds:g} s",
                "try again later, send the body faster, or fewer images at a time",
            ) from error


async def unless_gone(answer: asyncio.Future[T], receive: Receive) -> T:
    """The answer, once it is there. Raises ClientDisconnect when the client has gone.

    An answer that is given up is waited for until what it holds is free.
    """
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        gone.cancel()
        if answer.cancel():  # takes what still waits out of the queue
            await asyncio.wait((answer,))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
