"""Checkpoints on disk: `<name>.pth`, a plain state_dict, and its card `<name>.json`.

The `.pth` loads into the tutorial's own class with `torch.load` and `load_state_dict`.
"""

import hashlib
import io
from pathlib import Path

import torch
from torch import nn

from models.architectures import StateDict, build
from models.card import Card, read_card
from models.errors import CheckpointError
from models.files import write_atomically


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
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "torch": torch.__version__,
        }
    )
    write_atomically(directory / f"{card.name}.pth", data)
    write_atomically(directory / f"{card.name}.json", card.model_dump_json(indent=2).encode() + b"\n")
    return card


def load(path: Path, device: torch.device) -> tuple[nn.Module, Card]:
    """The model, in evaluation mode on `device`, and the card of the weights file at `path`.

    Raises CheckpointError, naming the file, for a missing file or card, a digest that differs,
    or weights that do not fit the architecture.
    """
    card = read_card(path.with_suffix(".json"))
    data = _read(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise CheckpointError(
            f"{path}: its sha256 is {digest[:12]}.., its card says {card.sha256[:12]}..: "
            "one of the two was changed or damaged; put back the pair that was saved together"
        )
    model = build(card.architecture, **card.arguments)
    weights = _parse(path, data)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: not the weights of {card.architecture!r}: {error}") from error
    return model.to(device).eval().requires_grad_(False), card


def read_weights(path: Path) -> StateDict:
    """The bare state_dict of any `.pth`, also of one without a card. Raises CheckpointError."""
    return _parse(path, _read(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def _parse(path: Path, data: bytes) -> StateDict:
    try:
        weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its zip reader or unpickler meets
        raise CheckpointError(f"{path}: not a state_dict written by torch.save ({error})") from error
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(f"{path}: holds no state_dict; save model.state_dict(), not the whole model")
    return weights
