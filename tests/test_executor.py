"""How a job's process is started."""

import os
from pathlib import Path

import pytest

from app.jobs.executor import LocalExecutor, RunDirectory
from tests.conftest import SAMPLE
from tests.samples import config


def test_a_folder_called_as_ours_in_the_working_directory_does_not_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one beside the run directory, or on PYTHONPATH."""
    for room in ("app", "training", "models"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(config(epochs=1).model_dump_json())
    child = LocalExecutor(SAMPLE, "cpu").start(run, lease=60)
    try:
        assert child.exit_code(wait=True) == 0, run.log.read_text()
        assert run.weights("minist").exists()
    finally:
        child.kill()
