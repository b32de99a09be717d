"""What is in an object store, and what of it lies on the disks of homes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import update

from app.settings import Settings
from app.store import cache as caches
from app.store.cache import Cache
from app.store.check import check
from app.store.database import Database
from app.store.errors import ArtifactsAway, StoreError
from app.store.folders import ABANDONED_SECONDS, Folders, files_of
from app.store.objects import PIECE, Objects
from app.store.paths import HomePaths
from app.store.shipped import publish_shipped
from app.store.tables import stored
from app.store.versions import Versions
from models.errors import CheckpointError
from tests.object_store import SECRET, ObjectStore

PLACE = "models/mine/1"


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "database")
    database.migrate()
    return database


@pytest.fixture
def home(database: Database, store_url: str, tmp_path: Path) -> Callable[[str], Folders]:
    """Makes homes that share a database and a store."""
    return lambda name: Folders(database, tmp_path / name, Objects(store_url))


def made(folder: Path, **contents: bytes) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def keep(folders: Folders, place: str, files: Path) -> None:
    upload = folders.upload("models", files_of(files))
    with folders.database.write() as connection:
        folders.keep(connection, upload, place)


def keys(folders: Folders) -> list[str]:
    assert folders.objects is not None
    return [key for key, _ in folders.objects.sizes()]


def test_what_one_home_keeps_another_has_byte_for_byte(home: Callable[[str], Folders], tmp_path: Path) -> None:
    large = os.urandom(PIECE + 1)
    keep(home("a"), PLACE, made(tmp_path / "new", weights=large, card=b"{}", empty=b""))
    there = home("b")
    there.bring(PLACE, "card")
    assert [path.name for path in (there.root / PLACE).iterdir()] == ["card"]
    there.bring(PLACE)
    found = {path.name: path.read_bytes() for path in (there.root / PLACE).iterdir()}
    assert found == {"weights": large, "card": b"{}", "empty": b""}


def test_what_is_damaged_or_missing_is_fetched_again_and_nothing_else(
    home: Callable[[str], Folders], tmp_path: Path
) -> None:
    folders = home("a")
    keep(folders, PLACE, made(tmp_path / "new", weights=b"right", card=b"{}"))
    folders.bring(PLACE)
    card, weights = (folders.root / PLACE / name for name in ("card", "weights"))
    before = card.stat().st_ino
    for damage in (lambda: weights.write_bytes(b"wrong"), weights.unlink, lambda: weights.write_bytes(b"w")):
        damage()
        folders.bring(PLACE)
        assert weights.read_bytes() == b"right"
    assert card.stat().st_ino == before


def test_an_upload_is_nobodys_until_the_transaction_that_needs_it(
    home: Callable[[str], Folders], tmp_path: Path
) -> None:
    folders = home("a")
    upload = folders.upload("models", files_of(made(tmp_path / "new", weights=b"1")))
    with folders.database.write() as connection:
        folders.keep(connection, upload, PLACE)
        connection.rollback()
    assert not folders.facts(PLACE)
    folders.bring(PLACE)
    assert not (folders.root / PLACE).exists()
    folders.sweep()
    assert len(keys(folders)) == 1  # its process may still be at work
    with folders.database.write() as connection:
        connection.execute(update(stored).values(since=time.time() - ABANDONED_SECONDS - 1))
    folders.sweep()
    assert keys(folders) == []
    with pytest.raises(ArtifactsAway, match="made again"), folders.database.write() as connection:
        folders.keep(connection, upload, PLACE)


def test_what_is_replaced_or_let_go_is_removed_from_the_store(
    home: Callable[[str], Folders], tmp_path: Path
) -> None:
    folders = home("a")
    keep(folders, PLACE, made(tmp_path / "old", state=b"1"))
    keep(folders, PLACE, made(tmp_path / "new", state=b"2"))
    folders.sweep()
    assert len(keys(folders)) == 1
    home("b").bring(PLACE)
    assert (tmp_path / "b" / PLACE / "state").read_bytes() == b"2"
    with folders.database.write() as connection:
        folders.let_go(connection, PLACE)
    folders.sweep()
    assert keys(folders) == []
    assert not folders.prefixes()


def test_an_object_that_is_gone_or_was_changed_is_never_taken_for_the_file(
    home: Callable[[str], Folders], tmp_path: Path
) -> None:
    folders = home("a")
    keep(folders, PLACE, made(tmp_path / "new", weights=b"right"))
    assert folders.objects is not None
    (key,) = keys(folders)
    (tmp_path / "other").write_bytes(b"wrong")
    folders.objects.put(key, tmp_path / "other")
    with pytest.raises(CheckpointError, match="not the file"):
        folders.bring(PLACE)
    folders.objects.delete(key.rpartition("/")[0])
    with pytest.raises(CheckpointError, match="not in the store"):
        folders.bring(PLACE)
    assert list((folders.root / PLACE).iterdir()) == []


def test_the_disk_of_a_home_is_a_cache_with_a_bound(home: Callable[[str], Folders], tmp_path: Path) -> None:
    folders = home("a")
    for number in range(1, 5):
        keep(folders, f"models/mine/{number}", made(tmp_path / f"new{number}", weights=bytes(1000)))
        folders.bring(f"models/mine/{number}")
        moment = time.time() - caches.IN_USE_SECONDS - 1000 + number
        os.utime(folders.root / f"models/mine/{number}", (moment, moment))
    made(folders.root / "models/mine/9", weights=bytes(5000))  # here alone: it is no copy
    folders.bring("models/mine/1")  # somebody asks for the oldest
    Cache(folders, 2500).tidy()
    left = {path.name for path in (folders.root / "models/mine").iterdir()}
    assert left == {"1", "4", "9"}
    folders.bring("models/mine/2")
    assert (folders.root / "models/mine/2/weights").stat().st_size == 1000


def test_without_a_store_nothing_is_uploaded_brought_or_removed(database: Database, tmp_path: Path) -> None:
    folders = Folders(database, tmp_path)
    made(tmp_path / PLACE, weights=b"1")
    keep(folders, PLACE, tmp_path / PLACE)
    folders.bring(PLACE)
    folders.sweep()
    Cache(folders, 0).tidy()
    assert (tmp_path / PLACE / "weights").exists()
    assert not folders.places()


def test_a_version_is_there_for_every_home_and_goes_for_all(
    home: Callable[[str], Folders], tmp_path: Path
) -> None:
    here, there = (
        Versions(folders.database, HomePaths(folders.root), folders) for folders in (home("a"), home("b"))
    )
    publish_shipped(here)
    key = ("digits", 1)
    found = there.snapshot().versions[key]
    assert found.listed_card().sha256 == found.sha256
    assert not found.weights.exists()  # to list a version its card is enough
    assert found.intact_card().sha256 == found.sha256
    assert [finding for finding in check(there) if finding.problem] == []
    here.delete_model("digits", "somebody", "")
    Cache(there.folders, 10**9).tidy()
    assert not any(path.name.isdecimal() for path in there.paths.model("digits").iterdir())
    assert not any(key.startswith("models/digits/") for key in keys(here.folders))
    assert [finding for finding in check(there) if finding.problem] == []


def test_a_check_names_what_the_store_lacks_and_what_nobody_knows(
    home: Callable[[str], Folders], tmp_path: Path
) -> None:
    folders = home("a")
    versions = Versions(folders.database, HomePaths(folders.root), folders)
    publish_shipped(versions)
    assert folders.objects is not None
    (tmp_path / "stray").write_bytes(b"?")
    folders.objects.put("models/stray/file", tmp_path / "stray")
    prefix = folders.places()["models/cnn/1"][0]
    folders.objects.delete(prefix)
    problems = " ".join(finding.problem or "" for finding in check(versions))
    assert f"{prefix}/cnn.pth, of models/cnn/1, is not there" in problems
    assert "models/stray" in problems


@pytest.mark.parametrize(
    "url", ["s3://KEY:SECRET@bucket", "s3://", "file://host", "gs://b", "s3://b/p?key=SECRET"]
)
def test_a_store_is_named_without_keys(url: str) -> None:
    with pytest.raises(ValidationError, match="names no object store") as refused:
        Settings(store=url)
    assert "SECRET" not in str(refused.value)


def test_a_folder_that_cannot_be_made_is_a_store_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be made"):
        Objects((tmp_path / "file" / "store").as_uri())


@pytest.mark.objects
def test_a_server_that_is_killed_in_the_middle_of_an_upload_has_none_of_it(
    database: Database, object_store: ObjectStore, tmp_path: Path
) -> None:
    folders = Folders(database, tmp_path / "a", Objects(object_store.url()))
    new = made(tmp_path / "new", large=os.urandom(20 * PIECE), card=b"{}")
    with pytest.raises(ArtifactsAway) as away, object_store.dying(after=0.8):
        keep(folders, PLACE, new)
    assert SECRET not in str(away.value)
    assert not folders.facts(PLACE)
    object_store.start()
    keep(folders, PLACE, new)
    folders.sweep()
    assert len(keys(folders)) == 2
    folders.bring(PLACE)
    assert (folders.root / PLACE / "large").read_bytes() == (new / "large").read_bytes()
