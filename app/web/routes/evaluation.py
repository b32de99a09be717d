"""How versions answer the test set: the mistakes behind the accuracy."""

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from app import errors
from app.serving.evaluation import TestResult, indices, mcnemar
from app.serving.registry import ServedModel
from app.web import problems
from app.web.dependencies import MAY_READ, Services, ServicesDep
from models.preprocessing.decode import png
from models.preprocessing.png import data_url
from models.tables import decode_row

router = APIRouter(prefix="/models", tags=["models"])

ERRORS = problems.responses(errors.UnknownModel, errors.NoTestSet, errors.Conflict, errors.InvalidRequest)
SHOWN = 50  # images in which two versions differ

Number = Annotated[int, Path(ge=1, description="of the version")]


class ConfusionBody(BaseModel):
    """How often each class was predicted for each class."""

    dataset: str
    images: int
    accuracy: float = Field(description="0..1")
    classes: list[str]
    matrix: list[list[int]] = Field(description="images; rows are the true classes, columns the predicted ones")


class MistakeBody(BaseModel):
    """A misclassified test image."""

    index: int = Field(description="in the test set, from 0")
    image: str | None = Field(description="a PNG as data URL; null for a row")
    row: dict[str, Any] | None = Field(default=None, description="of a table")
    true: str
    predicted: str
    probability: float = Field(description="of the predicted class")
    probabilities: dict[str, float]


class SideBody(BaseModel):
    """One of two versions."""

    model: str
    version: int
    accuracy: float


class DifferenceBody(BaseModel):
    """A test image to which two versions give different answers."""

    index: int
    image: str | None
    row: dict[str, Any] | None = Field(default=None, description="of a table")
    true: str
    a: str = Field(description="answer of a")
    b: str
    probability_a: float = Field(description="of a's answer, by a")
    probability_b: float


class ComparisonBody(BaseModel):
    """Two versions on one test set."""

    dataset: str
    images: int
    a: SideBody
    b: SideBody
    agreement: float = Field(description="share of the images with the same answer, 0..1")
    only_a: int = Field(description="images that only a classifies correctly")
    only_b: int
    p: float = Field(description="of McNemar's exact test: small where chance does not explain the difference")
    differ: list[DifferenceBody] = Field(description=f"the first {SHOWN}")


@router.get(
    "/{name}/versions/{n}/confusion",
    summary="A version's confusion matrix",
    responses=ERRORS,
    dependencies=[MAY_READ],
)
async def confusion(name: str, n: Number, services: ServicesDep) -> ConfusionBody:
    """On the test set of its data set, which has to be under MINIST_DATA_DIR; computed once, then kept."""
    _, result = await _result(services, name, n)
    return ConfusionBody(
        dataset=result.test.name,
        images=len(result.predicted),
        accuracy=result.accuracy,
        classes=list(result.classes),
        matrix=result.confusion(),
    )


@router.get(
    "/{name}/versions/{n}/mistakes", summary="A version's mistakes", responses=ERRORS, dependencies=[MAY_READ]
)
async def mistakes(
    name: str,
    n: Number,
    services: ServicesDep,
    true: Annotated[str | None, Query(description="only images of this class")] = None,
    predicted: Annotated[str | None, Query(description="only images classified as this one")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[MistakeBody]:
    """Misclassified test images, most confident first."""
    served, result = await _result(services, name, n)
    chosen = (_class(result, true), _class(result, predicted))
    return await run_sync(_mistakes, served, result, *chosen, limit)


@router.get("/{name}/compare", summary="Compare two versions", responses=ERRORS, dependencies=[MAY_READ])
async def compare(
    name: str,
    services: ServicesDep,
    a: Annotated[int, Query(ge=1, description="a version")],
    b: Annotated[int, Query(ge=1, description="another one")],
    other: Annotated[str | None, Query(description="model of b, where it is another one")] = None,
) -> ComparisonBody:
    """On the test set: how often they agree, which is right where they differ, and McNemar's p."""
    one, result_a = await _result(services, name, a)
    two, result_b = await _result(services, other or name, b)
    if result_a.test.name != result_b.test.name:
        raise errors.Conflict(
            f"a was trained on {result_a.test.name}, b on {result_b.test.name}",
            "compare versions of one data set",
        )
    return await run_sync(_comparison, one, result_a, two, result_b)


async def _result(services: Services, name: str, version: int) -> tuple[ServedModel, TestResult]:
    served = await run_sync(services.registry.find, f"{name}@{version}")
    return served, await services.evaluator.result(served)


def _class(result: TestResult, label: str | None) -> int | None:
    if label is None:
        return None
    if label not in result.classes:
        raise errors.InvalidRequest(
            f"the model has no class {label!r}", f"choose one of {', '.join(result.classes)}"
        )
    return result.classes.index(label)


def _mistakes(
    served: ServedModel, result: TestResult, true: int | None, predicted: int | None, limit: int
) -> list[MistakeBody]:
    bodies = []
    for index in result.mistakes(true, predicted, limit):
        row = result.probabilities[index].tolist()
        bodies.append(
            MistakeBody(
                index=index,
                **_shown(served, result, index),
                true=result.classes[int(result.test.labels[index])],
                predicted=result.classes[int(result.predicted[index])],
                probability=max(row),
                probabilities=dict(zip(result.classes, row, strict=True)),
            )
        )
    return bodies


def _comparison(one: ServedModel, a: TestResult, two: ServedModel, b: TestResult) -> ComparisonBody:
    differ = a.predicted != b.predicted
    only_a, only_b = int((a.right & ~b.right).sum()), int((b.right & ~a.right).sum())
    return ComparisonBody(
        dataset=a.test.name,
        images=len(a.predicted),
        a=SideBody(model=one.name, version=one.version, accuracy=a.accuracy),
        b=SideBody(model=two.name, version=two.version, accuracy=b.accuracy),
        agreement=1 - differ.double().mean().item(),
        only_a=only_a,
        only_b=only_b,
        p=mcnemar(only_a, only_b),
        differ=[
            DifferenceBody(
                index=index,
                **_shown(one, a, index),
                true=a.classes[int(a.test.labels[index])],
                a=a.classes[int(a.predicted[index])],
                b=b.classes[int(b.predicted[index])],
                probability_a=a.probabilities[index].max().item(),
                probability_b=b.probabilities[index].max().item(),
            )
            for index in indices(differ, SHOWN)
        ],
    )


def _shown(served: ServedModel, result: TestResult, index: int) -> dict[str, Any]:
    """The fields with the picture, or the row."""
    if served.takes_rows:
        return {"image": None, "row": decode_row(served.rows, result.test.images[index].numpy())}
    return {"image": data_url(png(result.test.picture(index)))}
