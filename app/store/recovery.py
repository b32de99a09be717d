"""Rows and folders, compared at the start: what is on disk alone is adopted or set aside, never destroyed.

A database may be lost, or restored from a backup, while the folders of its versions are still there; a process
may have died between a rename and its commit.
"""

import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from sqlalchemy import insert, select
from sqlalchemy.engine import Connection

from app.store import locks
from app.store.audit import Change, note
from app.store.tables import aliases
from app.store.tables import versions as table
from app.store.versions import DELETED, PRODUCTION, STAGED, Version, Versions, numbered, point
from models.card import Card
from models.errors import CheckpointError

log = logging.getLogger("minist.store")

WHO = "minist"
SET_ASIDE = ".set-aside-"
STAGED_SECONDS = 3600  # after which a staged folder is taken for one of a dead process


@dataclass(frozen=True)
class Adopted:
    """A version that was found on disk alone."""

    version: Version
    card: Card


def reconcile(versions: Versions) -> None:
    """Make rows and folders agree. Other processes must not publish meanwhile: the lock of the home is held."""
    if not versions.paths.models.is_dir():
        return
    with versions.database.write(locks.VERSIONS) as connection:
        for folder in sorted(path for path in versions.paths.models.iterdir() if path.is_dir()):
            _finish_deletions(versions, connection, folder)
            _remove_staged(folder)
            adopted = [*_adopt(versions, connection, folder)]
            if adopted and not _has_production(connection, folder.name):
                _promote(connection, folder.name, adopted)


def _finish_deletions(versions: Versions, connection: Connection, folder: Path) -> None:
    """Files that were moved aside go back where the deletion was not committed, and away where it was."""
    for aside in sorted(folder.glob(f"{DELETED}*")):
        number = aside.name.removeprefix(DELETED).partition("-")[0]
        if not number.isdecimal():
            continue
        if _row(connection, folder.name, int(number)) is True:
            shutil.rmtree(aside, ignore_errors=True)
        elif not (there := versions.paths.version(folder.name, int(number))).exists():
            aside.rename(there)


def _remove_staged(folder: Path) -> None:
    for staged in folder.glob(f"{STAGED}*"):
        if abs(time.time() - staged.stat().st_mtime) > STAGED_SECONDS:
            shutil.rmtree(staged, ignore_errors=True)


def _adopt(versions: Versions, connection: Connection, folder: Path) -> Iterator[Adopted]:
    """Give every whole version without a row one; what is not whole is set aside."""
    for number, directory in sorted(numbered(folder).items()):
        if _row(connection, folder.name, number) is not None:
            continue
        try:
            found = _read(folder.name, number, directory)
        except CheckpointError as error:
            aside = directory.with_name(f"{SET_ASIDE}{number}-{token_hex(4)}")
            directory.rename(aside)
            log.error("a folder without a row was set aside as %s: %s", aside, error)
            continue
        _insert(connection, found.version)
        log.warning("version %d of %s was not in the database; it was adopted", number, folder.name)
        yield found


def _read(model: str, number: int, directory: Path) -> Adopted:
    """Raises CheckpointError where files are missing or damaged."""
    card = Version(model, number, None, "", 0.0, directory).card()
    created = card.created.timestamp() if card.created else directory.stat().st_mtime
    version = Version(model, number, None, card.sha256, created, directory)
    return Adopted(version, version.intact_card())


def _insert(connection: Connection, version: Version) -> None:
    names = ("model", "version", "job_id", "sha256", "created_at")
    row = {name: getattr(version, name) for name in names}
    connection.execute(insert(table).values(**row, deleted=False))
    why = "it was in MINIST_HOME without a row in the database"
    note(connection, Change(WHO, "adopt", version.model, why, to_version=version.version))


def _promote(connection: Connection, model: str, adopted: list[Adopted]) -> None:
    """A lost database took the alias `production` with it; the best version becomes production."""
    best = max(adopted, key=lambda found: (_accuracy(found.card), found.version.version)).version.version
    why = "the best on its test set of the versions that were found"
    point(connection, Change(WHO, "promote", model, why, PRODUCTION, to_version=best))


def _accuracy(card: Card) -> float:
    test = card.metrics.get("test")
    return test.accuracy if test else -1.0


def _row(connection: Connection, model: str, number: int) -> bool | None:
    """Whether the version of that row is deleted; None without a row."""
    row = (table.c.model == model) & (table.c.version == number)
    return connection.scalar(select(table.c.deleted).where(row))


def _has_production(connection: Connection, model: str) -> bool:
    row = (aliases.c.model == model) & (aliases.c.alias == PRODUCTION)
    return connection.execute(select(aliases.c.version).where(row)).first() is not None
