"""The command line: one table of commands, each imported when it is used.

A command is a function that takes the words after its name and returns the exit status.
Nothing heavy is imported here: `minist --version` waits for neither torch nor the database.
"""

import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

import app


@dataclass(frozen=True)
class Command:
    """`entry` is `module:function`; a command without a summary is not shown."""

    name: str
    entry: str
    summary: str = ""


COMMANDS = (
    Command("serve", "app.cli.serve:run", "answer requests and train ('api' or 'worker': one of the two)"),
    Command("keys", "app.cli.keys:run", "make, list and revoke API keys"),
    Command("models", "app.cli.models:run", "list, check, point at, copy, rename and delete models"),
    Command("runs", "app.cli.runs:run", "list the training jobs: what was trained, how far, how well"),
    Command("datasets", "app.cli.datasets:run", "list, import and delete data sets of your own pictures"),
    Command("check", "app.cli.storage:check", "check all that is kept under MINIST_HOME"),
    Command("backup", "app.cli.storage:back_up_home", "write database and models into one file"),
    Command("db", "app.cli.db:run", "upgrade, check, back up the database, or copy it to Postgres"),
    Command("restore", "app.cli.storage:restore_home", "put a backup in the place of what is there"),
    Command("health", "app.cli.health:run", "ask the service on this machine whether it does its work"),
    Command(
        "predict", "app.cli.predict:run", "classify pictures, or the rows of a table, by a running service"
    ),
    Command("publish", "app.cli.publish:run", "make a finished run, or a weights file, a served version"),
    Command("train", "app.cli.train:run", "train a classifier by a recipe, or on a file of your own pictures"),
    Command("evaluate", "training.cli:evaluate", "loss and accuracy of any weights file on a test set"),
    Command("calibrate", "training.cli:calibrate", "fit the temperature of finished checkpoints"),
    Command("report", "training.cli:report", "write the page and the pictures of a finished run"),
    Command(
        "inspect", "training.importing.cli:run", "show what a zip of your own pictures would be as a data set"
    ),
    Command("work", "training.cli:work"),  # a job's process; only supervisors start it
    Command("export-onnx", "models.export:run"),  # a process of the API's
    Command("import-dataset", "training.importing.child:run"),  # an import's
    Command("import-weights", "training.foreign.child:run"),  # of weights that were uploaded
)

USAGE = """usage: minist COMMAND [options]     (minist COMMAND --help: its options)

Serve small trained classifiers over HTTP, and train them.
"""
EXAMPLES = """
examples:
  minist serve --port 8080
  minist predict photo.jpg
  minist train photos.zip
  minist train --recipe mlp --epochs 3 --out runs/mine
  minist publish runs/mine
"""


def main(arguments: Sequence[str] | None = None, default: Sequence[str] = ()) -> int:
    """Run a command and return its status: 0 done, 1 failed, 2 wrong usage.

    `default` are the words that are put before options which stand alone.
    """
    try:
        status = _main(arguments, default)
        sys.stdout.flush()
    except BrokenPipeError:  # of `minist --help | head`; Python would complain again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _main(arguments: Sequence[str] | None, default: Sequence[str]) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["--help"], ["-h"], ["help"]):
        print(_help())
        return 0
    if words == ["--version"]:
        print(f"minist {app.__version__}")
        return 0
    if not words or words[0].startswith("-"):
        words = [*default, *words]
    command = next((command for command in COMMANDS if words[:1] == [command.name]), None)
    if command is None:
        return _unknown(words)
    return _run(command, words[1:])


def _run(command: Command, words: Sequence[str]) -> int:
    module, _, function = command.entry.partition(":")
    gc.disable()  # nothing of what is imported is ever garbage, and collecting takes a tenth of the start
    entry = getattr(import_module(module), function)
    gc.enable()
    try:
        status: int = entry(words)
    except Exception as error:
        if (sentence := _database_trouble(error)) is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    return status


def _database_trouble(error: Exception) -> str | None:
    """A database that went away while a command used it; None for other errors."""
    if "sqlalchemy.exc" not in sys.modules:
        return None
    from sqlalchemy.exc import OperationalError  # most commands need none of it

    from app.store.errors import StoreError, reason

    if isinstance(error, OperationalError):
        return f"the database does not answer: {reason(error)}"
    return str(error) if isinstance(error, StoreError) else None


def _unknown(words: Sequence[str]) -> int:
    if not words or words[0].startswith("-"):
        print(_help(), file=sys.stderr)
        return 2
    names = [command.name for command in COMMANDS if command.summary]
    near = get_close_matches(words[0], names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names)}"
    print(f"error: there is no command {words[0]!r}: {hint} (minist --help)", file=sys.stderr)
    return 2


def _help() -> str:
    from app.settings import Settings  # the only part of the help that takes time

    commands = [(command.name, command.summary) for command in COMMANDS if command.summary]
    commands.append(("--version", "the version of this installation"))
    variables = [
        (f"MINIST_{name.upper()}", f"{field.description} ({_default(field.default)})")
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        (
            USAGE,
            "commands:",
            _table(commands),
            EXAMPLES,
            "environment variables, with their defaults:",
            _table(variables),
        )
    )


def _default(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:{width}}  {text}" for name, text in rows)
