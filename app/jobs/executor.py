"""What runs a job. The single door from `app` to `training`.

Another executor (Ray, Kubernetes) implements the two protocols and knows nothing of the queue.
"""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, Protocol

from pydantic import Field

from app.interpreter import module_command
from models.datasets import DATASETS
from models.environment import without_secrets
from training.directory import RunDirectory as RunDirectory  # for the rest of app, too
from training.foreign.order import check_order
from training.importing.dataset import ImageProfile as ImageProfile  # for the rest of app, too
from training.importing.dataset import Options as PictureOptions
from training.importing.dataset import Profile as Profile  # for the rest of app, too
from training.importing.dataset import TableProfile as TableProfile  # for the rest of app, too
from training.importing.dataset import as_table, options_of
from training.importing.dataset import read_profile as read_profile  # for the rest of app, too
from training.importing.tables.facts import TableDraft as TableDraft  # for the rest of app, too
from training.importing.tables.facts import TableOptions
from training.recipes import FROM_SCRATCH, RECIPES, Config, Recipe
from training.recipes import Resources as Resources  # for the rest of app, too

DECIDED_HERE = (
    "recipe",
    "name",
    "architecture",
    "mean",
    "std",
    "threads",
    "init_from",
    "teacher",
    "teacher_share",
    "search",
    "resources",
)  # by recipe, request, deployment

_DATASET = (
    "data set to train on: `mnist`, `fashion-mnist`, `NAME@n`, or `NAME` for the newest version that is ready"
)


class Execution(Protocol):
    """A job that an executor is running."""

    def message(self, wait: float) -> Mapping[str, Any] | None:
        """The next message of the job (an `event` and its data), or None after `wait` seconds."""

    def heartbeat(self) -> None:
        """Let the job know that its supervisor still holds the claim."""

    def kill(self) -> None:
        """End it at once and wait until it is gone."""

    def exit_code(self) -> int | None:
        """None while it runs; negative: ended by that signal."""


class Executor(Protocol):
    """Starts the run in a directory that holds its config, and corrections where it has any."""

    def start(self, run: RunDirectory, lease: float) -> Execution: ...


