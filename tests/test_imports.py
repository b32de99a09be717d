"""The rooms and their one-way doors."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

ALLOWED = {"models": {"models"}, "training": {"models", "training"}, "app": {"models", "app"}}
HTTP = {"fastapi", "starlette", "uvicorn"}
DATA = {"torchvision", "matplotlib"}


def imports(path: Path) -> Iterator[str]:
    """Top-level names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


DOORS = {  # the two that lead elsewhere
    ROOT / "app" / "jobs" / "executor.py": "training",  # names and settings of recipes
    ROOT / "training" / "__main__.py": "app",  # the one command line
}


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        used = set(imports(path))
        assert used & set(ALLOWED) <= ALLOWED[room] | {DOORS.get(path, room)}, path
        assert not (room != "app" and used & HTTP), path
        assert not (room != "training" and used & DATA), path


def test_the_store_knows_nothing_of_the_rooms_above_it() -> None:
    for path in (ROOT / "app" / "store").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and path.stem != "recent_predictions":
                assert not re.match(r"app\.(web|serving|jobs|main|cli)\b", node.module or ""), path


def test_the_serving_process_imports_neither_torchvision_nor_matplotlib() -> None:
    """Not even through a library: asked of a process that has the whole application loaded."""
    script = "import sys, app.cli.serve, app.main; app.main.create_app(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    loaded = {name.split(".")[0] for name in modules}
    assert "torch" in loaded
    assert not loaded & (DATA | {"alembic"})
    assert {name for name in modules if name.startswith("training.")} <= {
        "training.recipes",
        "training.directory",
    }


def test_a_supervisor_does_without_torch() -> None:
    """It only watches: no reason to take the memory of a second torch."""
    script = "import sys, app.cli.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.split()


def test_a_card_is_read_without_torch() -> None:
    script = (
        "import sys; from pathlib import Path; from models.card import Shape, read_card;"
        "print(read_card(Path('models/weights/digits.json')).input_shape, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["(1,", "28,", "28)", "False"]


def test_importing_a_room_changes_nothing() -> None:
    """No threads started, no thread count set, no file written: nothing happens at import."""
    script = (
        "import threading, torch; before = torch.get_num_threads(), threading.active_count();"
        "import app.main, app.cli.serve, app.cli.worker, training.run, training.__main__, training.cli;"
        "assert before == (torch.get_num_threads(), threading.active_count())"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=ROOT, check=True)


def test_no_identifier_repeats_the_misspelling() -> None:
    """`minist` is the name of the project and of a file; code says MNIST."""
    for room in ALLOWED:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [getattr(node, key, None) for key in ("id", "attr", "name", "arg")]
                assert not any(
                    isinstance(name, str) and re.search("minist(?!er)", name.lower()) for name in names
                ), path
