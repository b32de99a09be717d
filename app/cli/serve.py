"""`minist serve`: the API, with a supervisor of training jobs beside it or without."""

import argparse
import multiprocessing
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec

from app.cli.deployment import await_home, read_settings
from app.cli.listening import listen, own_names, url
from app.cli.worker import AttachedSupervisor, check_executor, supervise
from app.home import Home
from app.settings import Settings
from app.store.versions import PRODUCTION
from app.telemetry import logs, metrics
from models.arguments import Parser

DRAIN_SECONDS = 30
KEEP_ALIVE_SECONDS = 75  # longer than clients (aiohttp: 15) and proxies (60) keep an idle connection
OPTIONS = ("host", "port", "workers")


def run(words: Sequence[str]) -> int:
    """Serve until a signal; the status."""
    chosen = _parser().parse_args(words)
    # Worker processes read their settings from the environment, so the options go there too.
    given = {name: getattr(chosen, name) for name in OPTIONS}
    os.environ.update({f"MINIST_{name.upper()}": value for name, value in given.items() if value is not None})
    if chosen.part == "worker":
        return supervise(chosen.attached)
    settings = read_settings()
    _check_workers(settings)
    os.environ["MINIST_WORKERS"] = str(settings.workers)  # what `auto` came to is the same in all of them
    if not settings.allowed_hosts:
        os.environ["MINIST_ALLOWED_HOSTS"] = ",".join(own_names(settings.host))
        settings = read_settings()
    sockets = listen(settings.host, settings.port)  # first: what cannot be served leaves nothing behind
    return _serve(await_home(settings, sockets), sockets, alone=chosen.part == "api")


def _parser() -> Parser:
    parser = Parser(
        prog="minist serve", description="Answer requests, and run training jobs in a process beside it."
    )
    parser.add_argument(
        "part",
        nargs="?",
        choices=("api", "worker"),
        help="only the API, or only the training worker (default: both)",
    )
    for name in OPTIONS:
        description = Settings.model_fields[name].description
        parser.add_argument(f"--{name}", help=f"{description} (MINIST_{name.upper()})")
    parser.add_argument("--attached", metavar="NAME", help=argparse.SUPPRESS)  # end with standard input
    return parser


def _serve(home: Home, sockets: list[socket.socket], alone: bool) -> int:
    settings = home.settings
    import app.cli.preloaded  # noqa: F401 (here: a training worker does without)

    _check_device(settings)
    _check_tracing(settings)
    _check_grpc(settings)
    if not alone:
        check_executor(settings)
    _check_default_model(home)
    _greet(home, url(settings.host, sockets))
    supervisor = None if alone else AttachedSupervisor(home.supervisors)
    numbers = tempfile.mkdtemp(prefix="minist-metrics-")  # of the workers; also on a read-only file system
    os.environ[metrics.DIRECTORY] = numbers
    try:
        home.database.close()  # workers have connections of their own
        return _run_api(settings, sockets)
    finally:
        shutil.rmtree(numbers, ignore_errors=True)
        if supervisor is not None:
            supervisor.end()


def _run_api(settings: Settings, sockets: list[socket.socket]) -> int:
    """The API in this process, or in so many workers; the status."""
    import uvicorn._subprocess
    from uvicorn.config import STARTUP_FAILURE
    from uvicorn.supervisors import Multiprocess

    config = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        workers=settings.workers,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        http="app.web.protocol:HttpProtocol",  # bounds what a client may send, and how slowly
        ws="none",
        proxy_headers=False,  # app.web.paths knows whom to believe
        access_log=False,  # app.web.access_log writes a line per request
        server_header=False,
        log_config=logs.config(settings.log_level),
    )
    if settings.workers == 1:
        server = uvicorn.Server(config)
        server.run(sockets)
        return 0 if server.started else STARTUP_FAILURE
    from app.cli.forks import Forks

    uvicorn._subprocess.spawn = Forks()  # type: ignore[assignment]
    workers = Multiprocess(config, sockets)
    workers.run()
    return STARTUP_FAILURE if any(one.exitcode == STARTUP_FAILURE for one in workers.processes) else 0


# -- what no process could start with is said here, in one line ------------------------------------


def _check_workers(settings: Settings, system: str = os.name) -> None:
    """On Windows, loops that share a socket start no processes, and pictures are decoded in processes."""
    if system == "nt" and settings.workers > 1:
        sys.exit("error: MINIST_WORKERS: on Windows one process answers; start several services on other ports")


def _check_device(settings: Settings) -> None:
    """In a process of its own where workers will be forked: after that an open device cannot be used."""
    if settings.device in ("auto", "cpu"):  # always there
        return
    if settings.workers == 1:
        _open_device(settings.device)
        return
    trial = multiprocessing.get_context("fork").Process(target=_open_device, args=(settings.device,))
    trial.start()
    trial.join()
    if trial.exitcode:
        sys.exit(1)  # it has said why


def _open_device(name: str) -> None:
    from models.devices import choose_device
    from models.errors import ModelError

    try:
        choose_device(name)
    except ModelError as error:
        sys.exit(f"error: {error}")


def _check_tracing(settings: Settings) -> None:
    """FastAPI would start without spans, and only say so in the log."""
    if not settings.tracing:
        return
    if not {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} & os.environ.keys():
        sys.exit("error: MINIST_TRACING: set OTEL_EXPORTER_OTLP_ENDPOINT to where spans are to be sent")
    for module in ("opentelemetry.sdk", "opentelemetry.exporter"):
        if find_spec(module) is None:
            sys.exit("error: MINIST_TRACING: " + _missing("otel"))
    os.environ.setdefault("OTEL_SERVICE_NAME", "minist")


def _missing(extra: str) -> str:
    there = f"pip install 'minist[{extra}]', or build the image with --build-arg EXTRAS={extra}"
    return f"the extra {extra} is not installed: {there}"


def _check_grpc(settings: Settings) -> None:
    if settings.grpc_port is None:
        return
    if find_spec("grpc") is None or find_spec("google") is None or find_spec("google.protobuf") is None:
        sys.exit("error: MINIST_GRPC_PORT: " + _missing("grpc"))
    for free in listen(settings.host, settings.grpc_port):  # grpc itself would leave a traceback
        free.close()


def _check_default_model(home: Home) -> None:
    default = home.settings.default_model
    names = [model for model, alias in home.versions.snapshot().aliases if alias == PRODUCTION]
    if default not in names:
        known = ", ".join(sorted(names))
        sys.exit(f"error: no model is called {default!r}: set MINIST_DEFAULT_MODEL to one of {known}")


def _greet(home: Home, url: str) -> None:
    """Say where it is; on the first start, also the admin key."""
    print(f"minist is at {url} (documentation: {url}/docs)", flush=True)
    path = home.paths.admin_key
    key = home.keys.make_first(path)
    if key is not None:
        print(
            "\n    No API key was configured, so an admin key was made. "
            f"It is shown this once and kept in {path}:\n\n"
            f"        {key}\n\n"
            f"    curl -H 'Authorization: Bearer {key}' -H 'content-type: application/json' \\\n"
            f'         -d \'{{"model": "minist", "recipe": "mlp", "epochs": 3}}\' {url}/train\n',
            file=sys.stderr,  # the structured log goes to standard output
        )
