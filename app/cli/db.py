"""`minist db`: the database alone. `minist check` and `minist backup` take the files of the models, too."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from app.cli.deployment import read_settings
from app.settings import Settings
from app.store.check import check_database
from app.store.copying import copy
from app.store.database import Database
from app.store.errors import StoreError
from app.store.sqlite import BUSY_SECONDS, copy_file
from models.arguments import Parser

PG_DUMP = (
    "the database is a Postgres: 'pg_dump --format=custom --file=FILE DATABASE' writes it into a file, "
    "'pg_restore --clean --if-exists --dbname=DATABASE FILE' puts it back; copy MINIST_HOME after it, or with "
    "MINIST_STORE the bucket (or let it keep versions of its objects)"
)


def run(words: Sequence[str]) -> int:
    """Do what the words say; the status."""
    chosen = _parser().parse_args(words)
    settings = read_settings()
    try:
        with closing(database_of(settings)) as database:
            status: int = chosen.act(database, chosen)
            return status
    except (StoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def database_of(settings: Settings) -> Database:
    """The database of a deployment. Raises StoreError for a URL that cannot be used."""
    return Database(settings.home, BUSY_SECONDS, settings.database_address, settings.database_connections)


def _parser() -> Parser:
    parser = Parser(
        prog="minist db", description="The database: SQLite in MINIST_HOME, or the one of MINIST_DATABASE_URL."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    upgrade = actions.add_parser("upgrade", help="make the tables, or bring them up to date, as a start does")
    upgrade.set_defaults(act=_upgrade)
    check = actions.add_parser("check", help="read all of it, and compare its tables with this release's")
    check.set_defaults(act=_check)
    backup = actions.add_parser("backup", help="copy SQLite's file; the service may run meanwhile")
    backup.add_argument("file", type=Path, help="file that is not there yet")
    backup.set_defaults(act=_back_up)
    copy_to = actions.add_parser("copy-to", help="copy every row from SQLite to an empty Postgres")
    copy_to.add_argument("url", help="postgresql+psycopg://USER:PASSWORD@HOST/DATABASE; - reads it from a pipe")
    copy_to.set_defaults(act=_copy_to)
    return parser


def _upgrade(database: Database, chosen: argparse.Namespace) -> int:
    database.migrate()
    print(f"{database.name}: its tables are those of this release")
    return 0


def _check(database: Database, chosen: argparse.Namespace) -> int:
    if database.in_home and not database.path.exists():
        raise StoreError(f"there is no {database.path}; MINIST_HOME names the folder")
    found = [*check_database(database)]
    for finding in found:
        print(f"{finding.subject}: {finding.problem or 'ok'}")
    return int(any(finding.problem for finding in found))


def _back_up(database: Database, chosen: argparse.Namespace) -> int:
    if not database.in_home:
        raise StoreError(PG_DUMP)
    if not database.path.exists():
        raise StoreError(f"there is no {database.path}; MINIST_HOME names the folder")
    copy_file(database.path, chosen.file)
    print(f"wrote {chosen.file}")
    return 0


def _copy_to(database: Database, chosen: argparse.Namespace) -> int:
    if not database.in_home:
        raise StoreError("MINIST_DATABASE_URL is set: unset it, so that the rows of the SQLite are copied")
    if not database.path.exists():
        raise StoreError(f"there is no {database.path}; MINIST_HOME names the folder")
    url = sys.stdin.readline().strip() if chosen.url == "-" else chosen.url
    with closing(Database(database.path.parent, url=url)) as target:
        rows = copy(database, target)
    for table, number in rows.items():
        print(f"{table}: {number:,}")
    print(f"copied and compared {sum(rows.values()):,} rows to {target.name}")
    print("set MINIST_DATABASE_URL to it for all processes; minist.db is left as it was and not used any more")
    return 0
