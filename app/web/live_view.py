"""Everything that an operator wants to see at once, put together. Blocks: used in a thread."""

import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import OperationalError

from app.clock import utc
from app.jobs.facts import facts
from app.jobs.queue import Queue
from app.serving.registry import Registry
from app.settings import Settings
from app.store.supervisors import Supervisors
from app.store.traffic import Compared, Traffic, TrafficRows
from app.telemetry.metrics import Snapshot
from app.telemetry.moments import Answered, between
from app.web.background import Background
from app.web.drift import DriftWatch, State
from app.web.live import Sample
from app.web.live_body import (
    BatchBody,
    DatabaseBody,
    DiskBody,
    DriftBody,
    IndexBody,
    LiveJob,
    MixBody,
    MomentBody,
    ProblemCount,
    RequestBody,
    ShadowBody,
    TaskBody,
    TrafficBody,
    TrainerBody,
    WorkerBody,
)
from models.card import Metrics

MOST_MODELS = 20
MOST_CLASSES = 20
MOST_REQUESTS = 20
MOST_JOBS = 10


@dataclass(frozen=True)
class LiveView:
    """Where it all is known."""

    settings: Settings
    registry: Registry
    queue: Queue
    supervisors: Supervisors
    background: Background
    drift: DriftWatch
    traffic: TrafficRows

    def __call__(self, first: Sample, before: Sample, now: Sample) -> MomentBody:
        """Rates are of the time between `before` and `now`, what is recent since `first`."""
        seconds = max(0.001, now.at - before.at)
        moment = between(before.totals, now.totals, seconds)
        images, size = (sum(one["waiting"][index] for one in now.snapshots) for index in (0, 1))
        return MomentBody(
            at=utc(time.time()),
            host=socket.gethostname(),
            seconds=round(seconds, 3),
            requests_per_second=round(moment.requests_per_second, 2),
            images_per_second=round(moment.images_per_second, 2),
            p50_ms=_ms(moment.p50),
            p99_ms=_ms(moment.p99),
            wait_p99_ms=_ms(moment.wait_p99),
            waiting_images=images,
            waiting_bytes=size,
            batches=[BatchBody(most=most, count=count) for most, count in moment.batches.items()],
            problems=list(_problems(first, now)),
            refused=dict(now.totals.refused),
            models=list(self._mixes(first, now)),
            requests=_requests(now.snapshots),
            workers=list(_workers(before.snapshots, now.snapshots)),
            disk=self._disk(),
            tasks=[TaskBody(name=name, error=error) for name, error in self.background.states],
            **self._of_database(),
        )

    def _mixes(self, first: Sample, now: Sample) -> Iterator[MixBody]:
        """The versions that have answered most of late, then most in all."""
        before = first.totals.answered

        def recent(key: tuple[str, int]) -> int:
            return now.totals.answered[key].count - (before[key].count if key in before else 0)

        keys = sorted(now.totals.answered, key=lambda key: (-recent(key), -now.totals.answered[key].count, key))
        for key in keys[:MOST_MODELS]:
            yield self._mix(*key, now.totals.answered[key], recent(key))

    def _mix(self, model: str, version: int, found: Answered, recent: int) -> MixBody:
        served = self.registry.loaded(model, version)
        test = served.classifier.card.metrics.get("test") if served else None
        bare = self.registry.get(model)
        labels = _shares(found.labels)
        shown = sorted(labels, key=lambda label: -labels[label])[:MOST_CLASSES]
        return MixBody(
            model=model,
            version=version,
            serving=bare is not None and bare.version == version,
            answers=found.count,
            recent=recent,
            labels={label: share for label, share in labels.items() if label in shown},
            expected_labels=_expected_labels(test, shown),
            confidence=_parts(found.confidence),
            expected_confidence=_parts(test.answered.confidence) if test and test.answered else None,
            warned=found.warned,
            failed=found.failed,
            drift=drift_body(self.drift.states.get((model, version))),
        )

    def _disk(self) -> DiskBody:
        found = shutil.disk_usage(self.settings.home)
        return DiskBody(total=found.total, free=found.free)

    def _of_database(self) -> dict[str, Any]:
        """Jobs, training workers and the database itself; nothing where it does not answer."""
        database = self.queue.database
        kind = "SQLite" if database.in_home else "Postgres"
        begun = time.perf_counter()
        try:
            size = database.size()
            taken = _ms(time.perf_counter() - begun)
            jobs, counts = self.queue.unfinished(MOST_JOBS), self.queue.counts()
            trainers = self.supervisors.alive()
            traffic = self.traffic.all()
        except OperationalError:
            away = DatabaseBody.model_validate({"kind": kind, "ms": None, "bytes": None})
            return {"jobs": [], "traffic": [], "job_counts": {}, "trainers": [], "database": away}
        return {
            "jobs": [LiveJob.model_validate(_picked(facts(job))) for job in jobs],
            "traffic": [traffic_body(one) for one in traffic],
            "job_counts": counts,
            "trainers": [TrainerBody(host=host, name=name) for host, name in trainers],
            "database": DatabaseBody.model_validate({"kind": kind, "ms": taken, "bytes": size}),
        }


