"""What the protocol is told about a model: its tensors, its versions, what was counted."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

from app.serving.decoding.tensor_rows import FEATURES, takes_features
from app.serving.decoding.tensors import BYTES
from app.serving.registry import Registry, ServedModel
from app.telemetry.counters import INFERENCES
from app.web.dependencies import Services
from app.web.v2.infer_path import model_name

PLATFORM = "minist_pytorch"
EXTENSIONS = ("binary_tensor_data", "classification", "model_repository", "statistics")


class TensorBody(BaseModel):
    """A tensor that a model takes or gives."""

    name: str
    datatype: str = Field(examples=["FP32"])
    shape: list[int] = Field(description="-1: any number", examples=[[-1, 1, 28, 28]])


class ModelBody(BaseModel):
    """What a model takes and gives: of pictures one of two inputs, of a table `features` or all others."""

    name: str
    versions: list[str]
    platform: str = Field(examples=[PLATFORM])
    inputs: list[TensorBody]
    outputs: list[TensorBody]


class IndexEntry(BaseModel):
    """A version of a model."""

    name: str
    version: str
    state: str = Field(description="READY or UNAVAILABLE")
    reason: str = Field(description="why it is not ready; empty where it is")


class Duration(BaseModel):
    """How many, and how long they took together."""

    count: int
    ns: int


class InferenceTimes(BaseModel):
    """Of requests of this protocol."""

    success: Duration
    fail: Duration
    queue: Duration = Field(description="until a request's first batch began")
    compute_input: Duration = Field(description="pictures and rows to what the model takes")
    compute_infer: Duration = Field(description="the forward passes of a request's batches, which others share")
    compute_output: Duration


class VersionStatistics(BaseModel):
    """Since the start of the service, of all its processes."""

    name: str
    version: str
    last_inference: int = Field(description="milliseconds since the epoch; 0: none")
    inference_count: int = Field(description="images or rows, also those of other endpoints")
    execution_count: int = Field(description="forward passes; fewer than inferences where requests share one")
    inference_stats: InferenceTimes


class Statistics(BaseModel):
    """One entry for each version that was asked."""

    model_stats: list[VersionStatistics]


def model_body(served: ServedModel, registry: Registry) -> ModelBody:
    """The metadata of the version that answers."""
    classes = len(served.classifier.card.classes)
    return ModelBody(
        name=served.name,
        versions=versions_of(registry, served),
        platform=PLATFORM,
        inputs=list(_inputs(served)),
        outputs=[_tensor("probabilities", "FP32", -1, classes), _tensor("label", BYTES, -1)],
    )


def versions_of(registry: Registry, served: ServedModel) -> list[str]:
    """Those that can be asked for, oldest first."""
    found = {*registry.snapshot.numbers.get(served.name, ())}
    return [str(number) for number in sorted(found | {served.version})]


def _tensor(name: str, datatype: str, *shape: int) -> TensorBody:
    return TensorBody(name=name, datatype=datatype, shape=list(shape))


def _inputs(served: ServedModel) -> Iterator[TensorBody]:
    if not served.takes_rows:
        yield _tensor("input", "FP32", -1, *served.classifier.card.picture.shape)
        yield _tensor("image", BYTES, -1)
        return
    spec = served.rows
    if takes_features(spec):
        yield _tensor(FEATURES, "FP32", -1, len(spec.columns))
    for column in spec.columns:
        yield _tensor(column.name, "FP32" if column.role == "numeric" else BYTES, -1)


def index(registry: Registry) -> list[IndexEntry]:
    """Every version, by name and number."""
    return [
        _entry(name, number, _reason(registry, name, number))
        for name, number in sorted(registry.snapshot.versions)
    ]


def _entry(name: str, number: int, reason: str) -> IndexEntry:
    state = "UNAVAILABLE" if reason else "READY"
    return IndexEntry(name=name, version=str(number), state=state, reason=reason)


def _reason(registry: Registry, name: str, number: int) -> str:
    if registry.is_unloaded(name):
        return "unloaded"
    return "the version is damaged" if registry.damage(name, number) else ""


def statistics_of(services: Services, name: str | None = None, version: str | None = None) -> Statistics:
    """Of a model, or of one of its versions, which may be an alias; of all without a name. Raises UnknownModel,
    UnloadedModel or DamagedModel."""
    if name is None:
        return statistics(services.processes.all(), None, None)
    served = services.registry.find(model_name(name, version))
    number = served.version if version or "@" in name else None
    return statistics(services.processes.all(), served.name, number)


def statistics(snapshots: Sequence[Mapping[str, Any]], name: str | None, version: int | None) -> Statistics:
    """Of the processes' numbers those of a model, or of one of its versions; of all where neither is named."""
    counts: dict[tuple[str, int], int] = {}
    for snapshot in snapshots:
        for model, number, _, labels, *_ in snapshot["answers"]:
            counts[model, number] = counts.get((model, number), 0) + sum(labels)
    times, executions = _times(snapshots), _executions(snapshots)
    found = [
        _statistics(
            (model, number),
            count,
            executions.get((model, number), 0),
            times.get((model, number), dict.fromkeys(INFERENCES, 0)),
        )
        for (model, number), count in sorted(counts.items())
        if name in (None, model) and version in (None, number)
    ]
    return Statistics(model_stats=found)


def _times(snapshots: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], dict[str, int]]:
    """The processes' numbers of each version, added up; of the last times the latest."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    for snapshot in snapshots:
        for model, number, numbers in snapshot["inferences"]:
            total = found.setdefault((model, number), dict.fromkeys(INFERENCES, 0))
            for key, value in zip(INFERENCES, numbers, strict=True):
                total[key] = max(total[key], value) if key == "last_ms" else total[key] + value
    return found


def _executions(snapshots: Sequence[Mapping[str, Any]]) -> Mapping[tuple[str, int], int]:
    found: Counter[tuple[str, int]] = Counter()
    for snapshot in snapshots:
        for model, number, count in snapshot["executions"]:
            found[model, number] += count
    return found


def _statistics(
    version: tuple[str, int], count: int, executions: int, times: Mapping[str, int]
) -> VersionStatistics:
    done = times["success"]
    return VersionStatistics(
        name=version[0],
        version=str(version[1]),
        last_inference=times["last_ms"],
        inference_count=count,
        execution_count=executions,
        inference_stats=InferenceTimes(
            success=Duration(count=done, ns=times["success_ns"]),
            fail=Duration(count=times["fail"], ns=times["fail_ns"]),
            queue=Duration(count=done, ns=times["queue_ns"]),
            compute_input=Duration(count=done, ns=times["input_ns"]),
            compute_infer=Duration(count=done, ns=times["infer_ns"]),
            compute_output=Duration(count=done, ns=times["output_ns"]),
        ),
    )
