"""A file of one's own, pictures or a table, to a finished run, as `minist train FILE` does it."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.devices import choose_device
from training import run as runs
from training.errors import DatasetError
from training.importing.cli import read_file, show
from training.importing.dataset import ImageProfile, Options, read_profile
from training.importing.tables.facts import TableDraft, TableOptions, TableProfile
from training.progress import Display
from training.recipes import RECIPES
from training.run import Run


def name_of(source: Path) -> str:
    """The file's name as the name of a data set and a model: small letters, digits and hyphens."""
    plain = re.sub(r"[^a-z0-9]+", "-", source.name.lower().split(".")[0]).strip("-")[:64].strip("-")
    return plain or "pictures"


def import_own(source: Path, datasets_dir: Path, name: str, options: Options | TableOptions) -> str:
    """Import a file as the next version of a data set; `NAME@n`. The same content again: the same version.

    Raises DatasetError.
    """
    if not source.is_file():
        raise DatasetError(f"there is no file {source}")
    folder = datasets_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".import-", dir=folder))
    try:
        profile = read_file(source, staged, options)
        show(profile)
        if isinstance(profile, TableDraft):
            raise DatasetError(_which_target(profile))
        versions = {int(path.name): path for path in folder.iterdir() if path.name.isdecimal()}
        for number, directory in sorted(versions.items()):
            if _same(directory, profile):
                return f"{name}@{number}"
        number = max(versions, default=0) + 1
        staged.chmod(0o755)
        staged.rename(folder / str(number))
        return f"{name}@{number}"
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _which_target(draft: TableDraft) -> str:
    names = [proposal.column for proposal in draft.proposals] or [column.name for column in draft.columns[:10]]
    some = ", ".join(f"--target {name!r}" for name in names)
    return f"which column is the class? Say it, such as {some}"


def _same(directory: Path, profile: ImageProfile | TableProfile) -> bool:
    try:
        found = read_profile(directory)
    except (OSError, ValueError):
        return False
    return (found.digest, found.options, found.source_digest) == (
        profile.digest,
        profile.options,
        profile.source_digest,
    )


def train_own(
    dataset: str, datasets_dir: Path, recipe: str, settings: Mapping[str, Any], out: Path, device: str
) -> Run:
    """Train on it. An interrupted run goes on when it is started again. Raises TrainingError."""
    run = Run.create(out, RECIPES[recipe].config(dataset=dataset, **settings))
    with Display() as display:
        display.print(f"{recipe} on {dataset} -> {out}")
        card = runs.train(run, datasets_dir, choose_device(device), display, datasets_dir=datasets_dir)
        test = card.metrics["test"]
        low, high = test.interval or (0, 1)
        display.print(f"test accuracy {test.accuracy:.4f} (95 %: {low:.3f} to {high:.3f})")
        for name, row in card.baselines.items():
            display.print(f"  {name.replace('-', ' ')}: {row.accuracy:.4f}")
    return run
