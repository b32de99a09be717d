"""The rooms and their one-way doors."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.conftest import ROOT

# Which rooms a room imports: exactly these. A module belongs to the room with the longest name that fits;
# `app` is the ground floor: errors, settings, cpus, clock, interpreter.
DOORS: Mapping[str, set[str]] = {
    "app.__main__": {"app", "app.cli"},
    "training.__main__": {"app.cli"},  # the one command line
    "app.cli": {
        "app", "app.home", "app.jobs", "app.main", "app.store", "app.telemetry", "minist_client", "models",
        "models.card", "models.errors",
    },
    "minist_client": set(),  # nothing of the service: it runs where that is not
    "app.main": {"app", "app.lifespan", "app.telemetry", "app.web", "app.web.routes"},
    "app.lifespan": {
        "app", "app.home", "app.serving", "app.store", "app.telemetry", "app.web", "models",
    },
    "app.web.routes": {
        "app", "app.jobs", "app.serving", "app.store", "app.telemetry", "app.web", "models.card",
        "models.datasets", "models.errors", "models.numbers", "models.preprocessing", "models.tables",
    },
    "app.web": {
        "app", "app.jobs", "app.serving", "app.store", "app.telemetry", "models", "models.card",
        "models.errors", "models.idx", "models.numbers", "models.preprocessing", "models.tables",
    },
    "app.home": {"app", "app.jobs", "app.store"},
    "app.serving": {
        "app", "app.store", "app.telemetry", "models", "models.card", "models.datasets", "models.environment",
        "models.errors", "models.graphs", "models.idx", "models.imported", "models.numbers",
        "models.preprocessing", "models.rows", "models.tables",
    },
    "app.jobs": {
        "app", "app.store", "models", "models.card", "models.datasets", "models.environment", "models.errors",
        "training", "training.directory", "training.foreign", "training.importing",
    },
    "app.store": {"models", "models.card", "models.errors"},
    "app.telemetry": {"models.confidence"},
    "app": set(),
    "training": {
        "models", "models.architectures", "models.background", "models.card", "models.confidence",
        "models.errors", "models.graphs", "models.efficientnet", "models.imported", "models.preprocessing",
        "models.table_columns",
        "models.table_networks", "models.table_parts", "models.tables", "training.datasets",
        "training.directory", "training.errors", "training.importing", "training.supervision",
        "training.synthetic",
    },
    "training.synthetic": {"models.errors", "models.preprocessing", "training.datasets"},
    "training.datasets": {
        "models.card", "models.datasets", "models.idx", "models.imported", "models.rows", "training.errors",
        "training.importing",
    },
    "training.foreign": {
        "models", "models.architectures", "models.card", "models.datasets", "models.errors", "models.graphs",
        "models.layers", "models.stacks", "models.state_dicts", "models.tables",
        "models.weights_file", "training",
        "training.datasets", "training.directory", "training.errors", "training.supervision",
    },
    "training.importing": {
        "models", "models.idx", "models.imported", "models.preprocessing", "models.tables",
        "training.directory", "training.errors", "training.supervision",
    },
    "training.directory": set(),
    "training.supervision": set(),
    "training.errors": set(),
    "models": {
        "models.background",
        "models.architectures", "models.card", "models.errors", "models.graphs", "models.preprocessing",
        "models.state_dicts", "models.table_columns", "models.table_networks",
        "models.tables", "models.weights_file",
    },
    "models.graphs": {"models.card", "models.environment", "models.errors", "models.weights_file"},
    "models.layers": {"models.card", "models.errors"},
    "models.stacks": {"models.card", "models.errors", "models.layers"},
    "models.preprocessing": {"models.errors", "models.numbers"},
    "models.numbers": set(),
    "models.architectures": {
        "models.card", "models.efficientnet", "models.errors", "models.graphs",
        "models.networks", "models.stacks",
        "models.state_dicts", "models.table_networks", "models.weights_file",
    },
    "models.background": set(),
    "models.efficientnet": {
        "models.background", "models.card", "models.errors", "models.state_dicts", "models.weights_file",
    },
    "models.state_dicts": {"models.errors", "models.weights_file"},
    "models.weights_file": {"models.errors"},
    "models.networks": {"models.background", "models.card"},
    "models.datasets": {"models.card"},
    "models.idx": set(),
    "models.imported": set(),
    "models.rows": set(),
    "models.card": {"models.errors", "models.tables"},
    "models.confidence": set(),
    "models.tables": {"models.errors"},
    "models.table_networks": {"models.errors", "models.table_columns", "models.table_parts"},
    "models.table_parts": {"models.table_columns"},
    "models.table_columns": set(),
    "models.errors": set(),
    "models.environment": set(),
}  # fmt: skip
HTTP = {"fastapi", "starlette", "uvicorn"}
DATA = {"torchvision", "matplotlib"}


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for top in ("app", "minist_client", "models", "training"):
        for path in (ROOT / top).rglob("*.py"):
            if "migrations" not in path.parts:
                parts = path.relative_to(ROOT).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, anywhere in it; of `from a import b` the module meant."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            named = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else node.module for name in named)


def room(module: str) -> str:
    """The room that a module belongs to."""
    return max((name for name in DOORS if f"{module}.".startswith(f"{name}.")), key=len)


def arrows() -> dict[tuple[str, str], set[str]]:
    """From room to room, with the modules that make each arrow."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for module, path in MODULES.items():
        for name in imports(path):
            if name in MODULES and room(module) != room(name):
                found[room(module), room(name)].add(f"{module} -> {name}")
    return found


