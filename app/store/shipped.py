"""The weights that come with the service, as versions."""

from functools import cache
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.engine import Connection

import models
from app.store.audit import Change
from app.store.tables import audit
from app.store.tables import versions as table
from app.store.versions import PRODUCTION, Version, Versions, point
from models.card import Card, read_card

SHIPPER = "minist"  # in the audit list: the service itself
WEIGHTS = Path(models.__file__).parent / "weights"


def publish_shipped(versions: Versions, directory: Path = WEIGHTS) -> None:
    """Make the weights that came with the service versions, if they are not.

    On a new installation they are version 1. Weights of a newer release become the next version;
    `production` follows if it pointed at shipped ones.
    """
    for path in sorted(directory.glob("*.json")):
        card = read_card(path)
        if not _is_known(versions, path.stem, card):
            _publish(versions, path.stem, card, path)


def _is_known(versions: Versions, model: str, card: Card) -> bool:
    """Whether it is a version, or was one; or somebody has deleted the whole model."""
    rows = select(table.c.sha256, table.c.deleted).where(table.c.model == model)
    with versions.database.read() as connection:
        found = connection.execute(rows).all()
    deleted = bool(found) and all(row.deleted for row in found)
    return deleted or any(row.sha256 == card.sha256 for row in found)


def _publish(versions: Versions, model: str, card: Card, path: Path) -> None:
    with (
        versions.staged(model, [path, path.with_suffix(".pth")]) as staged,
        versions.database.write() as connection,
    ):
        current = versions.in_production(connection, model)
        why = "shipped with this release"
        number = versions.add(connection, staged, card, None, Change(SHIPPER, "publish", model, why))
        if current is None or _was_shipped(connection, current):
            point(connection, Change(SHIPPER, "promote", model, why, PRODUCTION, to_version=number))


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
