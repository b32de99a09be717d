"""Sharing the requests for a model among its aliases, and comparing a candidate in the shadow."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app import errors
from app.serving.evaluation import CHUNK, mcnemar
from app.serving.registry import ServedModel
from app.serving.shadow import why_not_comparable, why_not_in_shadow
from app.store.feedback import Correction
from app.store.traffic import Traffic
from app.store.versions import PRODUCTION, NoSuchAlias
from app.web import problems
from app.web.dependencies import AUTH_ERRORS, MayAdminister, Services, ServicesDep
from app.web.live_body import TrafficBody
from app.web.live_view import traffic_body

router = APIRouter(prefix="/models", tags=["models"])

MOST_ALIASES = 5
MOST_CORRECTIONS = 1000  # newest, that a candidate answers anew


class TrafficUpdate(BaseModel):
    """Percent by alias, such as `{"production": 90, "canary": 10}`; and an alias to compare in the shadow."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 100},
            "examples": [{"production": 90, "canary": 10}, {"shadow": "candidate"}],
        },
    )

    shadow: str | None = Field(default=None, max_length=64, description="alias of the candidate")
    why: str = Field(default="", max_length=1000)

    @model_validator(mode="after")
    def _sums_to_100(self) -> "TrafficUpdate":
        given: dict[str, Any] = self.model_extra or {}
        for alias, share in given.items():
            if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= 100:
                raise ValueError(f"the share of {alias[:64]!r} is no whole number from 0 to 100, in percent")
        if len(given) > MOST_ALIASES:
            raise ValueError(f"there are more than {MOST_ALIASES} aliases")
        if given and sum(given.values()) != 100:
            raise ValueError(f"the shares are {sum(given.values())} percent together: let them be 100")
        if not given and self.shadow is None:
            raise ValueError(
                'nothing is said: send {"production": 90, "canary": 10} or {"shadow": "candidate"}'
            )
        return self

    @property
    def shares(self) -> dict[str, int]:
        given = self.model_extra or {}
        return {alias: share for alias, share in given.items() if share} or {PRODUCTION: 100}


class CorrectionsBody(BaseModel):
    """What people have corrected since it began, answered by the candidate as well (McNemar 1947)."""

    count: int = Field(description="the newest, at most 1,000")
    only_production: int = Field(description="that production has right and the candidate wrong")
    only_candidate: int
    p: float = Field(description="how probable such a difference is if both were equally good")


class TrafficDetail(TrafficBody):
    """The same with corrections."""

    corrections: CorrectionsBody | None = Field(
        description="null without a candidate in the shadow, or where no corrections are kept"
    )


@router.put(
    "/{name}/traffic",
    summary="Share a model's requests among aliases",
    responses=problems.responses(*AUTH_ERRORS, *errors.MODEL_ERRORS, NoSuchAlias, errors.Conflict),
)
def share(name: str, update: TrafficUpdate, services: ServicesDep, identity: MayAdminister) -> TrafficBody:
    """Requests for the bare name are answered by these aliases, in percent: the same alias for the same
    `X-Traffic-Key`, else API key; without either every request is dealt by itself. The alias in `shadow`
    answers what production has answered, off the way of requests; only `GET /models/{name}/traffic` shows that.

    Both end by themselves when an alias other than `production` fails at least 5 and more than 5 % of its
    requests.
    """
    production = services.registry.find(name)
    _refuse_names(name, production)
    for alias in {*update.shares, *filter(None, [update.shadow])}:
        candidate = services.registry.get(f"{name}@{alias}")
        if candidate is None:
            raise NoSuchAlias(f"model {name!r} has no alias {alias!r} that is served")
        why = why_not_comparable(production, candidate)
        if why is None and alias == update.shadow:
            why = why_not_in_shadow(production, candidate)
        if why is not None:
            raise errors.Conflict(f"{alias} cannot answer for {name!r}: {why}", "choose another version for it")
    services.traffic.rows.begin(name, update.shares, update.shadow, identity.who, update.why)
    services.registry.refresh()
    return traffic_body(_found(services, name))


@router.get(
    "/{name}/traffic",
    summary="Show how a model's requests are shared",
    responses=problems.responses(*AUTH_ERRORS, *errors.MODEL_ERRORS, NoSuchAlias),
)
async def show(name: str, services: ServicesDep, identity: MayAdminister) -> TrafficDetail:
    """Shares, who answered and failed, and how the candidate in the shadow compares: agreement, confidence,
    time of a forward pass, and who is right where people have corrected. 404 where nothing was ever shared."""
    found = await run_in_threadpool(_found, services, name)
    compared = await run_in_threadpool(_corrections, services, found)
    return TrafficDetail(**vars(traffic_body(found)), corrections=compared)


@router.delete(
    "/{name}/traffic",
    status_code=204,
    summary="End the sharing of a model's requests",
    responses=problems.responses(*AUTH_ERRORS, NoSuchAlias),
)
def end(name: str, services: ServicesDep, identity: MayAdminister) -> None:
    """`production` answers everything again, and nothing is compared any more. What came of it stays."""
    found = _found(services, name)
    services.traffic.rows.end(name, found.since, identity.who, f"by {identity.who}")
    services.registry.refresh()


def _refuse_names(name: str, production: ServedModel) -> None:
    if name != production.name:
        raise errors.InvalidRequest(f"{name!r} names a version", f"share the requests of {production.name!r}")


def _found(services: Services, name: str) -> Traffic:
    found = services.traffic.rows.get(name)
    if found is None:
        raise NoSuchAlias(f"requests for {name!r} were never shared among aliases")
    return found


def _corrections(services: Services, found: Traffic) -> CorrectionsBody | None:
    candidate = services.registry.get(f"{found.model}@{found.shadow}") if found.shadow else None
    if candidate is None or not services.settings.feedback:
        return None
    size = candidate.input_bytes
    since = [
        one
        for one in services.feedback.newest(MOST_CORRECTIONS, found.model)
        if one.created_at >= found.since and len(one.pixels) == size
    ]
    answers = [
        label for at in range(0, len(since), CHUNK) for label in _labels(candidate, since[at : at + CHUNK])
    ]
    pairs = [
        (one.predicted == one.label, label == one.label) for one, label in zip(since, answers, strict=True)
    ]
    only_a, only_b = pairs.count((True, False)), pairs.count((False, True))
    return CorrectionsBody(
        count=len(since), only_production=only_a, only_candidate=only_b, p=mcnemar(only_a, only_b)
    )


def _labels(candidate: ServedModel, some: Sequence[Correction]) -> list[str]:
    rows = candidate.forward(candidate.inputs([one.pixels for one in some])).tolist()
    return [candidate.classifier.card.classes[candidate.most_probable(row)] for row in rows]
