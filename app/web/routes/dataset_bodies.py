"""What is answered about data sets, and how it is made of their rows and profiles."""

from base64 import b64encode
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from app.clock import utc
from app.jobs.executor import Profile
from app.jobs.imports import profile_of
from app.serving.samples import (
    RowSample,
    Sample,
)
from app.store.datasets import IMAGES, TABLE, DatasetVersion
from app.web.dependencies import Services
from models.datasets import DATASETS
from models.preprocessing.png import data_url

SIDE = 28  # pixels, of the built-in data sets
SPLIT = Literal["train", "validation", "test"]
Status = Literal["importing", "needs_target", "ready", "failed"]


class SummaryBody(BaseModel):
    """What is in a data set of pictures, in short."""

    images: int
    classes: int
    shape: tuple[int, int, int] = Field(description="channels, height and width of each picture")
    bad_files: int = Field(description="files that could not be read")
    warnings: int


class TableSummaryBody(BaseModel):
    """What is in a table, in short."""

    rows: int
    columns: int
    target: str | None = Field(description="null: it waits for one")
    classes: int | None
    bad_rows: int = Field(description="lines that are no rows of it")
    warnings: int


class ProgressBody(BaseModel):
    """How far an import is."""

    done: int = Field(description="files, or of a table bytes")
    of: int | None
    images_per_second: float | None
    eta_seconds: float | None


class DatasetLine(BaseModel):
    """A version of a data set in one line."""

    name: str
    version: int | None = Field(description="null: a built-in data set, which has no versions")
    reference: str = Field(description="how `POST /train` names it")
    status: Status = Field(
        description="`needs_target`: a table that waits to be told which column is the class"
    )
    error: str | None
    built_in: bool
    kind: str = Field(description="`images` or `table`; of a zip, once it was read")
    created_at: datetime | None
    bytes: int = Field(description="of what was imported and the file that came")
    summary: SummaryBody | TableSummaryBody | None = Field(description="null until it was read")


class DatasetBody(DatasetLine):
    """A version of a data set."""

    ready_at: datetime | None
    options: dict[str, Any]
    digest: str | None = Field(
        description="sha256 over pictures or rows, labels and splits; stands on the card"
    )
    source_digest: str | None = Field(description="sha256 of the file that came")
    from_version: int | None = Field(description="version whose file was read again")
    corrections_of: str | None = Field(description="model whose corrections it holds")
    job: str | None = Field(
        description="id of the import: `DELETE /train/{id}` cancels it, `/train/{id}/events`"
    )
    progress: ProgressBody | None
    versions: list[DatasetLine] = Field(description="all of that name, newest first")
    profile: Profile | None = Field(
        description="what was found, by its `kind`: `images`, `table`, or `table-draft` of a table that waits "
        "for its target; null until it was read"
    )


class SampleBody(BaseModel):
    """A picture of a data set."""

    row: int
    label: str
    split: SPLIT
    image: str = Field(description="as the model sees it: a PNG as data URL")
    original: str | None = Field(
        description="as it came, at most 192 pixels: a JPEG as data URL; null where it is not kept (arrays)"
    )


class RowSampleBody(BaseModel):
    """A row of a table."""

    row: int
    label: str
    split: SPLIT
    values: dict[str, str] = Field(description="as they came, by column; at most 200 characters of each")


def line_body(version: DatasetVersion) -> DatasetLine:
    return DatasetLine(
        name=version.name,
        version=version.version,
        reference=version.reference,
        status=version.status,
        error=version.error,
        built_in=False,
        kind=version.kind,
        created_at=utc(version.created_at),
        bytes=version.bytes + version.source_bytes,
        summary=_summary(version),
    )


def _summary(version: DatasetVersion) -> SummaryBody | TableSummaryBody | None:
    if version.summary is None:
        return None
    return (TableSummaryBody if version.kind == TABLE else SummaryBody)(**version.summary)


def dataset_body(services: Services, version: DatasetVersion) -> DatasetBody:
    progress = version.progress if version.status == "importing" else None
    return DatasetBody(
        **vars(line_body(version)),
        ready_at=utc(version.ready_at) if version.ready_at else None,
        options=dict(version.options),
        digest=version.digest,
        source_digest=version.source,
        from_version=version.from_version,
        corrections_of=version.corrections_of,
        job=version.job_id,
        progress=None
        if progress is None
        else ProgressBody(
            done=progress["step"],
            of=progress["steps"],
            images_per_second=progress["images_per_second"],
            eta_seconds=progress["eta_seconds"],
        ),
        versions=[line_body(one) for one in services.imports.datasets.versions(version.name)],
        profile=profile_of(version) if version.status in ("ready", "needs_target") else None,
    )


def built_in_line(name: str) -> DatasetLine:
    summary = SummaryBody(
        images=70_000, classes=len(DATASETS[name].classes), shape=(1, SIDE, SIDE), bad_files=0, warnings=0
    )
    return DatasetLine(
        name=name,
        version=None,
        reference=name,
        status="ready",
        error=None,
        built_in=True,
        kind=IMAGES,
        created_at=None,
        bytes=0,
        summary=summary,
    )


def built_in_body(name: str) -> DatasetBody:
    nothing = dict.fromkeys(
        ("ready_at", "digest", "source_digest", "from_version", "corrections_of", "job", "progress", "profile")
    )
    line = built_in_line(name)
    return DatasetBody(**vars(line), **nothing, options={}, versions=[])  # type: ignore[arg-type]


def sample_body(sample: Sample, classes: tuple[str, ...]) -> SampleBody:
    return SampleBody(
        row=sample.row,
        label=classes[sample.label],
        split=("train", "validation", "test")[sample.split],
        image=data_url(sample.image),
        original=None
        if sample.original is None
        else f"data:image/jpeg;base64,{b64encode(sample.original).decode()}",
    )


def row_sample_body(sample: RowSample, classes: tuple[str, ...]) -> RowSampleBody:
    split: SPLIT = ("train", "validation", "test")[sample.split]
    return RowSampleBody(row=sample.row, label=classes[sample.label], split=split, values=dict(sample.values))
