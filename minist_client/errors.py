"""What can go wrong with a call.

    ClientError
      + UnusableInput      what was given cannot be sent as it is
      + NotReachable       no answer came
          - TimedOut       .. within the time limit
      + UnexpectedAnswer   something answers there that is no such service
      + ServiceError       the service refused, and says why
      + ImportFailed       a data set could not be imported
      + JobFailed          a job has failed or was cancelled

The text of each says what happened and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minist_client.answers import Dataset, Job, Problem


class ClientError(Exception):
    """Whatever goes wrong with a call."""


class UnusableInput(ClientError, ValueError):
    """What was given cannot be sent as it is."""


class NotReachable(ClientError):
    """No answer came. `sent`: whether the service may have got the request."""

    def __init__(self, text: str, sent: bool = True) -> None:
        super().__init__(text)
        self.sent = sent


class TimedOut(NotReachable):
    """No answer came within the time limit."""


class UnexpectedAnswer(ClientError):
    """Something answers there, but not as the service does."""


class ServiceError(ClientError):
    """The service refused. `problem` is its answer (RFC 9457), `retry_after` in seconds, where it says so."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def title(self) -> str:
        """Which problem it is."""
        return self.problem.title

    @property
    def detail(self) -> str:
        """What happened this time."""
        return self.problem.detail

    @property
    def hint(self) -> str:
        """What to do about it."""
        return self.problem.hint


class ImportFailed(ClientError):
    """A data set could not be imported; `dataset` says why."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(f"the import of {dataset.reference} has failed: {dataset.error}")
        self.dataset = dataset


class JobFailed(ClientError):
    """A job has failed or was cancelled; `job` says why."""

    def __init__(self, job: Job) -> None:
        reason = f": {job.error}" if job.error else ""
        super().__init__(f"job {job.id} has {'failed' if job.status == 'failed' else 'been cancelled'}{reason}")
        self.job = job
