"""What a model takes, as JSON Schema: of a table a row, of pictures an object with the image."""

from typing import Any

from models.card import Card, Input
from models.tables import ISO, Column, TableInput

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SHOWN = 100  # categories of a column; there may be thousands


def schema_of(name: str, card: Card) -> dict[str, Any]:
    """The schema of the JSON that `POST /predict?model=NAME` takes."""
    if isinstance(card.input, TableInput):
        return row_schema(name, card.input)
    return _picture_schema(name, card.input)


def row_schema(name: str, spec: TableInput, shown: int = SHOWN) -> dict[str, Any]:
    """Of one row. Ranges and categories are those of the training rows: others are answered too."""
    ignored = {"description": "may be sent, and is not used"}
    return {
        "$schema": DIALECT,
        "title": f"A row for {name}",
        "description": f"What {name} tells {spec.target} from. null: the value is missing.",
        "type": "object",
        "properties": {
            **{column.name: _column(column, shown) for column in spec.columns},
            **dict.fromkeys(sorted(spec.accepted), ignored),
        },
        "required": [column.name for column in spec.columns],
        "additionalProperties": False,
        "examples": [example_row(spec)],
    }


def example_row(spec: TableInput) -> dict[str, str | float | int | bool | None]:
    """A row as one may send it."""
    return {column.name: _example(column) for column in spec.columns}


def _example(column: Column) -> str | float | int | bool | None:
    if column.example is None and column.categories:
        return column.categories[0]
    return column.example


def _column(column: Column, shown: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": ["string", "number", "boolean", "null"], "x-role": column.role}
    if column.role in ("numeric", "date"):
        found["type"] = ["number", "string", "null"] if column.role == "numeric" else ["string", "null"]
    if column.role == "date" and column.date_format == ISO:
        found["format"] = "date"  # an annotation: a time may follow
    found["description"] = _description(column)
    if column.role == "numeric":
        bounds = {"x-minimum": column.minimum, "x-maximum": column.maximum}
        found |= {key: float(f"{bound:.6g}") for key, bound in bounds.items() if bound is not None}
    examples: list[object] = [*column.categories[:shown]] or [_example(column)]
    found["examples"] = [value for value in examples if value is not None]
    return found


def _description(column: Column) -> str:
    if column.role == "numeric":
        if column.minimum is None or column.maximum is None:
            return "a number"
        comma = ", as text with a decimal comma" if column.decimal == "," else ""
        return f"a number{comma}; {column.minimum:g} to {column.maximum:g} in the training rows"
    if column.role in ("date", "boolean"):
        return column.expected
    rest = ", the most frequent of which are the examples" if len(column.categories) > SHOWN else ""
    return f"one of {len(column.categories)} texts{rest}; any other counts as not seen"


def _picture_schema(name: str, taken: Input) -> dict[str, Any]:
    kind = "grey" if taken.channels == 1 else "colour"
    said = f"a PNG, JPEG, BMP, GIF or WebP file in base64, or as a data URL; it becomes {kind} pixels"
    return {
        "$schema": DIALECT,
        "title": f"A picture for {name}",
        "description": "Files can also be sent as they are: see POST /predict.",
        "type": "object",
        "properties": {
            "image": {
                "type": "string",
                "contentEncoding": "base64",
                "description": f"{said}, {taken.width}x{taken.height}",
            },
            "model": {"type": "string", "const": name},
            "preprocess": {"enum": ["auto", "none"]},
            "explain": {"type": "boolean"},
        },
        "required": ["image"],
        "additionalProperties": False,
    }
