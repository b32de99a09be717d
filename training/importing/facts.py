"""What every profile of a data set is made of."""

from pydantic import BaseModel, ConfigDict

SHOWN = 50  # entries in a list of a profile; its count says how many there are


class Facts(BaseModel):
    """Frozen, and with no other fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Warned(Facts):
    """Something to know, and what to do about it."""

    what: str
    hint: str
