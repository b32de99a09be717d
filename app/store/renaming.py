"""A version under another name: a copy for a model of its own, or all of a model when it is renamed.

Files carry the name of their model, and so does the card; what is published never changes. So they are copied,
and the old ones deleted. The old name keeps its numbers: it is not free again.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import insert, literal, select, update
from sqlalchemy.engine import Connection

from app.store import locks
from app.store.audit import Change
from app.store.folders import files_of
from app.store.tables import aliases, answered, audit, drifted, feedback, predictions, traffic, unloaded
from app.store.tables import versions as rows
from app.store.versions import PRODUCTION, NoSuchVersion, Staged, Version, Versions, point
from models.card import Card
from models.files import write_atomically

ATTEMPTS = 3  # while versions come or go
COPIED = ("at", "who", "action", "alias", "from_version", "to_version", "why")  # of the audit list


class NameTaken(Exception):
    """A model has that name, or has had it."""


def copy(versions: Versions, model: str, number: int, to: str, who: str, why: str) -> int:
    """Make a version the first or next of another model; its number. A first one is in production.

    Raises NoSuchVersion, CheckpointError for a damaged one, NameTaken for its own name, ArtifactsAway, OSError.
    """
    version = versions.get(model, number)
    if version is None:
        raise NoSuchVersion(f"there is no version {number} of a model {model!r}")
    if to == model:
        raise NameTaken(f"version {number} is one of {model!r} already")
    with (
        _renamed(versions, version, to) as (staged, card),
        versions.database.write(locks.VERSIONS) as connection,
    ):
        first = versions.in_production(connection, to) is None
        change = Change(who, "publish", to, why or f"a copy of {model}@{number}")
        made = versions.add(connection, staged, card, version.job_id, change)
        if first:
            point(connection, Change(who, "move", to, "its first version", PRODUCTION, to_version=made))
    return made


def rename(versions: Versions, model: str, to: str, who: str, why: str) -> None:
    """Give a model another name: versions with their numbers, aliases, history and corrections go with it.

    Raises NoSuchVersion, NameTaken, CheckpointError where a version is damaged, ArtifactsAway, OSError.
    """
    for _ in range(ATTEMPTS):
        found = [one for (name, _), one in sorted(versions.snapshot().versions.items()) if name == model]
        if not found:
            raise NoSuchVersion(f"there is no model {model!r}")
        if _rename(versions, found, to, who, why):
            return
    raise NameTaken(f"versions of {model!r} come and go: try again")


def _rename(versions: Versions, found: Sequence[Version], to: str, who: str, why: str) -> bool:
    """Whether the versions that were found are still those of the model, and were renamed."""
    model = found[0].model
    with ExitStack() as stack:
        copies = [(one, *stack.enter_context(_renamed(versions, one, to))) for one in found]
        with versions.database.write(locks.FEEDBACK, locks.VERSIONS) as connection:
            _require_free(connection, to)
            alive = select(rows.c.version).where(rows.c.model == model, rows.c.deleted.is_(False))
            if set(connection.scalars(alive)) != {one.version for one in found}:
                return False
            _take_history(connection, model, to)
            for version, staged, card in copies:
                change = Change(who, "rename", to, why or f"it was {model}@{version.version}")
                versions.add(connection, staged, card, version.job_id, change, version.version)
                same = (rows.c.model == to) & (rows.c.version == version.version)
                connection.execute(update(rows).where(same).values(created_at=version.created_at))
            gone = [_delete(versions, connection, version, to, who) for version in found]
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    versions.folders.sweep()
    return True


@contextmanager
def _renamed(versions: Versions, version: Version, to: str) -> Iterator[tuple[Staged, Card]]:
    """A version's files under the other name, staged, with their card."""
    card = version.intact_card().model_copy(update={"name": to})
    with TemporaryDirectory() as folder:
        files = []
        for name, path in files_of(version.directory).items():
            file = Path(folder) / name.replace(f"{version.model}.", f"{to}.", 1)
            if path == version.weights.with_suffix(".json"):
                write_atomically(file, card.model_dump_json(indent=2).encode() + b"\n")
            else:
                shutil.copyfile(path, file)
            files.append(file)
        with versions.staged(to, files) as staged:
            yield staged, card


def _require_free(connection: Connection, name: str) -> None:
    if connection.execute(select(rows.c.version).where(rows.c.model == name)).first() is not None:
        raise NameTaken(f"there is a model {name!r}, or was one: its numbers are not used again")


def _take_history(connection: Connection, model: str, to: str) -> None:
    """Aliases, being out of service, corrections, traffic and drift go along; the audit list is copied."""
    for table in (aliases, unloaded, feedback, predictions, traffic, answered, drifted):
        connection.execute(update(table).where(table.c.model == model).values(model=to))
    entries = select(literal(to), *(audit.c[name] for name in COPIED)).where(audit.c.model == model)
    connection.execute(insert(audit).from_select(["model", *COPIED], entries.order_by(audit.c.id)))


def _delete(versions: Versions, connection: Connection, version: Version, to: str, who: str) -> Path:
    change = Change(who, "delete", version.model, f"renamed to {to}", from_version=version.version)
    return versions.remove(connection, change)
