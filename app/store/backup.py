"""Backups: one tar file with the database and the files of every version, taken while the service runs.

    minist.db                              as of one moment, by VACUUM INTO
    models/<model>/<version>/<file>        of all versions in that database, but damaged ones
    datasets/<name>/<version>/<file>       of all data sets that are imported, but damaged ones
    datasets/.sources/<sha256>             the files that they came as
    manifest.json                          what of this is in it; comes last, so that a torn file lacks it

Run directories and the admin key of the first start are not in it. What is in an object store is fetched for
it; after `restore` the next start uploads all of it anew, since the store may have changed since.
"""

import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import mkdtemp

from filelock import FileLock
from sqlalchemy import delete

from app.store.database import Database
from app.store.datasets import Datasets, DatasetVersion, source_damage
from app.store.errors import ArtifactsAway, StoreError
from app.store.paths import HomePaths, source_place
from app.store.sqlite import check_file, copy_file, require_unused
from app.store.tables import stored
from app.store.versions import Version, Versions
from models.errors import CheckpointError

ATTEMPTS = 3  # at a copy during which no version is deleted
_MEMBER = re.compile(
    r"minist\.db|manifest\.json|datasets/\.sources/[0-9a-f]{64}"
    r"|(models|datasets)/[a-z0-9][a-z0-9-]{0,63}/[1-9][0-9]{0,9}/[^/\\.][^/\\]*"
)


@dataclass(frozen=True)
class Backup:
    """How many versions and data sets it holds, and a line for each that is missing or damaged."""

    versions: int
    datasets: int
    left_out: tuple[str, ...]


def back_up(versions: Versions, file: Path, with_datasets: bool = True) -> Backup:
    """Write a backup to `file`, mode 0600, that appears when it is whole. Raises OSError."""
    temporary = file.with_name(f".{file.name}.{token_hex(4)}")
    try:
        for _ in range(ATTEMPTS):
            backup = _write(versions, temporary, with_datasets)
            if not backup.left_out:
                break  # else it may have been deleted after the database was copied: once more
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return backup


def _write(versions: Versions, temporary: Path, with_datasets: bool) -> Backup:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as stream, _folder(versions.paths.root, ".backup-") as folder:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            copy_file(versions.database.path, folder / "minist.db")
            archive.add(folder / "minist.db", "minist.db")
            found, datasets = _kept_by(folder, versions)
            of_versions = {_name(version): _add_version(archive, version) for version in found}
            wanted = datasets if with_datasets else []
            of_datasets = {each.reference: _add_dataset(archive, each) for each in wanted if each.digest}
            sources = {each.source for each in wanted if each.source_bytes}
            of_sources = {source: _add_source(archive, versions, source) for source in sorted(sources)}
            parts = {"versions": of_versions, "datasets": of_datasets, "sources": of_sources}
            whole = {part: [name for name, why in of.items() if why is None] for part, of in parts.items()}
            (folder / "manifest.json").write_text(json.dumps(whole))
            archive.add(folder / "manifest.json", "manifest.json")
        stream.flush()
        os.fsync(descriptor)
    left_out = (f"{name}: {why}" for of in parts.values() for name, why in of.items() if why is not None)
    return Backup(len(whole["versions"]), len(whole["datasets"]), tuple(left_out))


def _kept_by(folder: Path, versions: Versions) -> tuple[list[Version], list[DatasetVersion]]:
    """The versions and data sets of the copied database, with their folders in the home."""
    paths, folders = versions.paths, versions.folders
    with closing(Database(folder)) as database:
        found = Versions(database, paths, folders).snapshot().versions.values()
        return [*found], Datasets(database, paths, 0, folders).all()


def _add_version(archive: tarfile.TarFile, version: Version) -> str | None:
    """Why it could not be added; None where it was."""
    try:
        version.intact_card()
        _add_files(archive, version.directory, version.place)
    except (CheckpointError, ArtifactsAway, FileNotFoundError) as error:
        return str(error)
    return None


