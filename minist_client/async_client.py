"""The client that is awaited. Its methods are made of the plans, as those of the other client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, closing
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import anyio
import httpx2

from minist_client import importing, predicting, serving, training
from minist_client.answers import Job, JobEvent
from minist_client.any_client import AnyClient, answer, no_answer, signature, succeeded
from minist_client.attempts import with_attempts
from minist_client.errors import ClientError, NotReachable
from minist_client.progress import display
from minist_client.steps import Answer, Body, Call, Pause, Plan, Step, Work, refusal
from minist_client.training import Following

P = ParamSpec("P")
T = TypeVar("T")


def _async(plan: Callable[P, Plan[T]]) -> Callable[Concatenate[AsyncClient, P], Awaitable[T]]:
    """The plan as a method of AsyncClient."""

    @wraps(plan)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._carry_out(plan(*args, **kwargs))

    method.__signature__ = signature(plan)  # type: ignore[attr-defined]
    return method


class AsyncClient(AnyClient):
    """The same client for asyncio or trio: its calls are awaited.

    async with AsyncClient() as client:
        print((await client.predict("7.png")).label)
    """

    predict = _async(predicting.predict)
    predict_batch = _async(predicting.predict_batch)
    read_number = _async(predicting.read_number)
    models = _async(serving.models)
    model = _async(serving.model)
    schema = _async(serving.schema)
    versions = _async(serving.versions)
    promote = _async(serving.promote)
    rollback = _async(serving.rollback)
    export = _async(serving.export)
    feedback = _async(serving.feedback)
    datasets = _async(importing.datasets)
    dataset = _async(importing.dataset)
    upload_dataset = _async(importing.upload_dataset)
    read_again = _async(importing.read_again)
    wait_for_dataset = _async(importing.wait_for_dataset)
    delete_dataset = _async(importing.delete_dataset)
    train = _async(training.train)
    job = _async(training.job)
    jobs = _async(training.jobs)
    label = _async(training.label)
    cancel = _async(training.cancel)
    resume = _async(training.resume)

    def _open(self) -> None:
        self._http = httpx2.AsyncClient(**self._connection.options)

    async def follow(self, job: str | Job, after: int = 0) -> AsyncIterator[JobEvent]:
        """The events of a job (those after an id), as they come, until it has ended; a connection that is lost
        is made again where it broke off."""
        following = self._following(job, after)
        while True:
            try:
                async with aclosing(self._events(following)) as events:
                    async for event in events:
                        if event is None:
                            return
                        yield event
                wait = following.ended()
            except ClientError as error:
                wait = following.lost(error)
            await anyio.sleep(wait)

    async def wait(self, job: str | Job, progress: bool = False) -> Job:
        """The job, once it has succeeded. Raises JobFailed. With `progress` a bar shows epoch, loss, accuracy
        and the time left, on a terminal, or a line for each epoch elsewhere (standard error)."""
        with display(progress) as shown:
            async for event in self.follow(job):
                shown.show(event)
        return succeeded(await self.job(job))

    async def close(self) -> None:
        """End its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _carry_out(self, plan: Plan[T]) -> T:
        with closing(with_attempts(plan, self.retries)) as steps:
            found: Any = None
            while True:
                try:
                    step = steps.send(found)
                except StopIteration as end:
                    return end.value
                found = await self._do(step)

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Work):
            return await anyio.to_thread.run_sync(step.function)
        return await (anyio.sleep(step.seconds) if isinstance(step, Pause) else self._send(step))

    async def _send(self, call: Call[Any]) -> Answer | NotReachable:
        content = _awaited(call.body) if call.body and call.body.file else None
        try:
            return answer(await self._http.send(self._request(self._http, call, content)))
        except httpx2.HTTPError as error:
            return no_answer(self._connection.trouble(error))

    async def _events(self, following: Following) -> AsyncGenerator[JobEvent | None, None]:
        """The new events of one connection; None at last where there are no more. Raises ClientError."""
        try:
            response = await self._http.send(self._stream_request(self._http, following), stream=True)
            async with aclosing(response):
                if response.status_code == 204:
                    yield None
                elif response.status_code != 200:
                    await response.aread()
                    raise refusal(answer(response))
                else:
                    following.opened(response.headers.get("content-type", ""))
                    async for found in httpx2.EventSource(response):
                        for event in following.seen(found.event, found.id, found.data):
                            yield event
        except httpx2.HTTPError as error:
            raise self._connection.trouble(error) from error


async def _awaited(body: Body) -> AsyncIterator[bytes]:
    """Its pieces, read in a thread."""
    pieces = body.pieces()
    while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
        yield piece
