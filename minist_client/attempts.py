"""A call, sent again where that is safe and may help."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, TypeVar

from minist_client.errors import ClientError, NotReachable, ServiceError, TimedOut
from minist_client.steps import Answer, Call, Pause, Plan, refusal
from minist_client.waiting import AGAIN, Retries

T = TypeVar("T")


def with_attempts(plan: Plan[T], retries: Retries) -> Plan[T]:
    """The plan with each call sent as often as is allowed; for each it wants an Answer, or NotReachable."""
    found: Any = None
    with closing(plan):
        while True:
            try:
                step = plan.throw(found) if isinstance(found, ClientError) else plan.send(found)
            except StopIteration as end:
                return end.value
            found = (yield from _outcome(step, retries)) if isinstance(step, Call) else (yield step)


def _outcome(call: Call[T], retries: Retries) -> Plan[T | ClientError]:
    """Of the last attempt; what to do about an error is left to the plan."""
    try:
        return (yield from _attempts(call, retries))
    except ClientError as error:
        return error


def _attempts(call: Call[T], retries: Retries) -> Plan[T]:
    begun, number = time.monotonic(), 0
    while True:
        outcome: Answer | NotReachable = yield call
        if isinstance(outcome, Answer) and outcome.status not in AGAIN:
            return call.result(outcome)
        error = refusal(outcome) if isinstance(outcome, Answer) else outcome
        number += 1
        asked = error.retry_after if isinstance(error, ServiceError) else None
        wait = retries.wait(number, time.monotonic() - begun, asked) if _may_repeat(call, error) else None
        if wait is None:
            raise error
        yield Pause(wait)


def _may_repeat(call: Call[Any], error: ServiceError | NotReachable) -> bool:
    """429 was refused before anything was done, and what was not sent has done nothing."""
    if isinstance(error, TimedOut) and error.sent:
        return False  # the service is at its limit, or the time too short
    if isinstance(error, ServiceError):
        return call.repeatable or error.status == 429
    return call.repeatable or not error.sent
