"""The models that are served, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from app.problems import UnknownModel
from models.classifier import Classifier
from models.errors import CheckpointError

SHIPPED = Path(__file__).parent.parent / "models" / "weights"


@dataclass(frozen=True)
class Served:
    """One version of a model, ready to be asked."""

    name: str
    version: int
    classifier: Classifier


@dataclass(frozen=True)
class Registry:
    """Which classifier answers for which name, and which where none is named."""

    default: str
    models: Mapping[str, Served]

    @classmethod
    def load(cls, default: str, device: torch.device, directory: Path = SHIPPED) -> "Registry":
        """All checkpoints of a directory, as version 1. Raises CheckpointError."""
        paths = find(default, directory)
        return cls(
            default, {name: Served(name, 1, Classifier.load(path, device)) for name, path in paths.items()}
        )

    def __getitem__(self, name: str | None) -> Served:
        """The model of that name (None: the default). Raises UnknownModel."""
        try:
            return self.models[self.default if name is None else name]
        except KeyError:
            raise UnknownModel(
                f"there is no model {name!r}", f"ask for one of {', '.join(self.models)}"
            ) from None


def find(default: str, directory: Path = SHIPPED) -> Mapping[str, Path]:
    """The weights files of a directory, by name. Raises CheckpointError where `default` is not among them."""
    paths = {path.stem: path for path in sorted(directory.glob("*.pth"))}
    if default not in paths:
        known = ", ".join(paths)
        raise CheckpointError(
            f"there is no default model {default!r}: set MINIST_DEFAULT_MODEL to one of {known}"
        )
    return paths
