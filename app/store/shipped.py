"""The weights that come with the service, as versions."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.engine import Connection

import models
from app.store import locks
from app.store.audit import Change
from app.store.tables import audit
from app.store.tables import versions as table
from app.store.versions import PRODUCTION, Version, Versions, point
from models.card import Card, read_card
from models.files import flush_directory

SHIPPER = "minist"  # in the audit list: the service itself
WEIGHTS = Path(models.__file__).parent / "weights"


def publish_shipped(versions: Versions, directory: Path = WEIGHTS) -> None:
    """Make the weights that came with the service versions, if they are not.

    On a new installation they are version 1. Weights of a newer release become the next version;
    `production` follows if it pointed at shipped ones. A home that shares the database of another, and
    lacks the files of such a version, gets them.
    """
    for path in sorted(directory.glob("*.json")):
        card = read_card(path)
        with versions.database.read() as connection:
            rows = _rows(connection, path.stem)
        if not _is_known(rows, card):
            _publish(versions, path.stem, card, path)
            with versions.database.read() as connection:
                rows = _rows(connection, path.stem)
        for row in rows:
            if row.sha256 == card.sha256 and not row.deleted:
                _bring_files(versions, path, row.version)


def _rows(connection: Connection, model: str) -> Sequence[Row[Any, Any, Any]]:
    rows = select(table.c.version, table.c.sha256, table.c.deleted).where(table.c.model == model)
    return connection.execute(rows).all()


def _is_known(rows: Sequence[Row[Any, Any, Any]], card: Card) -> bool:
    """Whether it is a version, or was one; or somebody has deleted the whole model."""
    deleted = bool(rows) and all(row.deleted for row in rows)
    return deleted or any(row.sha256 == card.sha256 for row in rows)


def _publish(versions: Versions, model: str, card: Card, path: Path) -> None:
    with (
        versions.staged(model, _files(path)) as staged,
        versions.database.write(locks.VERSIONS) as connection,
    ):
        if _is_known(_rows(connection, model), card):  # another home was first
            return
        current = versions.in_production(connection, model)
        why = "shipped with this release"
        number = versions.add(connection, staged, card, None, Change(SHIPPER, "publish", model, why))
        if current is None or _was_shipped(connection, current):
            point(connection, Change(SHIPPER, "promote", model, why, PRODUCTION, to_version=number))


def _bring_files(versions: Versions, path: Path, number: int) -> None:
    there = versions.paths.version(path.stem, number)
    if not there.exists():
        with versions.staged(path.stem, _files(path), to_store=False) as staged:
            flush_directory(staged.folder)
            staged.folder.rename(there)


def _files(card: Path) -> list[Path]:
    return [card, card.with_suffix(".pth")]


def _was_shipped(connection: Connection, version: Version) -> bool:
    row = (audit.c.model == version.model) & (audit.c.to_version == version.version)
    published = row & (audit.c.who == SHIPPER) & (audit.c.action == "publish")
    return connection.execute(select(audit.c.id).where(published)).first() is not None


@cache
def shipped_version(model: str, directory: Path = WEIGHTS) -> Version | None:
    """The file of that name that came with the service, as version 0: it answers where nothing else can."""
    path = directory / f"{model}.json"
    if not path.exists():
        return None
    card = read_card(path)
    return Version(model, 0, None, card.sha256, 0.0, directory)