def _add_dataset(archive: tarfile.TarFile, version: DatasetVersion) -> str | None:
    if (problem := version.damage()) is not None:
        return problem
    try:
        _add_files(archive, version.directory, f"datasets/{version.name}/{version.version}")
    except FileNotFoundError as error:
        return str(error)
    return None


def _add_source(archive: tarfile.TarFile, versions: Versions, digest: str) -> str | None:
    path = versions.paths.source(digest)
    try:
        versions.folders.bring(source_place(digest))
        if (problem := source_damage(path)) is not None:
            return problem
        archive.add(path, f"datasets/.sources/{digest}")
    except (CheckpointError, ArtifactsAway, FileNotFoundError) as error:
        return str(error)
    return None


def _add_files(archive: tarfile.TarFile, directory: Path, there: str) -> None:
    for path in sorted(path for path in directory.iterdir() if path.is_file()):
        archive.add(path, f"{there}/{path.name}")


def _name(version: Version) -> str:
    return f"{version.model}@{version.version}"


def restore(paths: HomePaths, file: Path) -> Path | None:
    """Put a backup in the place of what is there; where that has gone, None where there was nothing.

    Everything is unpacked and checked before anything is moved. Raises StoreError where the service runs, or
    the file is damaged or no backup, and OSError.
    """
    paths.root.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.lock), _folder(paths.root, ".restore-") as unpacked:
        require_unused(paths.database)
        _unpack(file, unpacked)
        _check(HomePaths(unpacked))
        with closing(Database(unpacked)) as database, database.write() as connection:
            connection.execute(delete(stored))  # what the store has may be of a later time
        aside = _set_aside(paths)
        for folder in (paths.models, paths.datasets):
            (unpacked / folder.name).mkdir(mode=0o700, exist_ok=True)
            (unpacked / folder.name).rename(folder)
        (unpacked / "minist.db").rename(paths.database)
    return aside


def _unpack(file: Path, folder: Path) -> None:
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                if not member.isfile() or not _MEMBER.fullmatch(member.name):
                    raise StoreError(f"{file} is no backup of minist: it holds {member.name!r}")
                archive.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise StoreError(f"{file} is no backup of minist, or is damaged: {error}") from error
    if not (folder / "minist.db").exists() or not (folder / "manifest.json").exists():
        raise StoreError(f"{file} is no backup of minist, or was cut off: database or manifest are missing")


def _check(paths: HomePaths) -> None:
    """The database, which is migrated, and every file of every version and data set."""
    check_file(paths.database)
    with closing(Database(paths.root)) as database:
        try:
            database.migrate()
            manifest = json.loads((paths.root / "manifest.json").read_text())
            parts = manifest if isinstance(manifest, dict) else {"versions": manifest}  # of an older backup
            versions = {
                _name(version): version for version in Versions(database, paths).snapshot().versions.values()
            }
            for name in parts["versions"]:
                versions[name].intact_card()
            datasets = {version.reference: version for version in Datasets(database, paths, 0).all()}
            found = [datasets[name].damage() for name in parts.get("datasets", ())]
            found += [source_damage(paths.source(digest)) for digest in parts.get("sources", ())]
        except (CheckpointError, ValueError, LookupError, TypeError) as error:
            raise StoreError(f"the backup is damaged, nothing was changed: {error}") from error
    if problems := [problem for problem in found if problem is not None]:
        raise StoreError(f"the backup is damaged, nothing was changed: {problems[0]}")


def _set_aside(paths: HomePaths) -> Path | None:
    """Move database, models and data sets into a folder of their own."""
    kept = (*paths.root.glob("minist.db*"), paths.models, paths.datasets)
    there = [path for path in kept if path.exists()]
    if not there:
        return None
    aside = paths.root / f"before-restore-{token_hex(4)}"
    aside.mkdir(mode=0o700)
    for path in there:
        path.rename(aside / path.name)
    return aside


@contextmanager
def _folder(parent: Path, prefix: str) -> Iterator[Path]:
    folder = Path(mkdtemp(prefix=prefix, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
