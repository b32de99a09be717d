"""Wire shapes, and how answers become bytes."""

import json
from typing import Any

from pydantic import BaseModel, Field

EXAMPLE: dict[str, Any] = {
    "model": "minist",
    "version": 1,
    "label": "7",
    "index": 7,
    "probability": 0.9991,
    "probabilities": {str(i): 0.9991 if i == 7 else 0.0001 for i in range(10)},
}


class PredictionBody(BaseModel):
    """What a model says of one image."""

    model: str = Field(description="model that answered")
    version: int = Field(description="its version")
    label: str = Field(description="most probable class")
    index: int = Field(description="position of that class, from 0")
    probability: float = Field(description="its probability, 0..1")
    probabilities: dict[str, float] = Field(description="every class's, in class order; they sum to 1")

    model_config = {"json_schema_extra": {"examples": [EXAMPLE]}}


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


class Info(BaseModel):
    """What runs here."""

    version: str = Field(description="of minist")
    torch: str
    device: str
    threads: int = Field(description="CPU threads of one forward pass")
    workers: int = Field(description="processes that answer requests")
    cpu_quota: float = Field(description="CPUs that the container may use, of all workers together")
    default_model: str
    models: list[str]


class Status(BaseModel):
    """A probe's answer."""

    status: str = Field(examples=["ok"])


def to_json(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
