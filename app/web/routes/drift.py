"""What versions have answered hour by hour, beside what was expected."""

import time
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app import errors
from app.clock import utc
from app.store.answered import HOUR, KEPT_HOURS, HourRow, hour_of
from app.web import problems
from app.web.dependencies import AUTH_ERRORS, MayAdminister, Services, ServicesDep
from app.web.drift import Reference
from app.web.live_body import DriftBody, IndexBody
from app.web.live_view import drift_body

router = APIRouter(prefix="/models", tags=["models"])


class HourBody(BaseModel):
    """An hour in which a version has answered."""

    at: datetime = Field(description="its beginning")
    images: int
    labels: dict[str, int]
    confidence: list[int] = Field(description="by bin, see `confidence` of cards")
    warned: int = Field(description="answers with a warning")
    warned_share: float = Field(description="0..1")
    psi_labels: IndexBody | None = Field(
        description="of the answers until the end of that hour, at least 200 of at most 24 hours; null: too few"
    )
    psi_confidence: IndexBody | None


class HistoryBody(BaseModel):
    """What a version has answered."""

    model: str
    version: int
    threshold: float = Field(description="MINIST_DRIFT_PSI")
    now: DriftBody | None = Field(description="as of a minute ago; null: too few answers to compare")
    hours: list[HourBody] = Field(description="oldest first; hours without answers are left out")


@router.get(
    "/{name}/drift",
    summary="Show how a model's answers drift",
    responses=problems.responses(*AUTH_ERRORS, *errors.MODEL_ERRORS),
)
def show(
    name: str,
    services: ServicesDep,
    identity: MayAdminister,
    hours: Annotated[int, Query(ge=1, le=KEPT_HOURS, description="that are shown, until now")] = 168,
) -> HistoryBody:
    """Hour by hour, of all machines: classes, confidence, warnings, and the population stability index of both
    against the test set. Kept for 90 days. Needs a key of scope `admin`."""
    served = services.registry.find(name)
    version = (served.name, served.version)
    watch = services.drift
    before = hour_of(time.time()) - hours
    rows = watch.hours.since(before - 24, *version)
    reference = watch.reference(version, watch.hours.first())
    return HistoryBody(
        model=served.name,
        version=served.version,
        threshold=watch.threshold,
        now=drift_body(watch.states.get(version)),
        hours=[_hour(services, rows[: at + 1], reference) for at, row in enumerate(rows) if row.hour > before],
    )


def _hour(services: Services, rows: list[HourRow], reference: Reference | None) -> HourBody:
    """The last of these rows."""
    row, counts = rows[-1], rows[-1].counts
    found = services.drift.measure(rows[-24:], reference) if reference else None
    return HourBody(
        at=utc(row.hour * HOUR),
        images=counts.images,
        labels=dict(counts.labels),
        confidence=list(counts.confidence),
        warned=counts.warned,
        warned_share=round(counts.warned / max(1, counts.images), 5),
        psi_labels=IndexBody(**vars(found.labels)) if found else None,
        psi_confidence=IndexBody(**vars(found.confidence)) if found else None,
    )
