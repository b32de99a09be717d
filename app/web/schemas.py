"""Wire shapes, and how answers become bytes."""

import json
from typing import Any, Literal

from pydantic import BaseModel, Field

from models.classifier import Explanation
from models.preprocessing.png import data_url

EXAMPLE: dict[str, Any] = {
    "model": "digits",
    "version": 1,
    "label": "7",
    "index": 7,
    "probability": 0.9991,
    "probabilities": {str(i): 0.9991 if i == 7 else 0.0001 for i in range(10)},
    "novelty": 0.4127,
    "input": {"size": [1200, 1600], "inverted": True, "box": [412, 380, 790, 1105]},
}

NUMBER_EXAMPLE: dict[str, Any] = {
    "model": "digits",
    "version": 1,
    "number": "42",
    "lines": ["42"],
    "probability": 0.9972,
    "digits": [
        {"label": "4", "index": 4, "probability": 0.9991, "box": [412, 380, 210, 301], "line": 0},
        {"label": "2", "index": 2, "probability": 0.9981, "box": [668, 392, 195, 288], "line": 0},
    ],
    "input": {"size": [1200, 1600], "inverted": True, "box": [0, 0, 1200, 1600]},
}


class InputBody(BaseModel):
    """What was done to a picture before the model saw it."""

    size: tuple[int, int] = Field(description="width and height of the picture as it is shown")
    inverted: bool = Field(description="whether dark and light were exchanged")
    box: tuple[int, int, int, int] = Field(
        description="left, top, right and bottom, in its pixels, of what was found and scaled; "
        "the whole picture where nothing was done"
    )


class AnswerWarning(BaseModel):
    """A hint that the answer may not be the one that was wanted."""

    type: Literal["several", "unfamiliar"] = Field(
        description="several: the picture seems to have more than one digit: ask with `read=number`; "
        "unfamiliar: it is like none that the model was trained on"
    )
    count: int | None = Field(default=None, description="of several: digits that were seen")
    detail: str = Field(description="what that means, and what to do")


class PredictionBody(BaseModel):
    """The answer of a model for one image."""

    id: str | None = Field(
        default=None, description="names the prediction for `POST /feedback`; only where MINIST_FEEDBACK is on"
    )
    model: str = Field(description="model that answered")
    version: int = Field(description="its version")
    label: str = Field(description="most probable class")
    index: int = Field(description="position of that class, from 0")
    probability: float = Field(description="its probability, 0..1")
    probabilities: dict[str, float] = Field(description="of every class, in class order; they sum to 1")
    input: InputBody | None = Field(
        default=None, description="with preprocess=auto: what was done to the picture; not for arrays"
    )
    novelty: float | None = Field(
        default=None,
        description="of pictures: how far this one is from those that the model was trained on, as the share "
        "of pictures held out in training that are less unusual, 0..1; left out where that was not measured",
    )
    warning: AnswerWarning | None = Field(
        default=None, description="why the answer may not be the one that was wanted; else left out"
    )
    seen: str | None = Field(default=None, description="with explain: what the model saw, a PNG as data URL")
    saliency: str | None = Field(
        default=None, description="with explain: how much each pixel counts for the answer, a PNG as data URL"
    )
    overlay: str | None = Field(
        default=None,
        description="with explain: the picture with what counted for the answer in orange, and what counted "
        "against it in blue, a PNG as data URL (occlusion)",
    )
    contributions: dict[str, float] | None = Field(
        default=None,
        description="with explain, of a row: how much each column moves the logit of the answer away from "
        "that of a typical row (integrated gradients); they sum to the difference",
    )
    typical: dict[str, Any] | None = Field(
        default=None, description="with explain: that typical row; medians and most frequent categories"
    )

    model_config = {"json_schema_extra": {"examples": [EXAMPLE]}}


class DigitBody(BaseModel):
    """One digit of a number."""

    id: str | None = Field(
        default=None, description="names it for `POST /feedback`; only where MINIST_FEEDBACK is on"
    )
    label: str = Field(description="most probable class")
    index: int = Field(description="position of that class, from 0")
    probability: float = Field(description="its probability, 0..1")
    box: tuple[int, int, int, int] = Field(
        description="x and y of its upper left corner, width and height, in pixels of the picture as it is "
        "shown (its EXIF rotation undone)"
    )
    novelty: float | None = Field(
        default=None, description="share of pictures held out in training that are less unusual, 0..1"
    )
    line: int = Field(description="the line that it stands in, from 0")


class NumberBody(BaseModel):
    """The answer of a model for all digits of one picture (`read=number`)."""

    model: str = Field(description="model that answered")
    version: int = Field(description="its version")
    number: str = Field(description="all digits in reading order; lines are separated by newlines")
    lines: list[str] = Field(description="the digits of each line, from top to bottom")
    probability: float = Field(description="that all digits are right, if they are independent: the product")
    digits: list[DigitBody] = Field(description="each digit, in reading order")
    input: InputBody | None = Field(default=None, description="what was done to the picture")

    model_config = {"json_schema_extra": {"examples": [NUMBER_EXAMPLE]}}


class ModelSummary(BaseModel):
    """A served model in one line."""

    name: str
    version: int
    default: bool = Field(description="whether it answers requests that name no model")
    architecture: str
    dataset: str | None
    accuracy: float | None = Field(description="on the test set, 0..1")
    parameters: int
    classes: list[str]
    input: Literal["picture", "table"] = Field(description="what it takes: pictures, or the rows of a table")


class Info(BaseModel):
    """What runs here."""

    version: str = Field(description="of minist")
    torch: str
    device: str
    threads: int = Field(description="CPU threads of one forward pass")
    workers: int = Field(description="processes that answer requests")
    training_workers: int = Field(description="processes that take training jobs; 0: jobs wait")
    cpu_quota: float = Field(description="CPUs that the container may use, of all workers together")
    open_predict: bool = Field(description="whether predictions and reading need no key")
    max_dataset_bytes: int = Field(description="of a file that `POST /datasets` takes")
    max_weights_bytes: int = Field(description="of a file that `POST /models/{name}/versions` takes")
    default_model: str
    models: list[str]


class Status(BaseModel):
    """A probe's answer."""

    status: str = Field(examples=["ok"])


class DegradedBody(BaseModel):
    """A name whose version cannot be loaded."""

    name: str
    version: int = Field(description="that it means")
    serving: int | None = Field(description="that answers instead; 0 is the file that came with the service")
    reason: str


class Readiness(Status):
    """Whether predictions can be answered, and which not as they should."""

    degraded: list[DegradedBody]
    training_workers: int = Field(description="processes that take training jobs; 0: jobs wait")
    warnings: list[str] = Field(
        description="what does not work though predictions do, as while no database answers"
    )


def explanation_fields(explanation: Explanation) -> dict[str, str]:
    """The fields that `explain` adds."""
    return {
        "seen": data_url(explanation.seen),
        "saliency": data_url(explanation.saliency),
        "overlay": data_url(explanation.overlay),
    }


def to_json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
