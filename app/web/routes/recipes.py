"""What can be trained, and how: for forms and programs."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.jobs.executor import recipes
from app.web.dependencies import MAY_READ

router = APIRouter(tags=["train"])


class FieldBody(BaseModel):
    """A setting that `POST /train` may change."""

    name: str
    type: Literal["integer", "number", "string"]
    default: int | float | str | None = Field(description="of this recipe; null: chosen by the data set")
    minimum: float | None
    maximum: float | None
    exclusive: list[Literal["minimum", "maximum"]] = Field(description="bounds that may not be reached")
    choices: list[str] | None
    description: str | None


class RecipeBody(BaseModel):
    """A recipe, and what `POST /train` accepts for it."""

    name: str
    summary: str
    reference: str = Field(description="published result")
    dataset: str
    trainable: bool = Field(default=True, description="whether `POST /train` takes it")
    settings: dict[str, Any] = Field(description="value of each field")
    fields: list[FieldBody]


@router.get("/recipes", summary="List the recipes", dependencies=[MAY_READ])
def list_recipes() -> list[RecipeBody]:
    """Every recipe with its settings, what each of them means and may be."""
    return [RecipeBody(**recipe) for recipe in recipes()]
