"""What is served."""

from fastapi import APIRouter

from app import problems
from app.registry import Served
from app.schemas import ModelSummary
from app.state import RegistryOf
from models.card import Card

router = APIRouter(tags=["models"])


@router.get("/models", summary="List the models")
async def list_models(registry: RegistryOf) -> list[ModelSummary]:
    """Every model that can be asked, with its accuracy on its test set."""
    return [_summary(served, served.name == registry.default) for served in registry.models.values()]


@router.get(
    "/models/{name}", summary="Show a model's card", responses=problems.responses(problems.UnknownModel)
)
async def show_model(name: str, registry: RegistryOf) -> Card:
    """All that is known of a model: layers, input, classes, training, data set, metrics, digest."""
    return registry[name].classifier.card


def _summary(served: Served, default: bool) -> ModelSummary:
    card = served.classifier.card
    test = card.metrics.get("test")
    return ModelSummary(
        name=served.name,
        version=served.version,
        default=default,
        architecture=card.architecture,
        dataset=card.dataset.name if card.dataset else None,
        accuracy=test.accuracy if test else None,
        parameters=card.parameters,
        classes=list(card.classes),
    )
