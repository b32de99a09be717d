"""`minist datasets`: list, import and delete data sets, with the service or without it."""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from secrets import token_hex

from pydantic import ValidationError

from app.cli.columns import columns
from app.cli.deployment import open_home, read_settings, who
from app.clock import utc
from app.home import Home
from app.jobs.executor import TableDraft, check_options
from app.jobs.imports import DatasetInUse, DatasetNotReady, Request, is_built_in, is_name, profile_of
from app.jobs.job import QueueFull, Submitter
from app.store.datasets import INCOMING, TABLE, DatasetsFull, DatasetVersion, NoSuchDataset, Source
from models.arguments import Parser

POLL_SECONDS = 0.2


def run(words: Sequence[str]) -> int:
    """Do what the words say; the status."""
    chosen = _parser().parse_args(words)
    home = open_home(read_settings())
    try:
        with closing(home.database):
            status: int = chosen.act(home, chosen)
    except (NoSuchDataset, DatasetInUse, DatasetNotReady, DatasetsFull, QueueFull, OSError) as error:
        return _failed(str(error))
    except (ValidationError, ValueError) as error:
        return _failed(f"options: {error}")
    return status


def _parser() -> Parser:
    parser = Parser(prog="minist datasets", description="Data sets to train on; the service may run.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    parser.set_defaults(act=_list)
    actions.add_parser("list", help="show data sets and versions (default)").set_defaults(act=_list)
    read = actions.add_parser(
        "import", help="import a zip of class folders, an npz file, a zip of idx files, CSV or parquet"
    )
    read.add_argument("file", type=Path)
    read.add_argument("--name", help="of the data set (default: the file's)")
    read.add_argument("--size", type=int, help="side of the pictures in pixels (default: by the data)")
    read.add_argument("--target", metavar="COLUMN", help="of a table: the column with the class")
    read.add_argument("--options", default="{}", help="all options, as JSON")
    read.set_defaults(act=_import)
    delete = actions.add_parser("delete", help="delete a version, or a data set with all its versions")
    delete.add_argument("name", help="NAME or NAME@VERSION")
    delete.add_argument(
        "--force", action="store_true", help="also where a job or a version of a model needs it"
    )
    delete.set_defaults(act=_delete)
    return parser


def _list(home: Home, chosen: argparse.Namespace) -> int:
    rows = [
        (version.reference, f"{utc(version.created_at):%Y-%m-%d %H:%M}", _state(version))
        for name in home.datasets.names()
        for version in home.datasets.versions(name)
    ]
    if rows:
        print(columns(("data set", "imported", "contents"), rows))
    else:
        print("no data sets of your own yet: 'minist datasets import FILE' makes one")
    return 0


def _state(version: DatasetVersion) -> str:
    if version.status == "needs_target":
        return "needs its target"
    if version.summary is None or version.status != "ready":
        return f"{version.status}: {version.error}" if version.error else version.status
    if version.kind == TABLE:
        rows, columns = version.summary["rows"], version.summary["columns"]
        return f"{rows:,} rows of {columns} columns, {version.summary['classes']} classes"
    channels, height, width = version.summary["shape"]
    kind = "colour" if channels == 3 else "grey"
    images, classes = version.summary["images"], version.summary["classes"]
    return f"{images:,} {kind} pictures of {width}x{height}, {classes} classes"


def _import(home: Home, chosen: argparse.Namespace) -> int:
    name = chosen.name or re.sub(r"[^a-z0-9]+", "-", chosen.file.stem.lower()).strip("-")[:64]
    if not is_name(name) or is_built_in(name):
        return _failed(
            f"{name!r} is no name for a data set: give one by --name, of small letters, digits, hyphens"
        )
    said = {"size": chosen.size, "target": chosen.target}
    given = {option: value for option, value in said.items() if value is not None}
    with chosen.file.open("rb") as file:
        table = file.read(4) != b"PK\x03\x04"  # a zip may hold either kind
    options = check_options({**json.loads(chosen.options), **given}, table)
    source = _copied(chosen.file, home.paths.datasets)
    try:
        version, _ = home.imports.submit(Request(name, source, options), Submitter(who(), True))
    finally:
        source.path.unlink(missing_ok=True)
    version = _awaited(home, version)
    if version.status == "failed":
        return _failed(str(version.error))
    print(f"{version.reference}: {_state(version)}")
    profile = profile_of(version)
    if isinstance(profile, TableDraft):
        print("which column is the class? Import the file again with --target COLUMN, such as")
        for proposal in profile.proposals:
            print(f"  {proposal.column}: {proposal.why}")
    return 0


def _copied(file: Path, folder: Path) -> Source:
    """A copy in the home, which the import keeps. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{INCOMING}{token_hex(8)}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with file.open("rb") as source, os.fdopen(os.open(path, flags, 0o600), "w+b") as copy:
        shutil.copyfileobj(source, copy, 1024 * 1024)
        copy.flush()
        os.fsync(copy.fileno())
        copy.seek(0)
        return Source(path, hashlib.file_digest(copy, "sha256").hexdigest(), path.stat().st_size)


def _awaited(home: Home, version: DatasetVersion) -> DatasetVersion:
    """The version when its import has ended; where no service is there to run it, this process does."""
    while version.status == "importing":
        if home.supervisors.count():
            time.sleep(POLL_SECONDS)
        else:
            home.importer().run_one()
        version = home.datasets.find(version.reference)
    return version


def _delete(home: Home, chosen: argparse.Namespace) -> int:
    store = home.datasets
    wanted = [store.find(chosen.name)] if "@" in chosen.name else store.versions(chosen.name)
    home.imports.delete(wanted, chosen.force)
    print(f"deleted {chosen.name}")
    return 0


def _failed(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1
