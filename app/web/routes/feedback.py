"""Corrections: "wrong, it was a 7". Kept where the operator has enabled it (`MINIST_FEEDBACK`)."""

import asyncio
import csv
import io
import json
import zipfile
from datetime import datetime
from math import isqrt, prod
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from app import errors
from app.clock import utc
from app.serving.registry import Registry
from app.serving.unsure import least_sure
from app.store.feedback import Correction, Feedback, FeedbackFull, NoSuchPrediction
from app.store.versions import Versions
from app.web import problems
from app.web.dependencies import (
    AUTH_ERRORS,
    MAY_READ,
    READING,
    FeedbackDep,
    IsAdmin,
    MayAdminister,
    ServicesDep,
    VersionsDep,
    headers_of,
)
from models.card import AnyInput, Input, Shape
from models.errors import CheckpointError
from models.preprocessing.decode import png
from models.preprocessing.pictures import from_planes
from models.preprocessing.png import data_url
from models.tables import TableInput, decode_row


class _Hex(StringConvertor):
    """The id of a correction in a path."""

    regex = "[0-9a-f]+"


register_url_convertor("hex", _Hex())
router = APIRouter(prefix="/feedback", tags=["feedback"])


class Inputs:
    """What corrections are of: pictures or rows, as the version takes them that answered, or any of its model
    that takes as many bytes."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions.snapshot().versions
        self._known: dict[tuple[str, int], AnyInput | None] = {}

    def row(self, correction: Correction) -> dict[str, Any] | None:
        """The row that was corrected; None where it was a picture."""
        taken = self._input(correction)
        if not isinstance(taken, TableInput):
            return None
        return decode_row(taken, np.frombuffer(correction.pixels, np.float32))

    def exact_row(self, correction: Correction) -> dict[str, Any] | None:
        """The same; None also where the version that has read it was deleted."""
        known = isinstance(self._of(correction.model, correction.version), TableInput)
        return self.row(correction) if known else None

    def png(self, correction: Correction) -> bytes:
        taken = self._input(correction)
        shape = taken.shape if isinstance(taken, Input) else _square(len(correction.pixels))
        return png(from_planes(correction.pixels, shape))

    def file(self, correction: Correction) -> tuple[str, bytes]:
        """Its name, and what is in it."""
        row = self.row(correction)
        if row is not None:
            return f"{correction.id}.json", json.dumps(row, ensure_ascii=False).encode("utf-8", "replace")
        return f"{correction.id}.png", self.png(correction)

    def _input(self, correction: Correction) -> AnyInput | None:
        found = (self._of(correction.model, number) for number in self._numbers(correction))
        return next((taken for taken in found if taken and _size(taken) == len(correction.pixels)), None)

    def _numbers(self, correction: Correction) -> list[int]:
        mine = [number for model, number in self._versions if model == correction.model]
        return [correction.version, *sorted(mine, reverse=True)]

    def _of(self, model: str, number: int) -> AnyInput | None:
        key = (model, number)
        if key not in self._known:
            try:
                self._known[key] = self._versions[key].card().input if key in self._versions else None
            except CheckpointError:
                self._known[key] = None
        return self._known[key]


def _size(taken: AnyInput) -> int:
    """Bytes."""
    return taken.width * 4 if isinstance(taken, TableInput) else prod(taken.shape)


def _square(size: int) -> Shape:
    """Where no card is left to tell: a square, grey or RGB, or else a line."""
    for channels in (1, 3):
        side = isqrt(size // channels)
        if channels * side * side == size:
            return (channels, side, side)
    return (1, 1, size)


LOOKED_AT = 1000  # predictions, for those that are unsure
WAITS = (0.02, 0.1, 0.4)  # seconds; another API worker may still be writing the prediction


class CorrectionRequest(BaseModel):
    """The right class of a picture, or of a row."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"prediction": "0b2c7f1d9a4e4c5f8b6a7d3e", "label": "7"}]},
    )

    prediction: str = Field(max_length=64, description="`id` in the answer of `POST /predict`")
    label: str = Field(max_length=64, description="the right class")


