"""What reading collects of pictures, beside their pixels, which go to disk."""

from collections import Counter
from dataclasses import dataclass, field

from training.importing import dataset
from training.importing.layout import Split


@dataclass
class Found:
    """Row by row."""

    labels: list[str] = field(default_factory=list)
    splits: list[Split | None] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    looks: list[bytes] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    bad: list[dataset.BadFile] = field(default_factory=list)
    ignored: dict[str, tuple[str, ...]] = field(default_factory=dict)
    empty_classes: tuple[str, ...] = ()
    encodings: dict[str, int] = field(default_factory=dict)
    coloured: bool = False
    large: int | None = None  # side of larger copies
