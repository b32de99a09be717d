"""The command `minist inspect`: what a file of your own pictures would be as a data set."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from training.errors import DatasetError
from training.importing.dataset import PROFILE, Options, Profile
from training.importing.importer import import_file


def run(arguments: Sequence[str]) -> int:
    """Print the profile; the status."""
    parser = argparse.ArgumentParser(
        prog="minist inspect",
        description="Read a zip of class folders, an npz file or a zip of idx files as a data set, "
        "and show what is in it: classes, splits, sizes, duplicates, bad files. Nothing is kept without --out.",
    )
    parser.add_argument("file", type=Path, help="photos.zip, or data.npz")
    parser.add_argument("--out", type=Path, help="empty or new folder for the data set and its profile.json")
    parser.add_argument("--size", type=int, help="side of the pictures in pixels (default: by the data)")
    parser.add_argument("--json", action="store_true", help="print the whole profile as JSON")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            profile = read_file(options.file, options.out or Path(temporary), Options(size=options.size))
    except DatasetError as error:
        Console(stderr=True, highlight=False).print(f"error: {error}", markup=False, soft_wrap=True)
        return 1
    if options.json:
        print(profile.model_dump_json(indent=2))  # noqa: T201
    else:
        show(profile)
    if options.out:
        console.print(f"wrote {options.out}: images.npy, rows.npz, names.json, {PROFILE}", markup=False)
    return 0


def read_file(source: Path, directory: Path, options: Options) -> Profile:
    """Import a file into an empty or new folder, with a progress bar. Raises DatasetError."""
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise DatasetError(f"{directory} is not empty: name another folder by --out")
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"reading {source.name}", total=None)
        return import_file(
            source, directory, options, lambda done, of: progress.update(task, completed=done, total=of or None)
        ).profile


def show(profile: Profile) -> None:
    """Print what was found."""
    console = Console(highlight=False, soft_wrap=True)
    colour = "colour" if profile.channels == 3 else "grey"
    console.print(
        f"{profile.images:,} {colour} pictures in {len(profile.classes)} classes, "
        f"read as {profile.width}x{profile.height}"
    )
    table = Table("class", *(f"{split}" for split in ("train", "validation", "test")), box=None)
    for label, counts in profile.counts.items():
        table.add_row(label, *(f"{number:,}" for number in counts.values()))
    console.print(table)
    given = ", ".join(profile.given_splits) or "none"
    sizes = ", ".join(f"{size} ({number:,})" for size, number in profile.sizes.items())
    console.print(
        f"splits of the file: {given}; the others were drawn from train\nsizes: {sizes}", markup=False
    )
    for reason, listed in profile.ignored.items():
        console.print(f"ignored, {reason}: {listed.count:,} (such as {listed.paths[0]})", markup=False)
    for bad in profile.bad_files:
        console.print(f"left out: {bad.path}: {bad.reason}", markup=False)
    for warning in profile.warnings:
        console.print(f"warning: {warning.what}: {warning.hint}", markup=False)
