"""The command line: its table, its help, `publish`, and what lies in the working directory."""

import os
import shutil
import subprocess
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest

import app
from app import cli
from app.cli.deployment import open_home, read_settings
from app.interpreter import module_command
from app.jobs.executor import check_config
from app.settings import Settings
from tests.conftest import ROOT, SAMPLE
from tests.processes import run_job, service, wait_for

SHOWN = [command for command in cli.COMMANDS if command.summary]
RUN = ("--recipe", "softmax-mnist", "--epochs", "1", "--validation-images", "100", "--data-dir", str(SAMPLE))


def minist(*words: object, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """`minist` in a process of its own, with the code of this checkout."""
    return subprocess.run(
        module_command("app", *map(str, words)),
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that has come to its end."""
    directory = tmp_path_factory.mktemp("runs") / "mine"
    assert cli.main(["train", *RUN, "--name", "mine", "--out", str(directory)]) == 0
    return directory


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help_of_its_own(command: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    module, _, function = command.entry.partition(":")
    assert callable(getattr(import_module(module), function))
    with pytest.raises(SystemExit) as ended:
        cli.main([command.name, "--help"])
    assert ended.value.code == 0
    assert f"usage: minist {command.name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("train", "--recipe", "mpl"), "'mlp'"),
        (("train", "--recipe", "mlp", "--epocs", "3"), "'--epochs'"),
        (("train", "photos.zip", "--recipe", "smal-image"), "'small-image'"),
        (("publish", "runs/mine", "--promoted=never"), "'--promote'"),
        (("models", "pont", "minist", "canary", "1"), "'point'"),
        (("datasets", "import", "photos.zip", "--sise", "32"), "'--size'"),
    ],
)
def test_what_was_mistyped_is_suggested(
    words: tuple[str, ...], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_models_runs_and_data_sets_are_tables(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIST_HOME", str(tmp_path))

    def told(*words: str) -> list[str]:
        capsys.readouterr()
        cli.main(words)
        shown = capsys.readouterr()
        return (shown.out + shown.err).splitlines()

    assert told("runs") == ["no training jobs yet: POST /train starts one"]
    assert told("datasets")[0].startswith("no data sets of your own yet")
    cli.main(["publish", str(finished)])
    home = open_home(read_settings())
    with closing(home.database):
        config = check_config("softmax-mnist", {"name": "mine", "threads": 1, "epochs": 2})
        job = home.queue.submit(config, "never", 10, None)
        home.queue.label(job.id, {"name": "higher rate", "notes": "diverges", "tags": ["keep"]})
    heads, *rows = told("models")
    row = next(row for row in rows if row.startswith("mine@1 "))
    assert heads.split() == ["version", "made", "accuracy", "data", "layers", "names"]
    assert [row.split()[i] for i in (0, 4, 6)] == ["mine@1", "mnist", "production"]
    assert row.index("production") == heads.index("names")
    heads, row = told("runs", "--model", "mine")
    assert row.split()[1:6] == ["mine", "softmax-mnist", "mnist", "queued", "0/2"]
    assert row.index("queued") == heads.index("status")
    assert row.endswith("higher rate #keep")
    assert told("runs", "--search", "diverges #keep mnist") == [heads, row]
    assert told("runs", "--search", "diverges other") == ["no such training jobs"]
    assert told("models", "copy", "mine@1", "other") == ["mine@1 is other@1 now too"]
    assert told("models", "rename", "other", "ours") == ["other is called ours"]
    assert told("models", "rename", "ours", "Mine")[0].startswith("error: 'Mine' is no name")
    assert told("models", "delete", "mone")[0].endswith("did you mean 'mine'?")


@pytest.mark.parametrize("module", ["app", "training"])
def test_both_modules_print_the_same_help(module: str) -> None:
    """Every command, an example, and every environment variable with its default."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: minist COMMAND")
    assert all(f"\n  {command.name} " in done.stdout for command in SHOWN)
    assert "\n  minist train --recipe mlp" in done.stdout
    assert all(f"\n  MINIST_{name.upper()} " in done.stdout for name in Settings.model_fields)
    assert done.stdout == minist("--help").stdout


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"minist {app.__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [(["sreve"], "did you mean 'serve'?"), (["x"], "choose one of serve, keys"), ([], "usage:")],
)
def test_a_wrong_command_is_status_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err


