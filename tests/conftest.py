"""Real things to test on: data sets, digits, a running application."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.store.database import Database
from tests import object_store as objects
from tests.object_store import ObjectStore
from tests.postgres import Server, running
from training.datasets import Dataset, load_dataset

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "tests" / "data"  # 500 + 200 digits of MNIST, in torchvision's layout
WEIGHTS = ROOT / "models" / "weights"
ADMIN_KEY = "the-key-of-the-tests"
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
SHIPPED = (
    "digits",
    "minist",
    "cnn",
    "softmax-mnist",
    "fashion",
    "fashion-softmax",
    "fashion-mlp",
    "fashion-cnn",
)


SLOW = (
    "test_survival.py",
    "test_soak.py",
    "test_container.py",
    "test_store_away.py",
    "test_fuzz.py",
    "test_weights.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest go first, so that two processes end at about the same time."""
    items.sort(key=lambda item: item.path.name not in SLOW)


@pytest.fixture(scope="session")
def cpu() -> torch.device:
    return torch.device("cpu")


@pytest.fixture(scope="session")
def sample() -> Dataset:
    return load_dataset("mnist", SAMPLE)


@pytest.fixture(scope="session")
def full_data() -> Path:
    """Root of the complete data sets; the test is skipped where they are not to be found."""
    root = Path(os.environ.get("MINIST_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(f"the full data sets are not in {root}: set MINIST_DATA_DIR")
    return root


@pytest.fixture(scope="session")
def digits() -> dict[str, bytes]:
    """The PNG files of examples/, by label."""
    return {str(label): (ROOT / "examples" / f"{label}.png").read_bytes() for label in range(10)}


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        home=tmp_path_factory.mktemp("home"), data_dir=SAMPLE, device="cpu", api_key=SecretStr(ADMIN_KEY)
    )


@pytest.fixture(scope="session")
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        registry = client.app_state["services"].registry
        registry.refresh()
        registry.freeze()  # else an answer may differ in its ninth digit from the one before
        yield client


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A Postgres for all tests, each of which has a database of its own."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectStore]:
    with objects.running() as server:
        yield server


@pytest.fixture
def object_store(object_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A running S3 server, which the environment names."""
    object_server.name(monkeypatch)
    object_server.start()
    return object_server


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.objects)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty object store. The test runs with a folder and with a server."""
    if request.param == "folder":
        return (tmp_path / "store").as_uri()
    server: ObjectStore = request.getfixturevalue("object_store")
    return server.url()


@pytest.fixture(scope="session")
def template(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with our tables; to copy it takes less than to make it."""
    url = postgres.database()
    database = Database(tmp_path_factory.mktemp("template"), url=url)
    database.migrate()
    database.close()
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Of a new Postgres with our tables; None for SQLite. The test runs with both."""
    if request.param == "sqlite":
        return None
    server: Server = request.getfixturevalue("postgres")
    return server.database(request.getfixturevalue("template"))


@pytest.fixture
def database(tmp_path: Path, database_url: str | None) -> Iterator[Database]:
    """A new database, of either kind."""
    database = Database(tmp_path, url=database_url)
    database.migrate()
    yield database
    database.close()
