"""What the two clients share: how they are made, and how plans become requests."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import httpx2

from minist_client.answers import Job
from minist_client.connection import Connection
from minist_client.errors import ClientError, JobFailed, NotReachable
from minist_client.steps import Answer, Call
from minist_client.training import SILENCE_SECONDS, Following
from minist_client.waiting import Retries

_Http = httpx2.Client | httpx2.AsyncClient


class AnyClient:
    """What both clients have."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60,
        retries: int | Retries = 4,
    ) -> None:
        """`url` is that of the service (default: MINIST_URL, else http://127.0.0.1:8000), with a path where a
        proxy puts it under one; `api_key` one of its keys (default: MINIST_API_KEY); `timeout` the seconds
        within which an answer has to come. What is safe to send again is sent again up to `retries` times, a
        minute at most (`Retries` sets both). Connections are kept: use one client for many calls, and close it.
        """
        self._connection = Connection.of(url, api_key, timeout)
        self.retries = Retries(retries) if isinstance(retries, int) else retries
        self._open()

    def _open(self) -> None:
        """Make what sends."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where the service is."""
        return self._connection.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _request(self, http: _Http, call: Call[Any], content: Any) -> httpx2.Request:
        """`content` are the pieces of a body that is a file."""
        headers, body = dict(call.headers), call.body
        if body is not None:
            headers |= {"content-type": body.kind, "content-length": str(body.size)}
            content = content or body.before
        return http.build_request(
            call.method,
            self.url + call.path,
            params=dict(call.params) or None,
            headers=headers,
            content=content,
        )

    def _stream_request(self, http: _Http, following: Following) -> httpx2.Request:
        limits = httpx2.Timeout(self._connection.timeout, read=SILENCE_SECONDS)
        return http.build_request(
            "GET", self.url + following.path, headers=dict(following.headers), timeout=limits
        )

    def _following(self, job: str | Job, after: int) -> Following:
        return Following(job, self.retries, after)


def signature(plan: Callable[..., object]) -> inspect.Signature:
    """That of a method, for help()."""
    found = inspect.signature(plan)
    mine = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    returns = str(found.return_annotation).removeprefix("Plan[").removesuffix("]")
    return found.replace(parameters=[mine, *found.parameters.values()], return_annotation=returns)


def answer(response: httpx2.Response) -> Answer:
    return Answer(response.status_code, dict(response.headers), response.content)


def no_answer(error: ClientError) -> NotReachable:
    if not isinstance(error, NotReachable):
        raise error
    return error


def succeeded(job: Job) -> Job:
    if job.status != "succeeded":
        raise JobFailed(job)
    return job
