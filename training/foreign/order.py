"""What a sender says of the weights. Without torch: the service checks requests against it."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.card import MAX_SIDE, Card, Input, Polarity, Preprocessing, Resize, Shape
from models.layers import ActivationKind
from models.tables import TableInput

MAX_CLASSES = 10_000


class Order(BaseModel):
    """The card that comes with weights; what is left out is told from the layers, or from the data set."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    classes: tuple[str, ...] | None = Field(
        default=None, max_length=MAX_CLASSES, description="labels in the order of the logits"
    )
    channels: Literal[1, 3] | None = Field(default=None, description="1: grey, 3: red, green, blue")
    height: int | None = Field(default=None, ge=1, le=MAX_SIDE, description="of the input, in pixels")
    width: int | None = Field(default=None, ge=1, le=MAX_SIDE, description="of the input, in pixels")
    mean: tuple[float, ...] | None = Field(
        default=None, description="of each channel: subtracted from pixels scaled to 0..1"
    )
    std: tuple[float, ...] | None = Field(default=None, description="of each channel: divides the difference")
    preprocessing: Preprocessing | None = Field(default=None, description="`digit`, `size` or `picture`")
    resize: Resize | None = Field(default=None, description="of `picture`: `stretch` or `pad`")
    polarity: Polarity | None = Field(default=None, description="`light-on-dark` or `dark-on-light`")
    temperature: float | None = Field(default=None, gt=0, description="divides the logits before softmax")
    activation: ActivationKind | None = Field(
        default=None, description="between the layers, which weights do not tell"
    )
    architecture: str | None = Field(default=None, max_length=64, description="name of the layers")
    arguments: dict[str, Any] | None = Field(
        default=None, description="of the architecture; of `sequential` the list `layers`"
    )
    table: TableInput | None = Field(default=None, description="columns, of a model of a table")

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, given: Any) -> Any:
        """A whole card, as an export has it, says the same in other places; a number is of every channel."""
        if not isinstance(given, dict):
            return given
        if "input" in given and "architecture" in given:
            return _of_card(Card.model_validate(given))
        fields = dict(given)
        for name in ("size", "input_size"):
            if name in fields:
                side = fields.pop(name)
                both = side if isinstance(side, list | tuple) and len(side) == 2 else (side, side)
                fields = {"height": both[0], "width": both[1], **fields}
        if "input_shape" in fields:
            shape = fields.pop("input_shape")
            if not isinstance(shape, list | tuple) or len(shape) != 3:
                raise ValueError("input_shape is [channels, height, width]")
            fields = {**dict(zip(("channels", "height", "width"), shape, strict=True)), **fields}
        for name in ("mean", "std"):
            if isinstance(fields.get(name), int | float):
                fields[name] = (fields[name],) * (3 if fields.get("channels") == 3 else 1)
        return fields

    @model_validator(mode="after")
    def _belong_together(self) -> "Order":
        if self.classes is not None and (len(self.classes) < 2 or len(set(self.classes)) < len(self.classes)):
            raise ValueError("classes are at least two names, all different")
        if self.classes is not None and any(not 1 <= len(name) <= 200 for name in self.classes):
            raise ValueError("names of classes have 1 to 200 characters")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together")
        if self.std is not None and min(self.std, default=0) <= 0:
            raise ValueError("std is positive")
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width go together")
        return self

    def shape(self, channels: int | None = None) -> Shape | None:
        """Channels, height, width, where they are said; `channels` where only the size is."""
        known = self.channels or channels
        if self.height is None or self.width is None or known is None:
            return None
        return (known, self.height, self.width)


def _of_card(card: Card) -> dict[str, Any]:
    """Of a card what tells how the weights are used. Its figures count for nothing here: nobody has checked
    them."""
    said: dict[str, Any] = {
        "classes": card.classes,
        "architecture": card.architecture,
        "arguments": card.arguments,
        "temperature": card.temperature,
    }
    if isinstance(card.input, Input):
        return {**said, **card.input.model_dump()}
    return {**said, "table": card.input}


def check_order(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is said, checked, as JSON. Raises pydantic.ValidationError, naming the fields."""
    return Order.model_validate(dict(given)).model_dump(mode="json", exclude_none=True)
