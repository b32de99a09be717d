"""Backups: one tar file with the database and the files of every version, taken while the service runs.

    minist.db                              as of one moment, by SQLite's online backup
    models/<model>/<version>/<file>        of all versions in that database, but damaged ones
    manifest.json                          the versions that are in it; comes last, so that a torn file lacks it

Run directories and the admin key of the first start are not in it.
"""

import json
import os
import re
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import mkdtemp

from filelock import FileLock

from app.store.database import Database, StoreError, check_file
from app.store.paths import HomePaths
from app.store.versions import Version, Versions
from models.errors import CheckpointError

ATTEMPTS = 3  # at a copy during which no version is deleted
_MEMBER = re.compile(r"minist\.db|manifest\.json|models/[a-z0-9][a-z0-9-]{0,63}/[1-9][0-9]{0,9}/[^/\\.][^/\\]*")


@dataclass(frozen=True)
class Backup:
    """What a backup holds: the number of versions, and a line for each that is missing or damaged."""

    versions: int
    left_out: tuple[str, ...]


def back_up(versions: Versions, file: Path) -> Backup:
    """Write a backup to `file`, mode 0600, that appears when it is whole. Raises OSError."""
    temporary = file.with_name(f".{file.name}.{token_hex(4)}")
    try:
        for _ in range(ATTEMPTS):
            backup = _write(versions, temporary)
            if not backup.left_out:
                break  # else it may have been deleted after the database was copied: once more
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return backup


def _write(versions: Versions, temporary: Path) -> Backup:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as stream, _folder(versions.paths.root, ".backup-") as folder:
        with tarfile.open(fileobj=stream, mode="w") as archive:
            _copy_database(versions.database.path, folder / "minist.db")
            archive.add(folder / "minist.db", "minist.db")
            found = _versions_in(folder, versions.paths)
            problems = {_name(version): _add(archive, version) for version in found}
            whole = [name for name, problem in problems.items() if problem is None]
            (folder / "manifest.json").write_text(json.dumps(whole))
            archive.add(folder / "manifest.json", "manifest.json")
        stream.flush()
        os.fsync(descriptor)
    return Backup(len(whole), tuple(f"{name}: {problem}" for name, problem in problems.items() if problem))


def _copy_database(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _versions_in(folder: Path, paths: HomePaths) -> list[Version]:
    """The versions of the copied database, with their folders in the home."""
    database = Database(folder)
    try:
        return [*Versions(database, paths).snapshot().versions.values()]
    finally:
        database.close()


def _add(archive: tarfile.TarFile, version: Version) -> str | None:
    """Why it could not be added; None where it was."""
    try:
        version.intact_card()
        for path in sorted(path for path in version.directory.iterdir() if path.is_file()):
            archive.add(path, f"models/{version.model}/{version.version}/{path.name}")
    except (CheckpointError, FileNotFoundError) as error:
        return str(error)
    return None


def _name(version: Version) -> str:
    return f"{version.model}@{version.version}"


def restore(paths: HomePaths, file: Path) -> Path | None:
    """Put a backup in the place of what is there; where that has gone, None where there was nothing.

    Everything is unpacked and checked before anything is moved. Raises StoreError where the service runs, or
    the file is damaged or no backup, and OSError.
    """
    paths.root.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.lock), _folder(paths.root, ".restore-") as unpacked:
        _require_unused(paths.database)
        _unpack(file, unpacked)
        _check(HomePaths(unpacked))
        aside = _set_aside(paths)
        (unpacked / "models").mkdir(exist_ok=True)
        (unpacked / "models").rename(paths.models)
        (unpacked / "minist.db").rename(paths.database)
    return aside


def _require_unused(database: Path) -> None:
    """WAL mode can be left only by a connection that is alone."""
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(database, timeout=0)) as connection:
            mode = connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0]
    except sqlite3.OperationalError:
        mode = "wal"
    except sqlite3.DatabaseError:  # damaged: that may be why it is restored
        return
    if mode == "wal":
        raise StoreError(f"{database} is in use: stop the service first")


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
    """The database, which is migrated, and every file of every version."""
    check_file(paths.database)
    database = Database(paths.root)
    try:
        database.migrate()
        names = json.loads((paths.root / "manifest.json").read_text())
        found = {_name(version): version for version in Versions(database, paths).snapshot().versions.values()}
        for name in names:
            found[name].intact_card()
    except (CheckpointError, ValueError, LookupError, TypeError) as error:
        raise StoreError(f"the backup is damaged, nothing was changed: {error}") from error
    finally:
        database.close()


def _set_aside(paths: HomePaths) -> Path | None:
    """Move database and models into a folder of their own."""
    there = [path for path in (*paths.root.glob("minist.db*"), paths.models) if path.exists()]
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
