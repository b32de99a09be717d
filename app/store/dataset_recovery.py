"""Rows of data sets, folders and the files that came, compared at the start.

As `app.store.recovery` does it for versions of models: what is on disk alone is adopted.
"""

import logging
import shutil
import time
from pathlib import Path

from sqlalchemy import and_, func, select
from sqlalchemy.engine import Connection

from app.store import locks
from app.store.datasets import ALIVE, INCOMING, Datasets, Imported, remove, size_of
from app.store.tables import datasets, jobs
from app.store.versions import DELETED, numbered
from models.errors import CheckpointError

log = logging.getLogger("minist.store")


def reconcile_datasets(store: Datasets, stale_seconds: float = 3600) -> None:
    """Finish or take back what a process did not live to finish. The lock of the home is held.

    Nothing goes that a ready row needs; a whole folder without a row (of a database that was lost, or is
    older) gets one.
    """
    if not store.paths.datasets.is_dir():
        return
    with store.database.write(locks.DATASETS) as connection:
        for aside in sorted(store.paths.datasets.glob(f"*/{DELETED}*")):
            _finish_deletion(store, connection, aside)
        _adopt(store, connection)
        sources = set(connection.scalars(select(datasets.c.source).where(ALIVE)))
        active = set(connection.scalars(select(jobs.c.id).where(jobs.c.status.in_(("queued", "running")))))
    stale = [*store.paths.datasets.glob(f"{INCOMING}*")]
    stale += [path for path in store.paths.sources.glob("[0-9a-f]*") if path.name not in sources]
    for path in stale:
        if abs(time.time() - path.stat().st_mtime) > stale_seconds:
            path.unlink(missing_ok=True)
    for upload in store.paths.runs.glob("*/upload"):  # of weights; their job ends, or was never committed
        if upload.parent.name not in active and abs(time.time() - upload.stat().st_mtime) > stale_seconds:
            upload.unlink(missing_ok=True)
    for half in store.paths.runs.glob("*/dataset"):
        if half.parent.name not in active:
            shutil.rmtree(half, ignore_errors=True)


def _adopt(store: Datasets, connection: Connection) -> None:
    known = {(row.name, row.version) for row in connection.execute(select(datasets))}
    for folder in sorted(store.paths.datasets.glob("[a-z0-9]*")):
        for number, directory in sorted(numbered(folder).items()):
            if (folder.name, number) in known:
                continue
            try:
                found = Imported.read(directory)
            except CheckpointError as error:
                log.error("a folder without a row was left alone: %s", error)
                continue
            source = store.paths.source(found.source)
            store.add(
                connection,
                folder.name,
                number,
                kind=found.kind,
                options=found.options,
                source=found.source,
                source_bytes=source.stat().st_size if source.exists() else 0,
                digest=found.digest,
                summary=dict(found.summary),
                bytes=size_of(directory),
                ready_at=directory.stat().st_mtime,
            )
            log.warning("data set %s@%d was not in the database; it was adopted", folder.name, number)


def _finish_deletion(store: Datasets, connection: Connection, aside: Path) -> None:
    name = aside.name.removeprefix(DELETED).partition("-")[0]
    there = aside.with_name(name)
    if aside.parent == store.paths.sources:
        needs_it = datasets.c.source == name
    else:
        number = int(name) if name.isdecimal() else 0
        needs_it = and_(datasets.c.name == aside.parent.name, datasets.c.version == number)
    wanted = connection.scalar(select(func.count()).where(ALIVE, needs_it))
    if wanted and not there.exists():
        aside.rename(there)
    else:
        remove(aside)