class CorrectionBody(BaseModel):
    """A picture, or a row, with its right label."""

    id: str = Field(description="of the prediction")
    model: str
    version: int = Field(description="version that answered")
    label: str = Field(description="the right class")
    predicted: str = Field(description="the predicted class")
    created: datetime
    image: str | None = Field(description="what the model saw, a PNG as data URL; null for a row")
    row: dict[str, Any] | None = Field(
        default=None,
        description="the row of a table, as the model read it; `other`: a category it did not know",
    )
    used_by: str | None = Field(description="the last job that learned it; null: none so far")


class UnsureBody(BaseModel):
    """A picture that was asked about and not corrected."""

    id: str = Field(description="of the prediction, to correct it by")
    model: str
    version: int = Field(description="version that answered")
    predicted: str = Field(description="the predicted class")
    probability: float = Field(description="of that class")
    novelty: float | None = Field(
        description="share of held-out pictures that are less unusual; null: not measured"
    )
    unfamiliar: bool = Field(description="whether it is like nothing that the model has learned")
    at: datetime = Field(description="when it was asked about")
    image: str = Field(description="what the model saw, a PNG as data URL")


class Limit(BaseModel):
    """How much is kept at most."""

    count: int
    bytes: int


class FeedbackBody(BaseModel):
    """The corrections that are kept."""

    enabled: bool = Field(description="whether predictions can be corrected")
    count: int
    bytes: int = Field(description="of their pictures")
    limit: Limit
    waiting: dict[str, int] = Field(description="by model: corrections that no job has learned")
    items: list[CorrectionBody] = Field(description="newest first; only with a key of scope admin")


@router.post(
    "",
    status_code=201,
    summary="Correct a prediction",
    openapi_extra={"security": READING},
    responses=problems.responses(
        *AUTH_ERRORS,
        errors.FeedbackIsOff,
        FeedbackFull,
        NoSuchPrediction,
        errors.InvalidRequest,
        *errors.MODEL_ERRORS,
    ),
)
async def correct(correction: CorrectionRequest, request: Request, services: ServicesDep) -> CorrectionBody:
    """Keep the picture, or the row, of a prediction with its right label; a later label replaces the earlier.

    A prediction can be corrected for an hour. `POST /train` with `feedback` learns what is kept.
    """
    await services.authenticator.may_predict(headers_of(request))
    feedback, prediction, label = services.feedback, correction.prediction, correction.label
    if services.recent_predictions is None:
        raise errors.FeedbackIsOff(
            "this service does not remember its predictions", "the operator may set MINIST_FEEDBACK=true"
        )
    model, version = await _answered_by(feedback, prediction)
    classes = await run_in_threadpool(_classes, services.registry, model, version)
    if label not in classes:
        raise errors.InvalidRequest(f"{model!r} has no class {label!r}", f"choose one of {', '.join(classes)}")
    kept = await run_in_threadpool(feedback.correct, prediction, label)
    return _body(kept, await run_in_threadpool(Inputs, services.versions))


async def _answered_by(feedback: Feedback, prediction: str) -> tuple[str, int]:
    for seconds in WAITS:
        try:
            return await run_in_threadpool(feedback.answered_by, prediction)
        except NoSuchPrediction:
            await asyncio.sleep(seconds)
    return await run_in_threadpool(feedback.answered_by, prediction)


def _classes(registry: Registry, model: str, version: int) -> tuple[str, ...]:
    """Of the version that answered, or of the model where that is gone."""
    try:
        return registry.find(f"{model}@{version}").classifier.card.classes
    except errors.UnknownModel:
        return registry.find(model).classifier.card.classes


@router.get(
    "", summary="Show the corrections", responses=problems.responses(*AUTH_ERRORS), dependencies=[MAY_READ]
)
def show(
    services: ServicesDep,
    admin: IsAdmin,
    limit: Annotated[int, Query(ge=0, le=500, description="of items")] = 50,
    model: Annotated[str | None, Query(description="only items of this model")] = None,
) -> FeedbackBody:
    """How many there are, and how many wait to be learned; with a key of scope admin, the newest of them."""
    feedback, inputs = services.feedback, Inputs(services.versions)
    usage = feedback.usage()
    return FeedbackBody(
        enabled=services.recent_predictions is not None,
        count=usage.count,
        bytes=usage.bytes,
        limit=Limit(count=feedback.max_count, bytes=feedback.max_bytes),
        waiting=dict(usage.waiting),
        items=[_body(correction, inputs) for correction in feedback.newest(limit, model)] if admin else [],
    )


