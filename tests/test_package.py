"""The wheel, installed where nothing else of this project is."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import app
from tests.conftest import ROOT
from tests.processes import run_job, service

pytestmark = [pytest.mark.package, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git has or would take: setuptools leaves its `build` beside the source."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    words = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={target}", str(source)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = target.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an empty environment with the wheel; what it depends on is borrowed from ours."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=False)
    python = directory / "bin" / "python"
    words = ["--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (packages,) = directory.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join(borrowed_paths()) + "\n")
    return directory / "bin"


def borrowed_paths() -> list[str]:
    """Where the packages of this environment lie, without this checkout."""
    return [path for path in sys.path if path.endswith("site-packages")]


def test_it_holds_all_that_the_service_reads(wheel: Path) -> None:
    """Page, documentation, weights, migrations, the report's template, and the marks of typed packages."""
    files = zipfile.ZipFile(wheel).namelist()
    assert f"minist-{app.__version__}" in wheel.name
    for folder in ("app/static", "app/store/migrations", "models/weights"):
        here = {
            str(path.relative_to(ROOT))
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.suffix not in (".pyc", ".sh")
        }
        assert here <= set(files), here - set(files)
    assert "training/report.html" in files
    assert {f"{package}/py.typed" for package in ("app", "minist_client", "models", "training")} <= set(files)
    assert not [name for name in files if re.match(r"(tests|benchmarks|docs|examples)/", name)]
    assert any(name.endswith("licenses/LICENSE") for name in files)


def test_the_service_answers_and_trains_from_a_foreign_directory(
    installed: Path, tmp_path: Path, digits: dict[str, bytes]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with service(home, command=[str(installed / "minist"), "serve"], cwd=tmp_path) as (_, client):
        page = client.get("/")
        assert page.status_code == 200
        for url in re.findall(r'(?:src|href)="([^"#:]+)"', page.text):
            assert client.get(url).status_code == 200, url
        assert client.get("/docs").status_code == 200
        assert client.get("/openapi.json").json()["info"]["version"] == app.__version__
        assert client.post("/predict", files={"file": digits["7"]}).json()["label"] == "7"
        job = run_job(client)
        assert client.get(f"/train/{job['id']}/artifacts/report.html").status_code == 200


def test_its_code_is_that_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    packages = ("app", "minist_client", "models", "training")
    script = f"import {', '.join(packages)}; print({', '.join(f'{name}.__file__' for name in packages)})"
    words = [str(installed / "python"), "-c", script]
    found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert all(Path(name).is_relative_to(installed.parent) for name in found), found


def test_its_command_says_its_version(installed: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(installed / "minist"), "--version"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"minist {app.__version__}\n"
