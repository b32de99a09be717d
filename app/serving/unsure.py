"""Pictures of which models are least sure: what is worth a look by somebody who knows.

Source: Lewis and Gale, "A sequential algorithm for training text classifiers" (arXiv:cmp-lg/9407020):
uncertainty sampling.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import prod
from typing import NamedTuple

import numpy as np
import torch

from app import errors
from app.serving.registry import Registry
from app.store.feedback import Remembered
from models.errors import GraphFailed
from models.preprocessing.pictures import Pixels, from_planes

SECONDS = 2.0  # of forward passes of a heavy model


class Unsure(NamedTuple):
    """A remembered picture, and what the version that answered says of it."""

    prediction: Remembered
    picture: Pixels
    probability: float
    novelty: float | None
    unfamiliar: bool


def least_sure(registry: Registry, remembered: Sequence[Remembered]) -> list[Unsure]:
    """The pictures among them: first those that are like nothing a model has learned, then by probability.

    The versions are asked again, which takes milliseconds: nothing more is stored of every answer.
    """

    def version(one: Remembered) -> tuple[str, int]:
        return (one.model, one.version)

    found: list[Unsure] = []
    for (model, number), some in groupby(sorted(remembered, key=version), key=version):
        try:
            found += _asked(registry, f"{model}@{number}", list(some))
        except (*errors.MODEL_ERRORS, GraphFailed):
            continue  # deleted, out of service, or away
    return sorted(found, key=lambda one: (not one.unfamiliar, one.probability))


def _asked(registry: Registry, name: str, some: list[Remembered]) -> Iterator[Unsure]:
    served = registry.find(name)
    if served.takes_rows:
        return
    card = served.classifier.card
    shape = card.picture.shape
    some = [one for one in some if len(one.pixels) == prod(shape)]
    if served.heavy_seconds:
        some = some[: max(1, int(SECONDS / served.heavy_seconds))]  # the newest
    if not some:
        return
    pixels = np.frombuffer(b"".join(one.pixels for one in some), np.uint8).reshape(len(some), *shape)
    for one, answer in zip(some, served.classifier.predict(torch.from_numpy(pixels.copy())), strict=True):
        unusual = answer.novelty
        unfamiliar = unusual is not None and card.novelty is not None and unusual > card.novelty.threshold
        yield Unsure(one, from_planes(one.pixels, shape), answer.probability, unusual, unfamiliar)
