"""The command line.

python -m app               the API and a supervisor of training jobs
python -m app api           the API alone        python -m app worker    a supervisor alone
python -m app keys create|list|revoke            who may train and administer
"""

import argparse
import gc
import logging
import logging.config
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from types import FrameType

from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from app.clock import utc
from app.home import Home
from app.jobs.supervisor import stdin_is_open
from app.settings import Settings
from app.store.keys import SCOPES
from app.store.versions import PRODUCTION
from app.telemetry import logs, metrics

DRAIN_SECONDS = 30


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; ends the process with status 0, 1 (cannot start) or 2 (wrong usage)."""
    chosen = _parse(arguments)
    # Worker processes read their settings from the environment, so the options go there too.
    given = {name: getattr(chosen, name, None) for name in ("host", "port", "workers")}
    os.environ.update({f"MINIST_{name.upper()}": value for name, value in given.items() if value is not None})
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            print(f"error: MINIST_{str(problem['loc'][0]).upper()}: {problem['msg']}", file=sys.stderr)
        sys.exit(2)
    try:
        home = Home.open(settings)
    except (OSError, OperationalError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.orig
        sys.exit(f"error: MINIST_HOME {settings.home} cannot be written ({reason}): name another folder")
    if chosen.command == "worker":
        _work(home, chosen.attached)
    elif chosen.command == "keys":
        _keys(home, chosen)
    else:
        _serve(home, alone=chosen.command == "api")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app", description="Serve and train small classifiers.")
    options = argparse.ArgumentParser(add_help=False)
    for name in ("host", "port", "workers"):
        description = Settings.model_fields[name].description
        options.add_argument(
            f"--{name}", default=argparse.SUPPRESS, help=f"{description} (MINIST_{name.upper()})"
        )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in (("serve", "the API and a supervisor (the default)"), ("api", "the API alone")):
        commands.add_parser(name, help=text, parents=[options])
    worker = commands.add_parser("worker", help="a supervisor of training jobs alone")
    worker.add_argument("--attached", action="store_true", help="end when standard input closes")
    keys = commands.add_parser("keys", help="API keys").add_subparsers(dest="action", required=True)
    create = keys.add_parser("create", help="make a key and print it, once")
    create.add_argument("--name", default="unnamed", help="for the audit list")
    create.add_argument(
        "--scope", choices=SCOPES, action="append", help="may be given several times; default train"
    )
    keys.add_parser("list", help="show the keys, without their secrets")
    keys.add_parser("revoke", help="end a key").add_argument("id", help="the part before the dot")
    parser.set_defaults(command="serve")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("--") and words[0] != "--help"):
        words.insert(0, "serve")
    return parser.parse_args(words)


def _serve(home: Home, alone: bool) -> None:
    gc.disable()  # as in __main__: these take most of the start
    import uvicorn  # a worker does without

    import app.main  # noqa: F401
    from models.devices import choose_device
    from models.errors import ModelError

    gc.freeze()
    gc.enable()

    settings = home.settings
    try:  # what no process could start with is told here, in one line
        choose_device(settings.device)
    except ModelError as error:
        sys.exit(f"error: {error}")
    if settings.tracing:
        _check_tracing()
    names = [model for model, alias in home.versions.snapshot().aliases if alias == PRODUCTION]
    if settings.default_model not in names:
        known = ", ".join(sorted(names))
        sys.exit(
            f"error: no model is called {settings.default_model!r}: set MINIST_DEFAULT_MODEL to one of {known}"
        )
    _greet(home)
    supervisor = None if alone else _AttachedSupervisor()
    numbers = tempfile.mkdtemp(prefix="minist-metrics-")  # of the workers; also on a read-only file system
    os.environ[metrics.DIRECTORY] = numbers
    try:
        uvicorn.run(
            "app.main:create_app",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            access_log=False,  # app.web.access_log writes a line per request
            server_header=False,
            log_config=logs.config(settings.log_level),
        )
    finally:
        shutil.rmtree(numbers, ignore_errors=True)
        if supervisor is not None:
            supervisor.end()


def _check_tracing() -> None:
    """FastAPI would start without spans, and only say so in the log."""
    if not {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} & os.environ.keys():
        sys.exit("error: MINIST_TRACING: set OTEL_EXPORTER_OTLP_ENDPOINT to where spans are to be sent")
    for module in ("opentelemetry.sdk", "opentelemetry.exporter"):
        if find_spec(module) is None:
            sys.exit("error: MINIST_TRACING: the extra is not installed: pip install '.[otel]'")
    os.environ.setdefault("OTEL_SERVICE_NAME", "minist")


def _greet(home: Home) -> None:
    """Tell where it is; on the first start, also the admin key."""
    url = f"http://{home.settings.host}:{home.settings.port}"
    print(f"minist is at {url} (documentation: {url}/docs)", flush=True)
    path = home.settings.home / "admin.key"
    key = home.keys.make_first(path)
    if key is not None:
        print(
            "\n    No API key was configured, so an admin key was made. "
            f"It is shown this once and kept in {path}:\n\n"
            f"        {key}\n\n"
            f"    curl -H 'Authorization: Bearer {key}' -H 'content-type: application/json' \\\n"
            f'         -d \'{{"model": "minist", "recipe": "mlp", "epochs": 3}}\' {url}/train\n',
            flush=True,
        )


class _AttachedSupervisor:
    """A supervisor as a child process, started again when it dies; it ends when this process does."""

    def __init__(self) -> None:
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="supervisor", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        words = [sys.executable, "-m", "app", "worker", "--attached"]
        while not self._ending.is_set():
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE)
            self._process.wait()
            self._ending.wait(1)

    def end(self) -> None:
        self._ending.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(10)


def _work(home: Home, attached: bool) -> None:
    logging.config.dictConfig(logs.config(home.settings.log_level))
    supervisor = home.supervisor()

    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.stop()

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C reaches the whole process group: an attached supervisor is told by its parent
    signal.signal(signal.SIGINT, signal.SIG_IGN if attached else stop)
    supervisor.run(alive=stdin_is_open if attached else lambda: True)


def _keys(home: Home, chosen: argparse.Namespace) -> None:
    if chosen.action == "create":
        print(home.keys.create(chosen.name, chosen.scope or ["train"]))
    elif chosen.action == "revoke":
        if not home.keys.revoke(chosen.id):
            sys.exit(f"error: no key {chosen.id!r} that is not revoked already; 'keys list' shows them")
        print(f"revoked {chosen.id}")
    else:
        for key in home.keys.all():
            state = "revoked" if key.revoked_at else "valid"
            made = utc(key.created_at)
            print(f"{key.id}  {','.join(key.scopes):20} {state:8} {made:%Y-%m-%d %H:%M}  {key.name}")