def floors(doors: Mapping[str, set[str]]) -> list[set[str]]:
    """The rooms from the ground up: each imports only what lies below. Rooms in a cycle are on no floor."""
    left, found = dict(doors), []
    while floor := {name for name, used in left.items() if not used & left.keys()}:
        found.append(floor)
        left = {name: used for name, used in left.items() if name not in floor}
    return found


def plan(found: Mapping[tuple[str, str], set[str]]) -> str:
    """What a person wants to see when a door is wrong."""
    doors: dict[str, set[str]] = {name: set() for name in DOORS}
    for start, end in found:
        doors[start].add(end)
    lines = [f"{len(doors)} rooms, {len(found)} arrows, {len(floors(doors))} floors (ground first)"]
    lines += [f"  {number}: {', '.join(sorted(floor))}" for number, floor in enumerate(floors(doors))]
    lines += [f"{name} -> {', '.join(sorted(used)) or 'nothing'}" for name, used in doors.items()]
    return "\n".join(lines)


def test_a_room_imports_exactly_the_rooms_that_it_may() -> None:
    found = arrows()
    allowed = {(start, end) for start, ends in DOORS.items() for end in ends}
    surplus = {arrow: sorted(found[arrow]) for arrow in found.keys() - allowed}
    assert not surplus, f"not allowed: {surplus}\n{plan(found)}"
    unused = allowed - found.keys()
    assert not unused, f"allowed, but not used any more: {unused}\n{plan(found)}"


def test_no_arrow_runs_back() -> None:
    placed = set().union(*floors(DOORS))
    assert placed == DOORS.keys(), f"in a cycle: {DOORS.keys() - placed}\n{plan(arrows())}"


def test_only_web_and_main_know_http() -> None:
    for module, path in MODULES.items():
        used = {name.partition(".")[0] for name in imports(path)} & HTTP
        if room(module) not in ("app.web", "app.web.routes", "app.main"):
            assert used <= ({"uvicorn"} if module == "app.cli.serve" else set()), module


def test_only_training_knows_torchvision_and_matplotlib() -> None:
    for module, path in MODULES.items():
        if not room(module).startswith("training"):
            assert not {name.partition(".")[0] for name in imports(path)} & DATA, module


def test_one_door_leads_from_the_app_to_training() -> None:
    doors = {
        module
        for module, path in MODULES.items()
        for name in imports(path)
        if module.startswith("app") and name in MODULES and name.startswith("training")
    }
    assert doors == {"app.jobs.executor"}


def test_the_serving_process_imports_neither_torchvision_nor_matplotlib() -> None:
    """Not even through a library: asked of a process that has the whole application loaded."""
    script = "import sys, app.cli.serve, app.main; app.main.create_app(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    loaded = {name.split(".")[0] for name in modules}
    assert "torch" in loaded
    assert not loaded & (DATA | {"alembic", "pyarrow"})
    assert {name for name in modules if name.startswith("training.")} <= {
        "training.recipes",
        "training.directory",
        "training.foreign",
        "training.foreign.order",
        "training.importing",
        "training.importing.dataset",
        "training.importing.facts",
        "training.importing.tables",
        "training.importing.tables.facts",
    }


def test_a_supervisor_does_without_torch() -> None:
    """It only watches: no reason to take the memory of a second torch."""
    script = "import sys, app.home, app.jobs.supervisor, app.cli.worker; print(*sys.modules)"
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
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, key, None) for key in ("id", "attr", "name", "arg")]
            assert not any(
                isinstance(name, str) and re.search("minist(?!er)", name.lower()) for name in names
            ), path