class LocalExecutor:
    """One child process per job on this machine, at low priority."""

    def __init__(
        self, data_dir: Path, device: str, datasets_dir: Path | None = None, gpu: str | None = None
    ) -> None:
        """`datasets_dir` holds the data sets that were imported, as NAME/VERSION. Of several GPUs the children
        see the one that `gpu` names, as CUDA_VISIBLE_DEVICES does."""
        self.data_dir = data_dir
        self.device = device
        self.datasets_dir = datasets_dir
        self.gpu = gpu

    def start(self, run: RunDirectory, lease: float) -> "ChildProcess":
        environment = {"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu else None
        return _child("work", run, self.options(lease), environment)

    def options(self, lease: float) -> dict[str, object]:
        """Of the command `work`."""
        options = {"--data-dir": self.data_dir.absolute(), "--device": self.device, "--lease": lease}
        if self.datasets_dir is not None:
            options["--datasets-dir"] = self.datasets_dir.absolute()
        return options


class RayExecutor:
    """One child process per job on this machine, which is a Ray driver: it trains in a cluster.

    Runs that learn corrections are trained here, as people's pictures stay on this machine.
    """

    def __init__(self, data_dir: Path, device: str, datasets_dir: Path, address: str) -> None:
        """`data_dir` is where machines of the cluster look for the included data sets, unless they have a
        MINIST_DATA_DIR of their own."""
        self._local = LocalExecutor(data_dir, device, datasets_dir)
        self._address = address

    def start(self, run: RunDirectory, lease: float) -> "ChildProcess":
        if run.corrections.exists():
            return self._local.start(run, lease)
        rays = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
        return _child("work", run, {**self._local.options(lease), "--ray": self._address}, rays)


class ImportExecutor:
    """One child process per import, limited in what it may take."""

    def __init__(self, sources: Path, memory: int, room: Callable[[], int]) -> None:
        """`memory` in bytes; `room` says how many bytes are left for data sets."""
        self.sources = sources
        self.memory = memory
        self.room = room

    def start(self, run: RunDirectory, lease: float) -> "ChildProcess":
        options = {
            "--sources": self.sources.absolute(),
            "--lease": lease,
            "--memory": self.memory,
            "--file-bytes": max(1, self.room()),
        }
        # numpy's threads would take memory by the number of CPUs, and have nothing to do; Arrow's own
        # allocator reserves a GiB
        environment = {
            "OPENBLAS_NUM_THREADS": "1",
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "MALLOC_ARENA_MAX": "2",
        }
        return _child("import-dataset", run, options, environment)


class WeightsExecutor:
    """One child process per upload of weights, limited in what it may take."""

    def __init__(self, data_dir: Path, datasets_dir: Path, memory: int, seconds: int) -> None:
        """`memory` in bytes, `seconds` of CPU."""
        self.data_dir = data_dir
        self.datasets_dir = datasets_dir
        self.memory = memory
        self.seconds = seconds

    def start(self, run: RunDirectory, lease: float) -> "ChildProcess":
        options = {
            "--data-dir": self.data_dir.absolute(),
            "--datasets-dir": self.datasets_dir.absolute(),
            "--lease": lease,
            "--memory": self.memory,
            "--seconds": self.seconds,
        }
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        return _child("import-weights", run, options, {**one, "MALLOC_ARENA_MAX": "2"})


def _child(
    command: str,
    run: RunDirectory,
    options: Mapping[str, object],
    environment: Mapping[str, str] | None = None,
) -> "ChildProcess":
    words = [str(word) for option in options.items() for word in option]
    return ChildProcess(module_command("training", command, str(run.path.absolute()), *words), run, environment)


class ChildProcess:
    """A `python -m training ..` and its three streams."""

    def __init__(
        self, command: list[str], run: RunDirectory, environment: Mapping[str, str] | None = None
    ) -> None:
        with run.log.open("a") as log:
            self._process = subprocess.Popen(
                command,
                cwd=run.path.parent,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),  # only Windows has it
                env={**_environment(), **(environment or {})},
            )
        self._messages: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def message(self, wait: float) -> Mapping[str, Any] | None:
        try:
            return self._messages.get(timeout=wait) if wait else self._messages.get_nowait()
        except Empty:
            return None

    def heartbeat(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has just ended; see exit_code
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        assert self._process.stdin is not None
        self._process.kill()
        self.exit_code(wait=True)
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def exit_code(self, wait: bool = False) -> int | None:
        """As in Execution; once there is one, every message of the child can be read."""
        code = self._process.wait() if wait else self._process.poll()
        if code is not None and self._reader.is_alive():
            self._reader.join()
        return code

    def _read(self, stdout: IO[str]) -> None:
        with stdout:
            for line in stdout:
                if line.startswith("{"):
                    # bare NaN and Infinity are no JSON: they go no further than here
                    self._messages.put(json.loads(line, parse_constant=lambda _: None))


def _environment() -> dict[str, str]:
    # LOGNAME: torch asks for the user's name, which a container's arbitrary uid has not
    return {"LOGNAME": "minist", **without_secrets(), "MPLBACKEND": "agg", "PYTHONUNBUFFERED": "1"}


_OF_TABLES = frozenset(TableOptions.model_fields) - frozenset(PictureOptions.model_fields)


def check_options(options: Mapping[str, Any], table: bool = False) -> dict[str, Any]:
    """The full options of an import: of a table where it is one, or an option says so, else of pictures.

    Raises pydantic.ValidationError, naming the fields.
    """
    kind = {"kind": "table"} if table or _OF_TABLES & options.keys() else {}
    return options_of({**options, **kind}).model_dump(mode="json")


def check_card(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the sender of weights says of them, as the child reads it.

    Raises pydantic.ValidationError, naming the fields.
    """
    return check_order(given)


def same_options(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Full options, and what they become where the file turns out to be a table."""
    said = options_of(options)
    meant = [said, as_table(said)] if isinstance(said, PictureOptions) else [said]
    return [one.model_dump(mode="json") for one in meant]


def check_config(recipe: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The full config of a run of that recipe. Raises pydantic.ValidationError, naming the fields."""
    return RECIPES[recipe].config(**overrides).model_dump()


def override_fields() -> dict[str, Any]:
    """The settings of a recipe that a request may change, as optional fields for `pydantic.create_model`.

    A request names a data set in more ways than a config, which has its version.
    """
    fields: dict[str, Any] = {}
    for name, field in Config.model_fields.items():
        if name == "dataset":
            fields[name] = (str | None, Field(default=None, max_length=100, description=_DATASET))
        elif name not in DECIDED_HERE:
            optional = copy(field)
            optional.default = None
            fields[name] = (field.annotation | None, optional)  # type: ignore[operator]
    return fields


def recipe_names() -> tuple[str, ...]:
    return tuple(RECIPES)


def recipes() -> list[dict[str, Any]]:
    """What `POST /train` accepts for each recipe: its settings, and of each field that a request may change
    type, default, bounds, choices and description."""
    return [_recipe(recipe) for recipe in RECIPES.values()]


def _recipe(recipe: Recipe) -> dict[str, Any]:
    config = recipe.config().model_dump()
    settings = {name: value for name, value in config.items() if name not in DECIDED_HERE}
    schema = Config.model_json_schema()["properties"]
    return {
        "name": recipe.name,
        "summary": recipe.summary,
        "reference": recipe.reference,
        "dataset": config["dataset"],
        "settings": settings,
        "fields": [_field(name, schema[name], config) for name in settings],
    }


def _field(name: str, schema: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    schema = next((part | schema for part in schema.get("anyOf", ()) if part.get("type") != "null"), schema)
    choices = schema.get("enum")
    if name == "dataset":  # and those that were imported
        choices = list(DATASETS)
    if name == "optimizer" and config["architecture"] not in FROM_SCRATCH:
        choices = [choice for choice in schema["enum"] if choice != "from-scratch"]
    return {
        "name": name,
        "type": schema["type"],
        "default": config[name],
        "minimum": schema.get("minimum", schema.get("exclusiveMinimum")),
        "maximum": schema.get("maximum", schema.get("exclusiveMaximum")),
        "exclusive": [end for end in ("minimum", "maximum") if f"exclusive{end.capitalize()}" in schema],
        "choices": choices,
        "description": schema.get("description"),
    }