def test_the_table_imports_nothing_heavy() -> None:
    """Whoever asks for the version waits for neither torch nor pydantic nor the database."""
    script = "import sys, app.cli; app.cli.main(['--version']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "pydantic", "sqlalchemy", "asyncio"} & set(done.stdout.split())


def test_a_published_run_is_served_while_the_service_runs(
    finished: Path, tmp_path: Path, digits: dict[str, bytes]
) -> None:
    with service(tmp_path, "api") as (_, client):
        assert client.get("/models/mine").status_code == 404
        done = minist("publish", finished, MINIST_HOME=str(tmp_path))
        assert done.stdout == (
            "published mine@1; production points at it: it is the model's first version\n"
        ), done.stderr
        answer = wait_for(lambda: served(client.post("/predict?model=mine", files={"file": digits["7"]})))
        assert (answer["model"], answer["version"]) == ("mine", 1)
        again = minist("publish", finished, "--promote", "never", MINIST_HOME=str(tmp_path))
        assert "published mine@2; production stays where it is" in again.stdout
        kept, published, promoted, first = client.get("/models/mine/audit").json()
        assert [row["action"] for row in (first, promoted, published, kept)] == [
            "publish",
            "promote",
            "publish",
            "keep",
        ]
        assert "@" in first["who"]
        assert [row["version"] for row in client.get("/models/mine/versions").json()] == [2, 1]
    assert (tmp_path / "models" / "mine" / "1" / "report.html").exists()
    assert not list((tmp_path / "models" / "mine").glob(".staged*"))


def served(response: object) -> dict[str, object] | None:
    found: dict[str, object] | None = response.json() if response.status_code == 200 else None  # type: ignore[attr-defined]
    return found


def test_what_is_no_finished_run_is_not_published(finished: Path, tmp_path: Path) -> None:
    unfinished, damaged = tmp_path / "unfinished", tmp_path / "damaged"
    unfinished.mkdir()
    shutil.copy(finished / "config.json", unfinished)
    shutil.copytree(finished, damaged)
    weights = damaged / "mine.pth"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    for directory, said in (
        (tmp_path / "nowhere", "holds no run"),
        (unfinished, "has not finished: go on with 'minist train --resume"),
        (damaged, "its sha256 is"),
    ):
        done = minist("publish", directory, MINIST_HOME=str(tmp_path / "home"))
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert said in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_folder_of_our_names_in_the_working_directory_changes_nothing(
    tmp_path: Path, digits: dict[str, bytes]
) -> None:
    """Service, API workers, supervisor and a job's process, started where `app` and `training` are poison."""
    for name in ("app", "models", "training"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the wrong {name}')\n")
    home = tmp_path / "home"
    home.mkdir()
    command = module_command("app", "serve", "--workers", "2")
    with service(home, command=command, cwd=tmp_path) as (_, client):
        assert client.post("/predict", files={"file": digits["7"]}).json()["label"] == "7"
        run_job(client)
    assert "the wrong" not in (home / "service.log").read_text()


@pytest.mark.parametrize("module", ["app", "training"])
def test_python_m_takes_only_itself_from_the_working_directory(module: str, tmp_path: Path) -> None:
    """`python -m app` where a folder `training` is poison (and the other way round) uses ours."""
    other = {"app": "training", "training": "app"}[module]
    (tmp_path / other).mkdir()
    (tmp_path / other / "__init__.py").write_text(f"raise SystemExit('the wrong {other}')\n")
    words = [sys.executable, "-m", module, "train", "--list"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "softmax-mnist" in done.stdout
