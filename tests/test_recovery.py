"""Lost, older and torn state: the service starts, says so, and destroys nothing. Backups."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli import main
from app.home import Home
from app.settings import Settings
from app.store.backup import back_up, restore
from app.store.check import check
from app.store.database import Database
from app.store.errors import StoreError
from app.store.paths import HomePaths
from app.store.recovery import STAGED_SECONDS
from app.store.versions import Versions, digest_of
from tests.conftest import ROOT, SHIPPED, WEIGHTS
from tests.own import imported

Files = dict[str, bytes]


@pytest.fixture
def paths(tmp_path: Path) -> HomePaths:
    return HomePaths(tmp_path / "home")


def start(paths: HomePaths) -> Versions:
    """What every process of the service does first; closed, so that files can be taken away."""
    home = Home.open(Settings(home=paths.root, device="cpu"))
    home.database.close()
    return home.versions


def add_version(paths: HomePaths, number: int, accuracy: float, model: str = "minist") -> Path:
    """A whole version on disk, without a row."""
    directory = paths.version(model, number)
    directory.mkdir(parents=True)
    (directory / f"{model}.pth").write_bytes((WEIGHTS / "minist.pth").read_bytes() + bytes(number))
    card = json.loads((WEIGHTS / "minist.json").read_text())
    card["sha256"] = digest_of(directory / f"{model}.pth")
    card["metrics"]["test"]["accuracy"] = accuracy
    (directory / f"{model}.json").write_text(json.dumps(card))
    return directory


def files(directory: Path) -> Files:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_a_lost_database_costs_no_version(paths: HomePaths) -> None:
    versions = start(paths)
    add_version(paths, 2, 0.999)
    add_version(paths, 3, 0.5)
    before = files(paths.models)
    for file in paths.root.glob("minist.db*"):
        file.unlink()
    versions = start(paths)
    snapshot = versions.snapshot()
    assert {number for model, number in snapshot.versions if model == "minist"} == {1, 2, 3}
    assert snapshot.aliases["minist", "production"] == 2  # the best of those on disk
    assert all(snapshot.aliases[model, "production"] == 1 for model in SHIPPED if model != "minist")
    assert [entry.action for entry in versions.audit("minist")] == ["promote", "adopt", "adopt", "adopt"]
    assert files(paths.models) == before
    assert start(paths).snapshot() == snapshot  # nothing is adopted twice


def test_an_older_database_adopts_what_came_later_and_moves_no_alias(paths: HomePaths, tmp_path: Path) -> None:
    start(paths)
    shutil.copy(paths.database, tmp_path / "old.db")
    add_version(paths, 2, 0.999)
    start(paths)
    shutil.copy(tmp_path / "old.db", paths.database)
    snapshot = start(paths).snapshot()
    assert ("minist", 2) in snapshot.versions
    assert snapshot.aliases["minist", "production"] == 1


@pytest.mark.parametrize("damage", ["no card", "no weights", "half", "foreign card"])
def test_a_folder_that_is_not_whole_is_set_aside(paths: HomePaths, damage: str) -> None:
    start(paths)
    directory = add_version(paths, 2, 0.9)
    if damage == "half":
        (directory / "minist.pth").write_bytes(b"half")
    elif damage == "foreign card":
        (directory / "minist.json").write_text('{"a": 1}')
    else:
        (directory / ("minist.json" if damage == "no card" else "minist.pth")).unlink()
    before = files(directory)
    versions = start(paths)
    assert ("minist", 2) not in versions.snapshot().versions
    (aside,) = paths.model("minist").glob(".set-aside-2-*")
    assert files(aside) == before
    (found,) = [finding for finding in check(versions) if finding.problem]
    assert "was set aside" in str(found.problem)


def test_a_deletion_that_was_not_committed_is_taken_back(paths: HomePaths) -> None:
    start(paths)
    before = files(paths.version("minist", 1))
    paths.version("minist", 1).rename(paths.model("minist") / ".deleted-1-abcd")
    start(paths)
    assert files(paths.version("minist", 1)) == before


def test_a_deletion_that_was_committed_is_finished(paths: HomePaths) -> None:
    versions = start(paths)
    versions.delete_model("minist", "me", "")
    left = paths.model("minist") / ".deleted-1-abcd"
    left.mkdir()
    (left / "minist.pth").write_bytes(b"x")
    start(paths)
    assert not left.exists()


def test_what_a_dead_process_staged_is_removed_and_what_a_living_one_stages_is_not(paths: HomePaths) -> None:
    versions = start(paths)
    dead = paths.model("minist") / ".staged-dead"
    dead.mkdir()
    os.utime(dead, (time.time() - STAGED_SECONDS - 1,) * 2)
    with versions.staged("minist", [WEIGHTS / "minist.json"]) as staged:
        start(paths)
        assert staged.folder.exists()
    assert not dead.exists()
    assert not staged.folder.exists()


def test_instances_that_start_at_once_on_a_new_volume_make_it_once(tmp_path: Path) -> None:
    """Each is pid 1 in a container of its own, so that nothing may be named by it."""
    script = (
        "import os, sys; os.getpid = lambda: 1\n"
        "from pathlib import Path\n"
        "from app.home import Home; from app.settings import Settings\n"
        "home = Home.open(Settings(home=Path(sys.argv[1])))\n"
        "print(home.keys.make_first(home.paths.admin_key) or '')"
    )
    for attempt in range(3):
        paths = HomePaths(tmp_path / str(attempt))
        command = [sys.executable, "-c", script, str(paths.root)]
        started = [
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        printed = []
        for process in started:
            out, error = process.communicate(timeout=120)
            assert process.returncode == 0, error
            printed.append(out.strip())
        (key,) = filter(None, printed)
        assert paths.admin_key.read_text().strip() == key
        versions = Versions(Database(paths.root), paths)
        assert set(versions.snapshot().versions) == {(model, 1) for model in SHIPPED}
        assert not [finding for finding in check(versions) if finding.problem]
        versions.database.close()


def test_check_names_what_is_damaged_missing_and_left_over(paths: HomePaths) -> None:
    versions = start(paths)
    (paths.version("cnn", 1) / "cnn.pth").write_bytes(b"damaged")
    shutil.rmtree(paths.version("digits", 1))
    paths.run("unknown").mkdir(parents=True)
    before = files(paths.models)
    problems = {finding.subject: finding.problem for finding in check(versions) if finding.problem}
    assert set(problems) == {"cnn@1", "digits@1", str(paths.run("unknown"))}
    assert "it is damaged" in str(problems["cnn@1"])
    assert "cannot be read" in str(problems["digits@1"])
    assert files(paths.models) == before


# -- backups -------------------------------------------------------------------------------------------


@pytest.fixture
def served(paths: HomePaths) -> Iterator[Home]:
    """A home as a running service holds it."""
    home = Home.open(Settings(home=paths.root, device="cpu"))
    home.keys.create("trainer", ["train"])
    yield home
    home.database.close()


def test_a_backup_of_a_running_service_restores_all_of_it(
    served: Home, paths: HomePaths, tmp_path: Path
) -> None:
    file, other = tmp_path / "backup.tar", HomePaths(tmp_path / "other")
    add_version(paths, 2, 0.9)
    done = back_up(served.versions, file)
    assert (done.versions, done.left_out) == (len(SHIPPED), ())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list(paths.root.glob(".backup-*"))
    assert restore(other, file) is None
    before = served.versions.snapshot()
    restored = start(other)
    assert restored.snapshot().aliases == before.aliases
    assert list(restored.snapshot().versions) == [*before.versions]
    assert files(other.version("digits", 1)) == files(paths.version("digits", 1))
    with Database(other.root).read() as connection:
        assert connection.exec_driver_sql("SELECT name FROM keys").scalar() == "trainer"
    assert stat.S_IMODE(other.database.stat().st_mode) == 0o600


@pytest.fixture
def with_dataset(paths: HomePaths) -> HomePaths:
    """A home with a data set, and with the file that it came as."""
    found = imported(paths.datasets, "colours", ("red", "blue"), 6)
    paths.sources.mkdir()
    (paths.datasets / "colours.zip").rename(paths.source(found.profile.source_digest))
    return paths


def problems(versions: Versions) -> dict[str, str]:
    return {finding.subject: finding.problem for finding in check(versions) if finding.problem}


def test_a_backup_holds_the_data_sets(with_dataset: HomePaths, tmp_path: Path) -> None:
    versions = start(with_dataset)
    done = back_up(versions, tmp_path / "backup.tar")
    assert (done.datasets, done.left_out) == (1, ())
    other = HomePaths(tmp_path / "other")
    restore(other, tmp_path / "backup.tar")
    assert files(other.datasets) == files(with_dataset.datasets)
    assert not problems(start(other))
    small = back_up(versions, tmp_path / "small.tar", with_datasets=False)
    assert (small.datasets, small.left_out) == (0, ())


def test_damage_to_a_data_set_is_found_and_left_out(with_dataset: HomePaths, tmp_path: Path) -> None:
    versions = start(with_dataset)
    (source,) = with_dataset.sources.iterdir()
    images = with_dataset.dataset("colours", 1) / "images.npy"
    assert not problems(versions)
    source.write_bytes(b"another file")
    images.write_bytes(images.read_bytes()[:-10])
    assert "upload the file again" in problems(versions)[str(source)]
    assert "import it again" in problems(versions)["data set colours@1"]
    done = back_up(versions, tmp_path / "backup.tar")
    assert done.datasets == 0
    assert len(done.left_out) == 2
    other = HomePaths(tmp_path / "other")
    restore(other, tmp_path / "backup.tar")
    assert set(problems(start(other))) == {"data set colours@1", str(other.source(source.name))}


def test_what_a_backup_replaces_is_kept(served: Home, paths: HomePaths, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    back_up(served.versions, file)
    with pytest.raises(StoreError, match="in use: stop the service first"):
        restore(paths, file)
    served.database.close()
    add_version(paths, 2, 0.9)
    start(paths)
    before = files(paths.models)
    aside = restore(paths, file)
    assert aside is not None
    assert files(aside / "models") == before
    assert paths.datasets.is_dir()
    assert ("minist", 2) not in start(paths).snapshot().versions


def test_a_damaged_version_is_left_out_of_a_backup_and_named(
    served: Home, paths: HomePaths, tmp_path: Path
) -> None:
    (paths.version("cnn", 1) / "cnn.pth").write_bytes(b"damaged")
    done = back_up(served.versions, tmp_path / "backup.tar")
    assert done.versions == len(SHIPPED) - 1
    assert [line.partition(":")[0] for line in done.left_out] == ["cnn@1"]
    other = HomePaths(tmp_path / "other")
    restore(other, tmp_path / "backup.tar")
    assert ("digits", 1) in start(other).snapshot().versions


def test_what_is_no_backup_changes_nothing(paths: HomePaths, tmp_path: Path) -> None:
    start(paths)
    before = files(paths.root)
    good = tmp_path / "good.tar"
    back_up(Versions(Database(paths.root), paths), good)
    torn = tmp_path / "torn.tar"
    torn.write_bytes(good.read_bytes()[:-100_000])  # the last version is cut off with what follows it
    junk = tmp_path / "junk.tar"
    junk.write_bytes(b"junk" * 1000)
    foreign = tmp_path / "foreign.tar"
    with tarfile.open(foreign, "w") as archive:
        archive.add(WEIGHTS / "minist.json", "../../outside.json")
    link = tmp_path / "link.tar"
    with tarfile.open(link, "w") as archive:
        entry = tarfile.TarInfo("minist.db")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    changed = tmp_path / "changed.tar"
    data = bytearray(good.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    for file in (torn, junk, foreign, link, changed, tmp_path / "nowhere.tar"):
        with pytest.raises((StoreError, OSError)):
            restore(paths, file)
        assert files(paths.models) == {
            name.removeprefix("models/"): data for name, data in before.items() if name.startswith("models/")
        }
        assert not list(paths.root.glob(".restore-*"))
    assert not (tmp_path / "outside.json").exists()


# -- the command line ----------------------------------------------------------------------------------


def test_models_check_backup_and_restore_work_without_the_service(
    paths: HomePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIST_HOME", str(paths.root))

    def run(*words: str) -> tuple[int, str]:
        status = main(list(words))
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    start(paths)
    add_version(paths, 2, 0.5)
    assert run("models", "verify", "cnn") == (0, "cnn@1: ok\n")
    status, text = run("models", "list")
    assert status == 0
    assert [line.split()[0] for line in text.splitlines() if line.startswith("minist@")] == [
        "minist@1",
        "minist@2",
    ]
    assert run("models", "point", "minist", "canary", "1") == (0, "minist@canary is version 1\n")
    assert run("models", "delete", "minist@canary")[0] == 0
    status, text = run("models", "delete", "minist@1")
    assert status == 1
    assert "production points at it" in text
    (paths.version("minist", 2) / "minist.pth").write_bytes(b"damaged")
    status, text = run("check")
    assert status == 1
    assert "minist@2: " in text
    assert "digits@1: ok" in text
    assert run("models", "verify", "minist@2")[0] == 1
    status, text = run("backup", str(tmp_path / "b.tar"))
    assert status == 1
    assert "left out: minist@2" in text
    status, text = run("restore", str(tmp_path / "b.tar"))
    assert status == 0
    assert "what was there lies in" in text
    assert run("check")[0] == 1  # version 2 has a row, but could not be brought back
    assert run("models", "delete", "minist@2")[0] == 0
    assert run("check")[0] == 0


def test_a_damaged_database_is_one_line(
    paths: HomePaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIST_HOME", str(paths.root))
    start(paths)
    with sqlite3.connect(paths.database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with paths.database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    assert main(["check"]) == 1
    assert "is damaged" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is damaged") as error:
        main(["keys", "list"])
    assert "\n" not in str(error.value)