def drift_body(state: State | None) -> DriftBody | None:
    if state is None or state.drift is None or state.reference is None:
        return None
    return DriftBody(
        images=state.drift.images,
        hours=state.drift.hours,
        labels=IndexBody(**vars(state.drift.labels)),
        confidence=IndexBody(**vars(state.drift.confidence)),
        against=state.reference,
        since=utc(state.since) if state.since is not None else None,
    )


def traffic_body(one: Traffic) -> TrafficBody:
    return TrafficBody(
        model=one.model,
        shares=dict(one.shares),
        answers=dict(one.outcome.answers),
        failed=dict(one.outcome.failed),
        shadow=None if one.shadow is None else _shadow(one.shadow, one.outcome.shadow),
        who=one.who,
        since=utc(one.since),
        ended_at=None if one.ended_at is None else utc(one.ended_at),
        why=one.why,
    )


def _shadow(alias: str, found: Compared) -> ShadowBody:
    def mean(total: float, number: int, factor: float = 1.0) -> float | None:
        return round(total / number * factor, 5) if number else None

    return ShadowBody(
        alias=alias,
        compared=found.compared,
        agreement=mean(found.agreed, found.compared),
        confidence=mean(found.confidence, found.compared),
        candidate_confidence=mean(found.candidate_confidence, found.compared),
        ms=mean(found.seconds, found.timed, 1000),
        candidate_ms=mean(found.candidate_seconds, found.timed, 1000),
        failed=found.failed,
        dropped=found.dropped,
    )


def _picked(job: Mapping[str, Any]) -> dict[str, Any]:
    return {name: job[name] for name in LiveJob.model_fields}


def _problems(first: Sample, now: Sample) -> Iterator[ProblemCount]:
    before = first.totals.problems
    for (status, title), number in sorted(now.totals.problems.items(), key=lambda item: -item[1]):
        recent = number - before.get((status, title), 0)
        yield ProblemCount(status=status, title=title, count=number, recent=recent)


def _requests(snapshots: Sequence[Snapshot]) -> list[RequestBody]:
    """The newest of all processes; what a prediction was answered is found by the id of its request."""
    answers = {one[0]: one[1:] for snapshot in snapshots for one in snapshot["latest_answers"]}
    latest = sorted((one for snapshot in snapshots for one in snapshot["latest_requests"]), reverse=True)
    found = []
    for at, method, route, status, seconds, request_id in latest[:MOST_REQUESTS]:
        answered = answers.get(request_id) if status == 200 else None
        model, version, label, probability = answered or (None, None, None, None)
        found.append(
            RequestBody(
                at=utc(at),
                id=request_id,
                method=method,
                route=route,
                status=status,
                ms=round(seconds * 1000, 3),
                model=model,
                version=version,
                label=label,
                probability=probability,
            )
        )
    return found


def _workers(before: Sequence[Snapshot], now: Sequence[Snapshot]) -> Iterator[WorkerBody]:
    old = {one["process"]["pid"]: one["process"] for one in before if one.get("process")}
    for snapshot in now:
        if (mine := snapshot.get("process")) is None:  # it has ended
            continue
        last = old.get(mine["pid"])
        passed = mine["at"] - last["at"] if last else 0.0
        cpu = round((mine["cpu"] - last["cpu"]) / passed, 3) if last and passed > 0 else None
        yield WorkerBody(pid=mine["pid"], cpu=cpu, memory_bytes=mine["memory"])


def _expected_labels(test: Metrics | None, shown: Sequence[str]) -> dict[str, float] | None:
    if test is None or test.answered is None:
        return None
    shares = _shares(test.answered.labels)
    return {label: shares.get(label, 0.0) for label in shares if label in shown}


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    return dict(zip(counts, _parts(list(counts.values())), strict=True))


def _parts(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [round(count / total, 5) for count in counts]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
