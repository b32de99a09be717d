"""The command `minist inspect`: what a file of your own pictures would be as a data set."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from models.arguments import Parser
from training.errors import DatasetError
from training.importing.dataset import PROFILE, ImageProfile, Imported, Options
from training.importing.importer import import_any
from training.importing.tables.facts import TableDraft, TableOptions, TableProfile


def run(arguments: Sequence[str]) -> int:
    """Print the profile; the status."""
    parser = Parser(
        prog="minist inspect",
        description="Read a zip of class folders, an npz file, a zip of idx files, a CSV or parquet file as a "
        "data set, and show what is in it: classes, splits, sizes or columns, duplicates, what is bad. "
        "Nothing is kept without --out.",
    )
    parser.add_argument("file", type=Path, help="photos.zip, data.npz, or table.csv")
    parser.add_argument("--out", type=Path, help="empty or new folder for the data set and its profile.json")
    parser.add_argument("--size", type=int, help="side of the pictures in pixels (default: by the data)")
    parser.add_argument("--target", help="of a table: the column with the class")
    parser.add_argument("--json", action="store_true", help="print the whole profile as JSON")
    options = parser.parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            wanted = options_for(options.target, options.size)
            profile = read_file(options.file, options.out or Path(temporary), wanted)
    except DatasetError as error:
        Console(stderr=True, highlight=False).print(f"error: {error}", markup=False, soft_wrap=True)
        return 1
    if options.json:
        print(profile.model_dump_json(indent=2))  # noqa: T201
    else:
        show(profile)
    if options.out:
        console.print(f"wrote {options.out}: {PROFILE} and what it is of", markup=False)
    return 0


def options_for(target: str | None, size: int | None) -> Options | TableOptions:
    """Those of a table where a target was said. Raises DatasetError where both were."""
    if target is None:
        return Options(size=size)
    if size is not None:
        raise DatasetError("a target is of a table, and a size of pictures: say one of them")
    return TableOptions(target=target)


def read_file(
    source: Path, directory: Path, options: Options | TableOptions
) -> ImageProfile | TableProfile | TableDraft:
    """Import a file into an empty or new folder, with a progress bar. Raises DatasetError."""
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise DatasetError(f"{directory} is not empty: name another folder by --out")
    with Progress(transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"reading {source.name}", total=None)
        found = import_any(
            source, directory, options, lambda done, of: progress.update(task, completed=done, total=of or None)
        )
    return found.profile if isinstance(found, Imported) else found


def show(profile: ImageProfile | TableProfile | TableDraft) -> None:
    """Print what was found."""
    console = Console(highlight=False, soft_wrap=True)
    if isinstance(profile, ImageProfile):
        _show_pictures(profile, console)
    else:
        _show_table(profile, console)
    for warning in profile.warnings:
        console.print(f"warning: {warning.what}: {warning.hint}", markup=False)


def _show_pictures(profile: ImageProfile, console: Console) -> None:
    colour = "colour" if profile.channels == 3 else "grey"
    console.print(
        f"{profile.images:,} {colour} pictures in {len(profile.classes)} classes, "
        f"read as {profile.width}x{profile.height}"
    )
    console.print(_classes(profile.counts))
    given = ", ".join(profile.given_splits) or "none"
    sizes = ", ".join(f"{size} ({number:,})" for size, number in profile.sizes.items())
    console.print(
        f"splits of the file: {given}; the others were drawn from train\nsizes: {sizes}", markup=False
    )
    for reason, listed in profile.ignored.items():
        console.print(f"ignored, {reason}: {listed.count:,} (such as {listed.paths[0]})", markup=False)
    for bad in profile.bad_files:
        console.print(f"left out: {bad.path}: {bad.reason}", markup=False)


def _classes(counts: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table("class", "train", "validation", "test", box=None)
    for label, by_split in counts.items():
        table.add_row(Text(label), *(f"{number:,}" for number in by_split.values()))
    return table


def _show_table(profile: TableProfile | TableDraft, console: Console) -> None:
    for file in profile.files:
        how = f"{file.format} {file.encoding or ''} {file.separator!r}" if file.separator else file.format
        console.print(f"{file.name}: {file.rows:,} rows, {how}", markup=False)
    table = Table("column", "role", "missing", "distinct", "tells of the target", "such as", box=None)
    for column in profile.columns:
        role = column.role if column.used or column.role == "target" else f"{column.role}, left out"
        told = "" if column.association is None else f"{column.association:.2f}"
        some = ", ".join(column.examples[:3])[:40]
        numbers = f"{column.missing:,}", f"{column.distinct:,}"
        table.add_row(Text(column.name), role, *numbers, told, Text(some))
    console.print(table)
    if isinstance(profile, TableProfile):
        console.print(_classes(profile.counts))
    else:
        console.print("Which column is the class? Say it by --target.", markup=False)
        for proposal in profile.proposals:
            console.print(f"  {proposal.column}: {proposal.why}", markup=False)
    for bad in profile.bad_rows[:10]:
        console.print(f"left out: line {bad.line} of {bad.file}: {bad.reason}", markup=False)
