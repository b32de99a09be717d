"""What is served: models, versions, aliases, corrections."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from minist_client.answers import Alias, Correction, ModelInfo, Prediction, Version, model_of, read
from minist_client.errors import UnusableInput
from minist_client.steps import Call, Plan, ask, json_body, work

Format = Literal["pth", "safetensors", "card", "zip", "onnx"]


def models() -> Plan[list[ModelInfo]]:
    """Every model that answers by its bare name."""
    return (yield from ask(Call("GET", "/models", lambda found: [read(ModelInfo, one) for one in found])))


def model(name: str) -> Plan[ModelInfo]:
    """A model with its card; `name` may choose a version: `NAME@3`, `NAME@ALIAS`."""
    return (yield from ask(Call("GET", _path(name), partial(model_of, name))))


def schema(name: str) -> Plan[dict[str, Any]]:
    """A JSON Schema of what a model takes; of a model of a table, of its row, with an example."""
    return (yield from ask(Call("GET", f"{_path(name)}/schema", dict)))


def versions(name: str) -> Plan[list[Version]]:
    """The versions of a model, newest first."""
    read_all = lambda found: [read(Version, one) for one in found]  # noqa: E731
    return (yield from ask(Call("GET", f"{_path(name)}/versions", read_all)))


def promote(name: str, version: int, alias: str = "production", why: str = "") -> Plan[Alias]:
    """Point an alias at a version; `production` is what the bare name serves."""
    path, body = f"{_path(name)}/aliases/{quote(alias, safe='')}", json_body({"version": version, "why": why})
    return (yield from ask(Call("PUT", path, partial(read, Alias), body=body)))


def rollback(name: str, why: str = "") -> Plan[Alias]:
    """Point `production` at what it pointed at before."""
    call = Call(
        "POST", f"{_path(name)}/rollback", partial(read, Alias), body=json_body({"why": why}), repeatable=False
    )
    return (yield from ask(call))


def export(name: str, format: Format = "zip", to: str | os.PathLike[str] | None = None) -> Plan[bytes]:
    """A version as a file for other programs; written to the path `to`, too, where that is said."""
    found = yield from ask(Call("GET", f"{_path(name)}/export", bytes, {"format": format}, raw=True))
    if to is not None:
        yield from work(partial(Path(to).write_bytes, found))
    return found


def feedback(prediction: Prediction | str, label: str) -> Plan[Correction]:
    """Say the right label of a prediction, within the hour. Said again it replaces the one before."""
    id = prediction.id if isinstance(prediction, Prediction) else prediction
    if id is None:
        raise UnusableInput(
            "the prediction has no id to correct it by: answers of predict have one where the service "
            "runs with MINIST_FEEDBACK=true"
        )
    body = json_body({"prediction": id, "label": label})
    return (yield from ask(Call("POST", "/feedback", partial(read, Correction), body=body)))


def _path(name: str) -> str:
    return f"/models/{quote(name, safe='')}"
