"""The client that waits for its answers. Its methods are made of the plans, as those of the other client."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2

from minist_client import importing, predicting, serving, training
from minist_client.answers import Job, JobEvent
from minist_client.any_client import AnyClient, answer, no_answer, signature, succeeded
from minist_client.attempts import with_attempts
from minist_client.errors import ClientError, NotReachable
from minist_client.progress import display
from minist_client.steps import Answer, Call, Pause, Plan, Step, Work, refusal
from minist_client.training import Following

P = ParamSpec("P")
T = TypeVar("T")


def _sync(plan: Callable[P, Plan[T]]) -> Callable[Concatenate[Client, P], T]:
    """The plan as a method of Client."""

    @wraps(plan)
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._carry_out(plan(*args, **kwargs))

    method.__signature__ = signature(plan)  # type: ignore[attr-defined]
    return method


class Client(AnyClient):
    """A client that waits for its answers. Safe to use in several threads.

    with Client() as client:
        print(client.predict("7.png").label)
    """

    predict = _sync(predicting.predict)
    predict_batch = _sync(predicting.predict_batch)
    read_number = _sync(predicting.read_number)
    models = _sync(serving.models)
    model = _sync(serving.model)
    schema = _sync(serving.schema)
    versions = _sync(serving.versions)
    promote = _sync(serving.promote)
    rollback = _sync(serving.rollback)
    export = _sync(serving.export)
    feedback = _sync(serving.feedback)
    datasets = _sync(importing.datasets)
    dataset = _sync(importing.dataset)
    upload_dataset = _sync(importing.upload_dataset)
    read_again = _sync(importing.read_again)
    wait_for_dataset = _sync(importing.wait_for_dataset)
    delete_dataset = _sync(importing.delete_dataset)
    train = _sync(training.train)
    job = _sync(training.job)
    jobs = _sync(training.jobs)
    label = _sync(training.label)
    cancel = _sync(training.cancel)
    resume = _sync(training.resume)

    def _open(self) -> None:
        self._http = httpx2.Client(**self._connection.options)

    def follow(self, job: str | Job, after: int = 0) -> Iterator[JobEvent]:
        """The events of a job (those after an id), as they come, until it has ended; a connection that is lost
        is made again where it broke off."""
        following = self._following(job, after)
        while True:
            try:
                with closing(self._events(following)) as events:
                    for event in events:
                        if event is None:
                            return
                        yield event
                wait = following.ended()
            except ClientError as error:
                wait = following.lost(error)
            time.sleep(wait)

    def wait(self, job: str | Job, progress: bool = False) -> Job:
        """The job, once it has succeeded. Raises JobFailed. With `progress` a bar shows epoch, loss, accuracy
        and the time left, on a terminal, or a line for each epoch elsewhere (standard error)."""
        with display(progress) as shown:
            for event in self.follow(job):
                shown.show(event)
        return succeeded(self.job(job))

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _carry_out(self, plan: Plan[T]) -> T:
        with closing(with_attempts(plan, self.retries)) as steps:
            found: Any = None
            while True:
                try:
                    step = steps.send(found)
                except StopIteration as end:
                    return end.value
                found = self._do(step)

    def _do(self, step: Step) -> Any:
        if isinstance(step, Work):
            return step.function()
        return time.sleep(step.seconds) if isinstance(step, Pause) else self._send(step)

    def _send(self, call: Call[Any]) -> Answer | NotReachable:
        content = call.body.pieces() if call.body and call.body.file else None
        try:
            return answer(self._http.send(self._request(self._http, call, content)))
        except httpx2.HTTPError as error:
            return no_answer(self._connection.trouble(error))

    def _events(self, following: Following) -> Generator[JobEvent | None, None, None]:
        """The new events of one connection; None at last where there are no more. Raises ClientError."""
        try:
            with closing(self._http.send(self._stream_request(self._http, following), stream=True)) as response:
                if response.status_code == 204:
                    yield None
                elif response.status_code != 200:
                    response.read()
                    raise refusal(answer(response))
                else:
                    following.opened(response.headers.get("content-type", ""))
                    for found in httpx2.EventSource(response):
                        yield from following.seen(found.event, found.id, found.data)
        except httpx2.HTTPError as error:
            raise self._connection.trouble(error) from error
