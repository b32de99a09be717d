"""Keys, scopes, and what is open."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from starlette.testclient import TestClient

from app.cli import main
from app.main import create_app
from app.settings import Settings
from app.store.database import Database
from app.store.keys import Keys
from tests.conftest import ADMIN, ADMIN_KEY
from tests.samples import is_problem

JOB = {"model": "minist", "recipe": "mlp", "epochs": 1}
CHANGES = [
    ("POST", "/train", JOB),
    ("DELETE", "/train/x", None),
    ("POST", "/train/x/resume", None),
    ("PUT", "/models/minist/aliases/production", {"version": 1}),
    ("POST", "/models/minist/rollback", None),
    ("DELETE", "/models/minist/versions/1", None),
    ("DELETE", "/models/minist/aliases/x", None),
    ("DELETE", "/models/minist", None),
]
READS = ["/models", "/models/minist", "/models/minist/versions", "/models/minist/audit", "/train", "/info"]


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    database = Database(tmp_path)
    database.migrate()
    yield Keys(database, None)
    database.close()


def test_a_key_is_256_random_bits_and_stored_as_a_digest(keys: Keys) -> None:
    key = keys.create("ci", ["train"])
    key_id, _, secret = key.partition(".")
    assert len(secret) == 43  # 32 bytes in base64
    identity = keys.identify(key)
    assert identity is not None
    assert identity.who == f"ci ({key_id})"
    assert identity.may("train")
    assert not identity.may("admin")
    for path in keys.database.path.parent.iterdir():
        assert secret.encode() not in path.read_bytes()


@pytest.mark.parametrize("wrong", ["", ".", "x", "00000000.x", "é.ü"])
def test_wrong_keys_are_nobody(keys: Keys, wrong: str) -> None:
    key = keys.create("ci", ["train"])
    assert keys.identify(wrong) is None
    assert keys.identify(key[:-1]) is None
    assert keys.identify(key.partition(".")[0] + "." + wrong) is None


def test_a_revoked_key_is_nobody(keys: Keys) -> None:
    key = keys.create("ci", ["admin"])
    assert keys.revoke(key.partition(".")[0])
    assert not keys.revoke(key.partition(".")[0])
    assert keys.identify(key) is None


def test_the_first_start_makes_an_admin_key_that_only_the_owner_reads(keys: Keys, tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    key = keys.make_first(path)
    assert key is not None
    assert path.read_text().strip() == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    identity = keys.identify(key)
    assert identity is not None
    assert identity.may("admin")
    assert keys.make_first(path) is None


def test_a_configured_key_is_used_instead(keys: Keys, tmp_path: Path) -> None:
    configured = Keys(keys.database, "mine")
    assert configured.make_first(tmp_path / "admin.key") is None
    assert not (tmp_path / "admin.key").exists()
    identity = configured.identify("mine")
    assert identity is not None
    assert identity.may("train")


def test_the_command_line_creates_lists_and_revokes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIST_HOME", str(tmp_path))
    main(["keys", "create", "--name", "laptop", "--scope", "train", "--scope", "predict"])
    key_id, _, secret = capsys.readouterr().out.strip().partition(".")
    main(["keys", "list"])
    listed = capsys.readouterr().out
    assert f"{key_id}  train,predict" in listed
    assert "laptop" in listed
    assert secret not in listed
    main(["keys", "revoke", key_id])
    assert main(["keys", "revoke", key_id]) == 1
    assert "no key" in capsys.readouterr().err


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_whatever_changes_state_needs_a_key(
    client: TestClient, method: str, path: str, body: dict[str, object] | None
) -> None:
    response = client.request(method, path, json=body)
    is_problem(response, 401, "Unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    wrong = client.request(method, path, json=body, headers={"x-api-key": "nope"})
    is_problem(wrong, 401, "Unauthorized")


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(
        home=tmp_path_factory.mktemp("closed"), device="cpu", api_key=SecretStr(ADMIN_KEY), open_predict=False
    )
    with TestClient(create_app(settings)) as client:
        yield client


def test_a_key_without_the_scope_is_forbidden(client: TestClient, settings: Settings) -> None:
    store = Keys(Database(settings.home), None)
    train, predict = store.create("t", ["train"]), store.create("p", ["predict"])
    store.database.close()
    is_problem(client.post("/train", json=JOB, headers={"x-api-key": predict}), 403, "Forbidden")
    move = client.put("/models/minist/aliases/x", json={"version": 1}, headers={"x-api-key": train})
    is_problem(move, 403, "Forbidden")
    job = client.post("/train", json=JOB, headers={"authorization": f"bearer {train}"})
    assert job.status_code == 202
    assert client.delete(f"/train/{job.json()['id']}", headers={"x-api-key": train}).status_code == 200


def test_predictions_and_reads_are_open_by_default(client: TestClient, digits: dict[str, bytes]) -> None:
    assert client.post("/predict", files={"file": digits["1"]}).status_code == 200
    assert all(client.get(path).status_code == 200 for path in READS)


def test_closed_predictions_and_reads_need_a_key(closed: TestClient, digits: dict[str, bytes]) -> None:
    is_problem(closed.post("/predict", files={"file": digits["1"]}), 401, "Unauthorized")
    is_problem(closed.post("/predict/batch", files={"files": digits["1"]}), 401, "Unauthorized")
    for path in READS:
        is_problem(closed.get(path), 401, "Unauthorized")
        assert closed.get(path, headers=ADMIN).status_code == 200
    assert closed.post("/predict", files={"file": digits["1"]}, headers=ADMIN).status_code == 200
    assert closed.get("/readyz").status_code == 200  # probes stay open
    assert closed.get("/livez").status_code == 200


@pytest.mark.parametrize("length", [1, 15])
def test_a_short_key_is_refused(length: int) -> None:
    with pytest.raises(ValidationError, match="at least 16 characters"):
        Settings(api_key=SecretStr("k" * length))
    assert Settings(api_key=SecretStr("k" * 16)).api_key is not None
