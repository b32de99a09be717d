"""What is asked about jobs: bodies of requests, and whether what they name is there and allowed."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from app import errors
from app.jobs.executor import Resources, override_fields, recipe_names
from app.jobs.imports import Imports, is_built_in
from app.jobs.job import Job
from app.jobs.queue import Queue
from app.origins import MAX_URL, split
from app.settings import Settings
from app.store.datasets import NoSuchDataset
from app.store.keys import Identity
from app.store.versions import Versions
from app.web.dependencies import Services

NOTIFY = Query(
    max_length=MAX_URL,
    description="URL of an origin in MINIST_WEBHOOK_ORIGINS; gets a signed POST when the job has ended. As a "
    "field of the form it stands in no log of a proxy",
)


class _Request(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"model": "minist", "recipe": "mlp", "epochs": 3, "promote": "if_better"}]
        },
    )

    model: str = Field(
        description="model that gets a new version; a new name makes a new model",
        pattern=r"^[a-z0-9][a-z0-9-]{0,63}$",
    )
    recipe: Literal[recipe_names()] = Field(description="what to train")  # type: ignore[valid-type]
    promote: Literal["if_better", "always", "never"] = Field(
        default="if_better",
        description="whether `production` moves to the new version: if its test accuracy is not lower than the "
        "present one's on the same data, always (needs a key of scope admin where there is one), or never",
    )
    feedback: bool = Field(
        default=False,
        description="whether the corrections of the model (`POST /feedback`) join its training images",
    )
    notify: str | None = Field(
        default=None,
        max_length=MAX_URL,
        description="URL of an origin in MINIST_WEBHOOK_ORIGINS; gets a signed POST when the job has ended",
    )
    priority: int = Field(default=0, ge=-10, le=10, description="larger ones are started first")
    resources: Resources | None = Field(
        default=None, description="what the job needs: it waits for a training worker that has it"
    )
    search: dict[str, list[int | float | str]] | None = Field(
        default=None,
        description="values of settings: every combination is trained (at most 16), and the one with the least "
        "log loss on validation inputs becomes the version",
        examples=[{"lr": [0.03, 0.1], "batch_size": [32, 64]}],
    )

    @model_validator(mode="after")
    def _is_said_once(self) -> "_Request":
        for name in self.search or {}:
            if getattr(self, name, None) is not None:
                raise ValueError(f"{name[:40]} is both set and searched: leave one of them out")
        return self


TrainRequest: type[_Request] = create_model(
    "TrainRequest", __base__=_Request, __doc__="A recipe, and what differs from it.", **override_fields()
)


Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=100)]
Tag = Annotated[str, Field(pattern=r"^[^\s,#\x00-\x1f\x7f-\x9f]+$", max_length=32)]


class LabelRequest(BaseModel):
    """What to write on a job; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        str_strip_whitespace=True,
        json_schema_extra={"examples": [{"name": "higher rate", "notes": "diverges", "tags": ["keep"]}]},
    )

    name: Line | None = Field(default=None, description="of one line; null or empty takes it away")
    notes: Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=4000)] | None = Field(
        default=None, description="of any number of lines; null or empty takes them away"
    )
    tags: list[Tag] = Field(
        default=[], max_length=16, description="words without blanks and commas; they replace those before"
    )

    def changes(self) -> dict[str, Any]:
        """What was said, in the form that is kept."""
        said = self.model_dump(exclude_unset=True)
        return {name: sorted(set(value)) if name == "tags" else value or None for name, value in said.items()}


def find_job(queue: Queue, job_id: str) -> Job:
    """The job of that id. Raises UnknownJob."""
    job = queue.get(job_id)
    if job is None:
        raise errors.UnknownJob(f"there is no job {job_id!r}", "GET /train lists the jobs")
    return job


def pinned(imports: Imports, reference: str) -> str:
    """A built-in data set, or the version that `NAME` means now. Raises InvalidRequest or DatasetNotReady."""
    if is_built_in(reference):
        return reference
    try:
        return imports.pin(reference).reference
    except NoSuchDataset as error:
        raise errors.InvalidRequest(str(error), imports.suggestion(reference)) from error


def require_promotion(services: Services, model: str, promote: str, identity: Identity) -> None:
    """Raises Forbidden for `always` without the scope admin, where there is a version to be replaced."""
    if promote == "always" and not identity.may("admin") and _has_production(services.versions, model):
        raise errors.Forbidden(
            f"'promote: always' would replace {model!r} whatever comes out",
            "use a key with the scope admin, or promote if_better",
        )


def notified(url: str | None, settings: Settings) -> str | None:
    """A URL in its one form. Raises InvalidRequest unless its origin is one that may be notified."""
    if url is None:
        return None
    listed = settings.notified_origins
    if not listed:
        raise errors.InvalidRequest(
            "notify: this service notifies nobody", "leave it out, or set MINIST_WEBHOOK_ORIGINS"
        )
    try:
        origin, rest = split(url)
    except ValueError as error:
        raise errors.InvalidRequest(f"notify: {error}", "correct the URL") from error
    if origin not in listed:
        raise errors.InvalidRequest(
            f"notify: {origin} is not an origin that this service notifies",
            "use another URL, or add the origin to MINIST_WEBHOOK_ORIGINS",
        )
    return origin + rest


def _has_production(versions: Versions, model: str) -> bool:
    with versions.database.read() as connection:
        return versions.in_production(connection, model) is not None
