"""An imported data set on disk: one directory, written once. Of pictures:

images.npy     uint8 [N, channels, height, width]      profile.json   what was found, the digest, the options
rows.npz       label, split and group of each picture  names.json     the path of each picture in its source

Of a table (`training.importing.tables`):

table.npy      float32 [N, width]           rows.csv       the rows as they came, with their split
rows.npz       as above                     samples.json   some of them
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from models.imported import open_images, read_rows
from training.importing.facts import SHOWN, Facts, Warned
from training.importing.tables.facts import TableDraft, TableOptions
from training.importing.tables.facts import TableProfile as TableProfile  # for training, too

NAMES, PROFILE = "names.json", "profile.json"


class Options(Facts):
    """What a person may decide about an import of pictures."""

    size: int | None = Field(default=None, ge=8, le=224, description="side in pixels; none: by the data")
    resize: Literal["auto", "stretch", "pad"] = Field(
        default="auto", description="pad keeps the aspect; auto pads where the pictures' shapes differ"
    )
    test_share: float = Field(default=0.2, gt=0, lt=0.9, description="of a data set without a test split")
    validation_share: float = Field(default=0.15, gt=0, lt=0.9, description="of what is not test")
    seed: int = Field(default=0, ge=0, lt=2**32, description="of the splits")
    drop: tuple[str, ...] = Field(default=(), description="classes to leave out")
    rename: dict[str, str] = Field(default={}, description="classes by their new names; equal names merge")
    group_pattern: str | None = Field(
        default=None,
        max_length=200,
        description="regular expression on paths; pictures with the same first group stay on one side",
    )


class Listed(Facts):
    """Some paths, and how many there are in all."""

    count: int
    paths: tuple[str, ...] = Field(description=f"the first {SHOWN}")


class BadFile(Facts):
    """A file that could not become a picture."""

    path: str
    reason: str


class ImageProfile(Facts):
    """What an import of pictures found."""

    kind: Literal["images"] = "images"
    digest: str = Field(description="sha256 over images, labels and splits")
    source_digest: str = Field(description="sha256 of the file that was imported")
    options: Options
    images: int
    channels: int
    height: int
    width: int
    resize: Literal["stretch", "pad"]
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]] = Field(description="by class, then split")
    given_splits: tuple[str, ...] = Field(description="splits that the source has; the others were cut here")
    sizes: dict[str, int] = Field(description="the most frequent sizes of the pictures as they came")
    modes: dict[str, int] = Field(description="Pillow's modes of the pictures as they came")
    ignored: dict[str, Listed] = Field(description="by reason")
    bad_files: tuple[BadFile, ...] = Field(description=f"the first {SHOWN}")
    bad_count: int
    duplicates: int = Field(description="pictures that equal an earlier one, pixel by pixel")
    near_duplicates: int = Field(description="pictures that look like an earlier one")
    conflicts: tuple[tuple[str, ...], ...] = Field(description="the same picture under several classes: paths")
    conflict_count: int
    warnings: tuple[Warned, ...]


Profile = Annotated[ImageProfile | TableProfile | TableDraft, Field(discriminator="kind")]
_PROFILE: TypeAdapter[ImageProfile | TableProfile | TableDraft] = TypeAdapter(Profile)


def read_profile(directory: Path) -> ImageProfile | TableProfile | TableDraft:
    """What an import left in a directory. Raises OSError or ValueError."""
    return _PROFILE.validate_json((directory / PROFILE).read_bytes())


def options_of(said: Mapping[str, Any]) -> Options | TableOptions:
    """Those of a table where they say so by their `kind`, else of pictures. Raises pydantic.ValidationError."""
    return TableOptions.model_validate(said) if said.get("kind") == "table" else Options.model_validate(said)


def as_table(options: Options) -> TableOptions:
    """What was said before it was known that the file holds a table."""
    return TableOptions(**{name: getattr(options, name) for name in SHARED})


SHARED = ("test_share", "validation_share", "seed", "drop", "rename")  # options that both kinds have


class Imported:
    """A data set directory of pictures, read only; the images are mapped, not loaded."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError, or ValueError where it holds something else."""
        self.directory = directory
        self.profile = ImageProfile.model_validate_json((directory / PROFILE).read_bytes())
        self.images: NDArray[np.uint8] = open_images(directory)
        self.labels, self.splits, self.groups = read_rows(directory)

    def names(self) -> list[str]:
        found: Any = json.loads((self.directory / NAMES).read_bytes())
        return list(found)
