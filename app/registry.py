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
        paths = sorted(directory.glob("*.pth"))
        models = {path.stem: Served(path.stem, 1, Classifier.load(path, device)) for path in paths}
        if default not in models:
            raise CheckpointError(
                f"the default model {default!r} is not in {directory}: set MINIST_DEFAULT_MODEL to one of "
                + ", ".join(models)
            )
        return cls(default, models)

    def __getitem__(self, name: str | None) -> Served:
        """The model of that name (None: the default). Raises UnknownModel."""
        try:
            return self.models[self.default if name is None else name]
        except KeyError:
            raise UnknownModel(
                f"there is no model {name!r}", f"ask for one of {', '.join(self.models)}"
            ) from None
