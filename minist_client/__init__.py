"""A client of the service, in two forms: `Client` waits, `AsyncClient` is awaited.

    from minist_client import Client

    with Client() as client:
        print(client.predict("7.png").label)

Needs httpx2 alone (and rich to show progress), nothing of the service.
"""

from minist_client.answers import (
    Alias,
    Correction,
    Dataset,
    EpochEvent,
    Job,
    JobEvent,
    ModelInfo,
    NoteEvent,
    Number,
    NumberDigit,
    Prediction,
    Problem,
    StatusEvent,
    StepEvent,
    Version,
)
from minist_client.async_client import AsyncClient
from minist_client.client import Client
from minist_client.errors import (
    ClientError,
    ImportFailed,
    JobFailed,
    NotReachable,
    ServiceError,
    TimedOut,
    UnexpectedAnswer,
    UnusableInput,
)
from minist_client.waiting import Retries

__all__ = [
    "Alias",
    "AsyncClient",
    "Client",
    "ClientError",
    "Correction",
    "Dataset",
    "EpochEvent",
    "ImportFailed",
    "Job",
    "JobEvent",
    "JobFailed",
    "ModelInfo",
    "NotReachable",
    "NoteEvent",
    "Number",
    "NumberDigit",
    "Prediction",
    "Problem",
    "Retries",
    "ServiceError",
    "StatusEvent",
    "StepEvent",
    "TimedOut",
    "UnexpectedAnswer",
    "UnusableInput",
    "Version",
]
