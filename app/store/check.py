"""`minist check`: whether all that is kept is there and as it was written. Changes nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import select

from app.store.database import Database
from app.store.datasets import Datasets, source_damage
from app.store.errors import ArtifactsAway
from app.store.folders import Folders, key_of
from app.store.recovery import SET_ASIDE
from app.store.tables import jobs
from app.store.versions import Snapshot, Versions, numbered
from models.errors import CheckpointError


@dataclass(frozen=True)
class Finding:
    """What was looked at; `problem` is None where nothing is wrong with it."""

    subject: str
    problem: str | None = None


def check(versions: Versions) -> Iterator[Finding]:
    """Database, object store, versions, aliases, folders, data sets and run directories, one after the other.

    What is in an object store is fetched where it is not here, so that every byte is read.
    """
    found = [*check_database(versions.database)]
    yield from found
    if found[0].problem:
        return
    snapshot = versions.snapshot()
    yield from _objects(versions.folders)
    yield from _versions(snapshot)
    yield from _aliases(snapshot)
    yield from _folders(versions, snapshot)
    yield from _datasets(versions)
    yield from _runs(versions)


def check_database(database: Database) -> Iterator[Finding]:
    """The database alone: whether it can be read, and its tables are those of this release."""
    problems = database.check()
    yield from [Finding(database.name, problem) for problem in problems] or [Finding(database.name)]


def _objects(folders: Folders) -> Iterator[Finding]:
    """Whether the store holds every object that it should, in full size, and none that nobody knows."""
    if folders.objects is None:
        return
    try:
        sizes, known = dict(folders.objects.sizes()), folders.prefixes()
    except ArtifactsAway as error:
        yield Finding(folders.objects.url, str(error))
        return
    problems = [*_missing(folders, sizes)]
    strays = sorted({key.rpartition("/")[0] for key in sizes} - known)
    problems += [f"nobody knows what is under {prefix}: delete it" for prefix in strays]
    yield from [Finding(folders.objects.url, problem) for problem in problems] or [Finding(folders.objects.url)]


def _missing(folders: Folders, sizes: Mapping[str, int]) -> Iterator[str]:
    for place, (prefix, files) in sorted(folders.places().items()):
        for name, facts in files.items():
            if (found := sizes.get(key_of(prefix, name))) != facts.bytes:
                said = "is not there" if found is None else f"has {found:,} bytes, not {facts.bytes:,}"
                yield f"{key_of(prefix, name)}, of {place}, {said}"


def _versions(snapshot: Snapshot) -> Iterator[Finding]:
    for (model, number), version in sorted(snapshot.versions.items()):
        try:
            version.intact_card()
        except (CheckpointError, ArtifactsAway) as error:
            yield Finding(f"{model}@{number}", str(error))
        else:
            yield Finding(f"{model}@{number}")


def _aliases(snapshot: Snapshot) -> Iterator[Finding]:
    for (model, alias), number in sorted(snapshot.aliases.items()):
        if (model, number) not in snapshot.versions:
            yield Finding(f"{model}@{alias}", f"it points at version {number}, which does not exist")


def _folders(versions: Versions, snapshot: Snapshot) -> Iterator[Finding]:
    if not versions.paths.models.is_dir():
        return
    for folder in sorted(path for path in versions.paths.models.iterdir() if path.is_dir()):
        for number, directory in sorted(numbered(folder).items()):
            if (folder.name, number) not in snapshot.versions:
                yield Finding(str(directory), "no version knows it; the next start adopts it or sets it aside")
        for aside in sorted(folder.glob(f"{SET_ASIDE}*")):
            yield Finding(str(aside), "it was set aside: look into it, then remove it")


def _datasets(versions: Versions) -> Iterator[Finding]:
    datasets = Datasets(versions.database, versions.paths, 0, versions.folders)
    found = datasets.all()
    for version in found:
        if version.digest is not None:
            yield Finding(f"data set {version.reference}", version.damage())
    for digest in sorted({version.source for version in found if version.source_bytes}):
        yield Finding(str(versions.paths.source(digest)), _damage_of(datasets, digest))


def _damage_of(datasets: Datasets, digest: str) -> str | None:
    try:
        return source_damage(datasets.bring_source(digest))
    except (CheckpointError, ArtifactsAway) as error:
        return str(error)


def _runs(versions: Versions) -> Iterator[Finding]:
    if not versions.paths.runs.is_dir():
        return
    with versions.database.read() as connection:
        known = set(connection.scalars(select(jobs.c.id)))
    for directory in sorted(versions.paths.runs.iterdir()):
        if directory.is_dir() and directory.name not in known:
            yield Finding(str(directory), "no job knows it; 'minist publish' can make a finished run a version")
