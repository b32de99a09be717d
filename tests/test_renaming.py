"""Versions under another name: copies, and models that are renamed."""

from pathlib import Path

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.store import tables
from app.store.database import Database
from app.store.paths import HomePaths
from app.store.renaming import NameTaken, copy, rename
from app.store.shipped import publish_shipped
from app.store.versions import NoSuchVersion, Versions
from models.errors import CheckpointError
from tests.conftest import ADMIN
from tests.samples import PNG, is_problem


@pytest.fixture
def versions(database: Database, tmp_path: Path) -> Versions:
    versions = Versions(database, HomePaths(tmp_path))
    publish_shipped(versions)
    return versions


def test_a_copy_is_a_model_of_its_own(versions: Versions, tmp_path: Path) -> None:
    assert copy(versions, "cnn", 1, "mine", "me", "") == 1
    assert copy(versions, "minist", 1, "mine", "me", "to compare") == 2
    snapshot = versions.snapshot()
    assert snapshot.aliases["mine", "production"] == 1
    one, two = snapshot.versions["mine", 1], snapshot.versions["mine", 2]
    assert (one.intact_card().name, two.intact_card().architecture) == ("mine", "mlp")
    assert one.sha256 == snapshot.versions["cnn", 1].sha256
    assert versions.audit("mine")[0].why == "to compare"
    assert not list(tmp_path.glob("models/mine/.staged-*"))


def test_a_renamed_model_keeps_numbers_names_history_and_its_way_back(
    versions: Versions, database: Database, tmp_path: Path
) -> None:
    copy(versions, "minist", 1, "cnn", "me", "")
    versions.move("cnn", "production", 2, "me", "better")
    versions.move("cnn", "canary", 1, "me", "")
    versions.unload("cnn", "me", "")
    before = versions.snapshot()
    rename(versions, "cnn", "pens", "me", "")
    after = versions.snapshot()
    assert after.numbers["pens"] == before.numbers["cnn"] == [2, 1]
    assert "cnn" not in after.numbers
    assert "pens" in after.unloaded
    assert {alias: number for (name, alias), number in after.aliases.items() if name == "pens"} == {
        "production": 2,
        "canary": 1,
    }
    for number in (1, 2):
        assert after.versions["pens", number].intact_card().name == "pens"
        assert after.versions["pens", number].created_at == before.versions["cnn", number].created_at
    assert versions.rollback("pens", "me", "") == 1
    assert not (tmp_path / "models" / "cnn" / "1").exists()
    publish_shipped(versions)  # the next start
    assert "cnn" not in versions.snapshot().numbers
    with database.read() as connection:
        kept = connection.scalars(select(tables.versions.c.version).where(tables.versions.c.model == "cnn"))
        assert sorted(kept) == [1, 2]


def test_a_name_that_a_model_has_or_had_is_not_given(versions: Versions, tmp_path: Path) -> None:
    for taken in ("minist", "cnn"):
        with pytest.raises(NameTaken, match=f"there is a model '{taken}', or was one"):
            rename(versions, "cnn", taken, "me", "")
    versions.delete_model("cnn", "me", "")
    with pytest.raises(NameTaken):
        rename(versions, "minist", "cnn", "me", "")
    with pytest.raises(NoSuchVersion):
        rename(versions, "nobody", "somebody", "me", "")
    assert not list(tmp_path.glob("models/*/.staged-*"))


def test_a_damaged_version_is_not_copied(versions: Versions) -> None:
    version = versions.snapshot().versions["cnn", 1]
    version.weights.write_bytes(version.weights.read_bytes()[:-9])
    with pytest.raises(CheckpointError):
        rename(versions, "cnn", "pens", "me", "")
    assert versions.snapshot().numbers["cnn"] == [1]


def test_over_http(settings: Settings, digits: dict[str, bytes]) -> None:
    with TestClient(create_app(settings.model_copy(update={"feedback": True}))) as client:
        made = client.post("/models/minist/versions/1/copy", json={"to": "mine"}, headers=ADMIN)
        assert (made.status_code, made.json()["version"], made.json()["aliases"]) == (201, 1, ["production"])
        assert client.post("/predict?model=mine", content=digits["7"], headers=PNG).json()["label"] == "7"
        assert client.post("/models/mine/rename", json={"to": "ours"}, headers=ADMIN).status_code == 204
        seen = client.post("/predict?model=ours", content=digits["7"], headers=PNG).json()
        assert (seen["model"], seen["label"]) == ("ours", "7")
        assert client.post("/predict?model=mine", content=digits["7"], headers=PNG).status_code == 404
        is_problem(client.post("/models/digits/rename", json={"to": "x"}, headers=ADMIN), 409, "Conflict")
        is_problem(client.post("/models/ours/rename", json={"to": "mine"}, headers=ADMIN), 409, "Conflict")
        assert client.post("/models/ours/rename", json={"to": "x"}).status_code == 401
