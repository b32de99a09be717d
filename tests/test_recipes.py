"""Every recipe, on the full data, against the reference that its source reached."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from models.card import Card
from training import regression
from training.recipes import RECIPES
from training.run import Run, train

pytestmark = pytest.mark.full_data


@dataclass(frozen=True)
class Reference:
    """One measured run of a source, seed 0, trained on all 60,000 images: test accuracy, train loss."""

    recipe: str
    accuracy: float
    loss: float | None = None
    tolerance: float = 0.005  # half the width of what another seed or machine makes of it
    options: dict[str, Any] = field(default_factory=dict)


REFERENCES = [  # behind each what ours reaches with seed 0, and the CPU seconds of its epochs
    Reference("softmax-scratch", 0.82),
    Reference("softmax", 0.824, loss=0.485),
    Reference("mlp-scratch", 0.840, loss=0.370),
    Reference("softmax-mnist", 0.913),
    Reference("softmax-mnist", 0.9245, options={"loss": "double-softmax"}),
    Reference("mlp", 0.980),
    Reference("cnn", 0.990),
    Reference("mlp-adam", 0.979),
]


def finished(reference: Reference, directory: Path, data: Path) -> tuple[Card, float]:
    """The card of a run with nothing held out, as the references were, and its last training loss."""
    config = RECIPES[reference.recipe].config(validation=0, **reference.options)
    run = Run.create(directory / "run", config)
    card = train(run, data, torch.device("cpu"), lambda event: None)
    return card, run.history()[-1].train_loss


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda r: "-".join([r.recipe, *r.options.values()]))
def test_a_recipe_reaches_its_reference(reference: Reference, tmp_path: Path, full_data: Path) -> None:
    card, loss = finished(reference, tmp_path, full_data)
    assert card.metrics["test"].accuracy >= reference.accuracy - reference.tolerance
    if reference.loss is not None:
        assert loss == pytest.approx(reference.loss, abs=0.01)


def test_linear_regression_recovers_weights_and_bias(tmp_path: Path) -> None:
    regression.create(tmp_path, regression.Config())
    assert regression.train(tmp_path, lambda epoch: None).error < 0.01


def test_every_recipe_has_a_reference() -> None:
    assert {reference.recipe for reference in REFERENCES} == set(RECIPES)
