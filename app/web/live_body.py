"""The wire shape of `GET /live`."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class BatchBody(BaseModel):
    """Forward passes of a size."""

    most: str = Field(description="images that they had at most, or `more`")
    count: int


class ProblemCount(BaseModel):
    """Requests that were answered with a problem since the service started."""

    status: int
    title: str
    count: int
    recent: int = Field(description="since somebody began to look")


class IndexBody(BaseModel):
    """A population stability index: 0 where two distributions are the same."""

    psi: float
    limit: float = Field(description="MINIST_DRIFT_PSI and what chance explains: above it is a drift")


class DriftBody(BaseModel):
    """How far the last answers of a version, of all machines, are from what was expected."""

    images: int = Field(description="that are compared: the newest, at least 200")
    hours: int = Field(description="in which they came, at most 24")
    labels: IndexBody
    confidence: IndexBody
    against: Literal["test", "first"] = Field(
        description="test: the test set; first: the first answers (at least 1,000) of a version whose card "
        "does not say what it answered on the test set"
    )
    since: datetime | None = Field(description="when it began to drift; null: it does not")


class MixBody(BaseModel):
    """What a version answers, since the service started, beside what it answered on its test set."""

    model: str
    version: int
    serving: bool = Field(description="whether the bare name means this version")
    answers: int = Field(description="images")
    recent: int = Field(description="images since somebody began to look")
    labels: dict[str, float] = Field(description="share of each class, the 20 largest")
    expected_labels: dict[str, float] | None = Field(description="on the test set; null: not on the card")
    confidence: list[float] = Field(description="share of each bin, see `confidence` of cards")
    expected_confidence: list[float] | None
    warned: int = Field(description="answers with a warning")
    failed: int = Field(description="requests that the model could not answer")
    drift: DriftBody | None = Field(description="as of a minute ago; null: too few answers to compare")


class ShadowBody(BaseModel):
    """A candidate beside production: it has answered the same inputs, and nobody has seen it."""

    alias: str
    compared: int = Field(description="inputs that both have answered")
    agreement: float | None = Field(description="share of the same answers, 0..1")
    confidence: float | None = Field(description="of production's answers, on average")
    candidate_confidence: float | None
    ms: float | None = Field(description="that a forward pass of one input by production takes, on average")
    candidate_ms: float | None
    failed: int
    dropped: int = Field(description="inputs that were not compared, since there was no time")


class TrafficBody(BaseModel):
    """How the requests for a model are shared, as far as was written: every two seconds."""

    model: str
    shares: dict[str, int] = Field(description="percent by alias")
    answers: dict[str, int] = Field(description="images by alias since then")
    failed: dict[str, int] = Field(description="requests by alias that the model could not answer")
    shadow: ShadowBody | None
    who: str
    since: datetime
    ended_at: datetime | None = Field(description="null: it goes on")
    why: str = Field(description="why it began or, at the end, why it ended")


class RequestBody(BaseModel):
    """One of the last requests, without its body. What it was answered is there for `POST /predict`."""

    at: datetime
    id: str
    method: str
    route: str
    status: int
    ms: float
    model: str | None
    version: int | None
    label: str | None
    probability: float | None


class LiveJob(BaseModel):
    """A job that waits or runs."""

    id: str
    kind: Literal["train", "import", "weights"]
    status: str
    model: str
    epoch: int
    epochs: int | None


class WorkerBody(BaseModel):
    """A process that answers requests."""

    pid: int
    cpu: float | None = Field(description="CPUs that it takes now; null until that is known")
    memory_bytes: int | None


class TrainerBody(BaseModel):
    """A process that takes training jobs."""

    host: str
    name: str


class DiskBody(BaseModel):
    """The file system of MINIST_HOME."""

    total: int
    free: int


class DatabaseBody(BaseModel):
    """The database, asked just now."""

    kind: Literal["SQLite", "Postgres"]
    ms: float | None = Field(description="that it took to answer; null: it does not")
    bytes: int | None


class TaskBody(BaseModel):
    """Work that a process repeats in the background."""

    name: str
    error: str | None = Field(description="of its last turns; null where they succeed")


class MomentBody(BaseModel):
    """What happens now on this machine, of all its processes that answer."""

    at: datetime
    host: str = Field(description="machine that answers; others on the same database have views of their own")
    seconds: float = Field(description="that rates and quantiles are of")
    requests_per_second: float
    images_per_second: float
    p50_ms: float | None = Field(description="of predictions, about (bins are a fifth wide); null without any")
    p99_ms: float | None
    wait_p99_ms: float | None = Field(description="that images waited for a forward pass, about")
    waiting_images: int
    waiting_bytes: int = Field(description="of request bodies that are worked on")
    batches: list[BatchBody]
    problems: list[ProblemCount]
    refused: dict[str, int] = Field(description="requests refused under load since the start, by reason")
    models: list[MixBody]
    requests: list[RequestBody] = Field(description="newest first; without probes, pages and files")
    traffic: list[TrafficBody] = Field(description="models whose requests are shared, or were last, the newest")
    jobs: list[LiveJob] = Field(description="that wait or run, the newest")
    job_counts: dict[str, int] = Field(description="training jobs, imports and uploads by status")
    workers: list[WorkerBody]
    trainers: list[TrainerBody]
    disk: DiskBody
    database: DatabaseBody
    tasks: list[TaskBody] = Field(description="of the process that answers")
