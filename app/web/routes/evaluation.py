"""What versions make of the test set: for whoever wants to see the mistakes behind the accuracy."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from app import errors
from app.serving.evaluation import TestResult, indices, mcnemar
from app.serving.registry import ServedModel
from app.web import problems
from app.web.dependencies import MAY_READ, Services, ServicesDep
from models.preprocessing.decode import png
from models.preprocessing.png import data_url

router = APIRouter(prefix="/models", tags=["models"])

ERRORS = problems.responses(errors.UnknownModel, errors.NoTestSet, errors.Conflict, errors.InvalidRequest)
SHOWN = 50  # images in which two versions differ

Number = Annotated[int, Path(ge=1, description="of the version")]


class ConfusionBody(BaseModel):
    """How often each class was taken for each other."""

    dataset: str
    images: int
    accuracy: float = Field(description="0..1")
    classes: list[str]
    matrix: list[list[int]] = Field(description="images; rows are the true classes, columns the predicted ones")


class MistakeBody(BaseModel):
    """A test image that was answered wrong."""

    index: int = Field(description="in the test set, from 0")
    image: str = Field(description="a PNG as data URL")
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
    """A test image that two versions answer differently."""

    index: int
    image: str
    true: str
    a: str = Field(description="answer of a")
    b: str
    probability_a: float = Field(description="of a's answer, as a sees it")
    probability_b: float


class ComparisonBody(BaseModel):
    """Two versions on one test set."""

    dataset: str
    images: int
    a: SideBody
    b: SideBody
    agreement: float = Field(description="share of the images with the same answer, 0..1")
    only_a: int = Field(description="images that a alone has right")
    only_b: int
    p: float = Field(description="of McNemar's exact test: small where the difference is no accident")
    differ: list[DifferenceBody] = Field(description=f"the first {SHOWN}")


@router.get(
    "/{name}/versions/{n}/confusion",
    summary="A version's confusion matrix",
    responses=ERRORS,
    dependencies=[MAY_READ],
)
async def confusion(name: str, n: Number, services: ServicesDep) -> ConfusionBody:
    """On the test set of its data set, which has to be under MINIST_DATA_DIR; kept once it was computed."""
    _, sheet = await _sheet(services, name, n)
    return ConfusionBody(
        dataset=sheet.test.name,
        images=len(sheet.predicted),
        accuracy=sheet.accuracy,
        classes=list(sheet.classes),
        matrix=sheet.confusion(),
    )


@router.get(
    "/{name}/versions/{n}/mistakes", summary="A version's mistakes", responses=ERRORS, dependencies=[MAY_READ]
)
async def mistakes(
    name: str,
    n: Number,
    services: ServicesDep,
    true: Annotated[str | None, Query(description="only images of this class")] = None,
    predicted: Annotated[str | None, Query(description="only those that were taken for this one")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[MistakeBody]:
    """Test images that it answers wrong, those that it is most sure of first."""
    _, sheet = await _sheet(services, name, n)
    chosen = (_class(sheet, true), _class(sheet, predicted))
    return await run_in_threadpool(_mistakes, sheet, *chosen, limit)


@router.get("/{name}/compare", summary="Compare two versions", responses=ERRORS, dependencies=[MAY_READ])
async def compare(
    name: str,
    services: ServicesDep,
    a: Annotated[int, Query(ge=1, description="a version")],
    b: Annotated[int, Query(ge=1, description="another one")],
    other: Annotated[str | None, Query(description="model of b, where it is another one")] = None,
) -> ComparisonBody:
    """On the test set: how often they agree, which of them is right where they do not, and McNemar's p."""
    one, sheet_a = await _sheet(services, name, a)
    two, sheet_b = await _sheet(services, other or name, b)
    if sheet_a.test is not sheet_b.test:
        raise errors.Conflict(
            f"a was trained on {sheet_a.test.name}, b on {sheet_b.test.name}",
            "compare versions of one data set",
        )
    return await run_in_threadpool(_comparison, one, sheet_a, two, sheet_b)


async def _sheet(services: Services, name: str, version: int) -> tuple[ServedModel, TestResult]:
    served = await run_in_threadpool(services.registry.find, f"{name}@{version}")
    return served, await services.evaluator.sheet(served)


def _class(sheet: TestResult, label: str | None) -> int | None:
    if label is None:
        return None
    if label not in sheet.classes:
        raise errors.InvalidRequest(
            f"{label!r} is no class of the model", f"choose one of {', '.join(sheet.classes)}"
        )
    return sheet.classes.index(label)


def _mistakes(sheet: TestResult, true: int | None, predicted: int | None, limit: int) -> list[MistakeBody]:
    bodies = []
    for index in sheet.mistakes(true, predicted, limit):
        row = sheet.probabilities[index].tolist()
        bodies.append(
            MistakeBody(
                index=index,
                image=_image(sheet, index),
                true=sheet.classes[int(sheet.test.labels[index])],
                predicted=sheet.classes[int(sheet.predicted[index])],
                probability=max(row),
                probabilities=dict(zip(sheet.classes, row, strict=True)),
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
                image=_image(a, index),
                true=a.classes[int(a.test.labels[index])],
                a=a.classes[int(a.predicted[index])],
                b=b.classes[int(b.predicted[index])],
                probability_a=a.probabilities[index].max().item(),
                probability_b=b.probabilities[index].max().item(),
            )
            for index in indices(differ, SHOWN)
        ],
    )


def _image(sheet: TestResult, index: int) -> str:
    return data_url(png(sheet.test.picture(index)))
