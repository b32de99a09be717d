"""The disk of a home beside an object store: a cache with a bound.

What is longest unused goes first; what was used lately, or is the data set of an unfinished job, stays. What
was deleted goes as well, also where another machine deleted it.
"""

import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from sqlalchemy import select

from app.store.folders import Folders
from app.store.paths import dataset_place, source_place, version_place
from app.store.tables import datasets, jobs, versions

log = logging.getLogger("minist.store")

EVICTED = ".evicted-"
IN_USE_SECONDS = 600.0  # somebody may be about to open what was brought


@dataclass(frozen=True)
class Cached:
    """A folder, or a file that a data set came as, which is in the store too."""

    place: str
    path: Path
    bytes: int
    used_at: float


@dataclass(frozen=True)
class Cache:
    """What lies under the root of `folders`: at most `limit` bytes, but for what is in use."""

    folders: Folders
    limit: int

    def tidy(self) -> None:
        """Remove what was deleted, and then what is too much. Nothing happens without a store."""
        if self.folders.objects is None:
            return
        kept, (deleted, needed) = self.folders.names(), self._rows()
        here = list(self._here())
        for cached in here:
            if cached.place in deleted and cached.place not in kept:
                _remove(cached.path)
        copies = [cached for cached in here if cached.place in kept]
        total = sum(cached.bytes for cached in copies)
        for cached in sorted(copies, key=lambda one: one.used_at):
            if total <= self.limit:
                return
            if cached.place not in needed and time.time() - cached.used_at > IN_USE_SECONDS:
                log.info("%s is not kept here any more: it is in the store", cached.place)
                _remove(cached.path)
                total -= cached.bytes

    def _rows(self) -> tuple[set[str], set[str]]:
        """The places of versions that were deleted, and of data sets that unfinished jobs read."""
        unfinished = select(jobs.c.config).where(jobs.c.status.in_(("queued", "running")))
        with self.folders.database.read() as connection:
            gone = {
                version_place(row.model, row.version)
                for row in connection.execute(select(versions).where(versions.c.deleted))
            } | {
                dataset_place(row.name, row.version)
                for row in connection.execute(select(datasets).where(datasets.c.deleted))
            }
            configs = list(connection.scalars(unfinished))
        needed = {f"datasets/{str(config.get('dataset')).replace('@', '/')}" for config in configs}
        return gone, needed | {source_place(str(config.get("source"))) for config in configs}

    def _here(self) -> Iterator[Cached]:
        root = self.folders.root
        for pattern in ("models/*/[0-9]*", "datasets/[a-z0-9]*/[0-9]*", "datasets/.sources/[0-9a-f]*"):
            for path in root.glob(pattern):
                try:
                    size = sum(one.stat().st_size for one in (path.iterdir() if path.is_dir() else [path]))
                    yield Cached(path.relative_to(root).as_posix(), path, size, path.stat().st_mtime)
                except OSError:  # another process has just removed it
                    continue


def _remove(path: Path) -> None:
    aside = path.with_name(f"{EVICTED}{path.name}-{token_hex(4)}")
    try:
        path.rename(aside)
    except OSError:
        return
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)