@router.get(
    "/unsure",
    summary="Show what the models are least sure of",
    responses=problems.responses(*AUTH_ERRORS),
)
def show_unsure(
    services: ServicesDep,
    identity: MayAdminister,
    limit: Annotated[int, Query(ge=1, le=200, description="of items")] = 50,
    model: Annotated[str | None, Query(description="only pictures of this model")] = None,
) -> list[UnsureBody]:
    """Pictures of the last hour that nobody has corrected: first those that are like nothing a model has
    learned, then those with the lowest probability. `POST /feedback` takes their right class, also where that
    is the predicted one.

    The newest 1,000 predictions are looked at. None are remembered without `MINIST_FEEDBACK`.
    """
    remembered = services.feedback.uncorrected(LOOKED_AT, model)
    return [
        UnsureBody(
            id=one.prediction.id,
            model=one.prediction.model,
            version=one.prediction.version,
            predicted=one.prediction.predicted,
            probability=one.probability,
            novelty=one.novelty,
            unfamiliar=one.unfamiliar,
            at=utc(one.prediction.at),
            image=data_url(png(one.picture)),
        )
        for one in least_sure(services.registry, remembered)[:limit]
    ]


@router.get(
    "/export",
    summary="Export the corrections",
    response_class=Response,
    responses={
        200: {"description": "a zip file", "content": {"application/zip": {}}},
        **problems.responses(*AUTH_ERRORS),
    },
)
def export(feedback: FeedbackDep, versions: VersionsDep, identity: MayAdminister) -> Response:
    """A zip file: a PNG of each picture, a JSON file of each row, and `labels.csv`."""
    headers = {"content-disposition": 'attachment; filename="feedback.zip"', "cache-control": "no-store"}
    return Response(
        _zip(feedback.newest(None, None), Inputs(versions)), media_type="application/zip", headers=headers
    )


@router.delete(
    "/{id:hex}",  # "export" is not an id
    status_code=204,
    summary="Delete a correction",
    responses=problems.responses(*AUTH_ERRORS, errors.UnknownCorrection, errors.StorageTrouble),
)
def delete(
    id: str,
    feedback: FeedbackDep,
    identity: MayAdminister,
    forget: Annotated[
        bool, Query(description="false: the prediction is still remembered, and can be corrected again")
    ] = True,
) -> None:
    """Forget a correction with its picture. A version that has learned it stays as it is."""
    if not feedback.delete(id, forget):
        raise errors.UnknownCorrection(f"there is no correction {id!r}", "GET /feedback lists them")


@router.delete(
    "",
    status_code=204,
    summary="Delete all corrections",
    responses=problems.responses(*AUTH_ERRORS, errors.StorageTrouble),
)
def clear(feedback: FeedbackDep, identity: MayAdminister) -> None:
    """Forget all corrections, and the predictions that could still be corrected.

    A job that has begun to learn them keeps a copy until it succeeds, or its run directory is cleared away.
    """
    feedback.clear()


def _body(correction: Correction, inputs: Inputs) -> CorrectionBody:
    row = inputs.row(correction)
    return CorrectionBody(
        id=correction.id,
        model=correction.model,
        version=correction.version,
        label=correction.label,
        predicted=correction.predicted,
        created=utc(correction.created_at),
        image=data_url(inputs.png(correction)) if row is None else None,
        row=row,
        used_by=correction.used_by,
    )


def _zip(corrections: list[Correction], inputs: Inputs) -> bytes:
    stream, table = io.BytesIO(), io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["file", "label", "predicted", "model", "version", "created", "used_by"])
    with zipfile.ZipFile(stream, "w") as archive:
        for correction in corrections:
            name, content = inputs.file(correction)
            archive.writestr(name, content)
            rows.writerow(
                [
                    name,
                    correction.label,
                    correction.predicted,
                    correction.model,
                    correction.version,
                    utc(correction.created_at).isoformat(),
                    correction.used_by or "",
                ]
            )
        archive.writestr("labels.csv", table.getvalue())
    return stream.getvalue()
