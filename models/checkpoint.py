"""Checkpoints on disk: `<name>.pth`, a plain state_dict, and its card `<name>.json`.

The `.pth` loads into the tutorial's own class with `torch.load` and `load_state_dict`.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models import state_dicts
from models.architectures import TABLES, build, identify
from models.card import Card, read_card
from models.errors import CheckpointError, ModelError
from models.files import write_atomically
from models.graphs.module import Graph
from models.state_dicts import StateDict
from models.tables import TableInput
from models.weights_file import read_file


def save(model: nn.Module, card: Card, directory: Path) -> Card:
    """Write `<card.name>.pth` and `<card.name>.json`; returns the card with the weights' digest.

    Each file is written atomically, weights first; after a crash in between, the digest fails at loading.
    """
    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    data = buffer.getvalue()
    card = card.model_copy(
        update={
            "sha256": hashlib.sha256(data).hexdigest(),
            "parameters": parameters_of(model),
            "torch": torch.__version__,
        }
    )
    write_atomically(directory / f"{card.name}.pth", data)
    write_atomically(directory / f"{card.name}.json", card.model_dump_json(indent=2).encode() + b"\n")
    return card


def parameters_of(model: nn.Module) -> int:
    """How many numbers were learned."""
    if isinstance(model, Graph):
        return model.learned
    return sum(parameter.numel() for parameter in model.parameters())


def load(path: Path, device: torch.device) -> tuple[nn.Module, Card]:
    """The model, in evaluation mode on `device`, and the card of the weights file at `path`.

    Raises CheckpointError, naming the file, for a missing file or card, a digest that differs,
    or weights that do not match the architecture or are not finite.
    """
    card = read_card(path.with_suffix(".json"))
    data = read_file(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise CheckpointError(
            f"{path}: its sha256 is {digest[:12]}.., its card says {card.sha256[:12]}..: "
            "one of the two was changed or damaged; put back the pair that was saved together"
        )
    with _naming(path):
        _check_columns(card)
        model = build_with(card.architecture, card.arguments, state_dicts.parse(data))
    return model.to(device).eval().requires_grad_(False), card


def load_bare(path: Path) -> tuple[nn.Module, str, dict[str, Any]]:
    """The model in a weights file without a card, and the name and arguments of its architecture, found by the
    names and shapes of its layers. Raises CheckpointError, naming the file.
    """
    with _naming(path):
        weights = state_dicts.parse(read_file(path))
        architecture, arguments = identify(weights)
        return build_with(architecture, arguments, weights), architecture, arguments


def load_into(model: nn.Module, path: Path) -> None:
    """Replace the weights of a model by those in a file. Raises CheckpointError, naming the file.

    A background that only one of the two has, or that sees something else, is left as it is.
    """
    with _naming(path):
        weights, expected = state_dicts.parse(read_file(path)), model.state_dict()
        both = _background(weights) == _background(expected)
        parts = (weights, expected) if both else map(_without_background, (weights, expected))
        model.load_state_dict(state_dicts.match(*parts), strict=both)


def _background(weights: StateDict) -> dict[str, torch.Size]:
    """The shapes of its weights, common prefixes apart."""
    return {
        name[at:]: tensor.shape for name, tensor in weights.items() if (at := name.find("background.")) >= 0
    }


def _without_background(weights: StateDict) -> StateDict:
    return {name: tensor for name, tensor in weights.items() if "background." not in name}


def _check_columns(card: Card) -> None:
    """A network of a table takes the columns on its card, and nothing else does."""
    if isinstance(card.input, TableInput) != (card.architecture in TABLES):
        raise CheckpointError(f"its card describes another input than architecture {card.architecture!r} takes")
    if isinstance(card.input, TableInput):
        names = ("numeric", "categorical", "sizes")
        found = [card.arguments.get(name) for name in names]
        parts = [list(part) if isinstance(part, list | tuple) else part for part in found]
        if parts != [list(part) for part in card.input.layout]:
            raise CheckpointError("the columns on its card are not those that its architecture takes")


def build_with(architecture: str, arguments: Mapping[str, Any], weights: StateDict) -> nn.Module:
    """A model of that architecture with these weights. Raises ModelError where they do not fit, a sentence
    without the file.
    """
    with torch.device("meta"):  # shapes without numbers: a file may declare any size
        expected = build(architecture, **arguments).state_dict()
    matched = state_dicts.match(weights, expected)
    model = build(architecture, **arguments)
    model.load_state_dict(matched, strict=True)
    return model


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors inside name the file."""
    try:
        yield
    except ModelError as error:
        raise CheckpointError(str(error) if str(error).startswith(f"{path}") else f"{path}: {error}") from error
