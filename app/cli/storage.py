"""`minist check`, `minist backup` and `minist restore`: what lies under MINIST_HOME."""

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from app.cli.db import PG_DUMP, database_of
from app.cli.deployment import open_home, read_settings
from app.home import folders_of
from app.store.backup import back_up, restore
from app.store.check import check as findings
from app.store.errors import StoreError
from app.store.paths import HomePaths
from app.store.versions import Versions
from models.arguments import Parser


def check(words: Sequence[str]) -> int:
    """Say of all that is kept whether it is as it was written; 1 where something is not. Changes nothing."""
    parser = Parser(prog="minist check", description="Check all that is kept; changes nothing.")
    parser.parse_args(words)
    settings = read_settings()
    paths = HomePaths(settings.home)
    if settings.database_url is None and not paths.database.exists():
        print(f"error: there is no {paths.database}; MINIST_HOME names the folder", file=sys.stderr)
        return 1
    with closing(database_of(settings)) as database:
        try:
            found = list(findings(Versions(database, paths, folders_of(settings, database))))
        except StoreError as error:
            return _failed(error)
    for finding in found:
        print(f"{finding.subject}: {finding.problem or 'ok'}")
    return int(any(finding.problem for finding in found))


def back_up_home(words: Sequence[str]) -> int:
    """Write a backup, also while the service runs; 1 where something damaged was left out."""
    parser = Parser(
        prog="minist backup",
        description="Write database, models and data sets into one tar file. The service may run meanwhile.",
    )
    parser.add_argument("file", type=Path, help="tar file to write")
    parser.add_argument(
        "--without-datasets", action="store_true", help="where the uploaded files are kept elsewhere"
    )
    chosen = parser.parse_args(words)
    settings = read_settings()
    if settings.database_url is not None:
        return _failed(StoreError(PG_DUMP))
    home = open_home(settings)
    try:
        with closing(home.database):
            backup = back_up(home.versions, chosen.file, not chosen.without_datasets)
    except (OSError, StoreError) as error:
        return _failed(error)
    print(f"wrote {chosen.file}: the database, {backup.versions} versions and {backup.datasets} data sets")
    for problem in backup.left_out:
        print(f"left out: {problem}", file=sys.stderr)
    return int(bool(backup.left_out))


def restore_home(words: Sequence[str]) -> int:
    """Put a backup in the place of what is there; the status."""
    parser = Parser(
        prog="minist restore",
        description="Put a backup in the place of what is there, which is kept. The service must not run.",
    )
    parser.add_argument("file", type=Path, help="tar file of 'minist backup'")
    chosen = parser.parse_args(words)
    settings = read_settings()
    if settings.database_url is not None:
        return _failed(StoreError(PG_DUMP))
    try:
        aside = restore(HomePaths(settings.home), chosen.file)
    except (StoreError, OSError) as error:
        return _failed(error)
    print(f"restored {chosen.file}" + (f"; what was there lies in {aside}" if aside else ""))
    return 0


def _failed(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1
