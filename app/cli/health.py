"""`minist health`: whether the service of this machine does its work, for a container's health check."""

import http.client
import socket
import sys
from collections.abc import Sequence
from contextlib import closing

from app.cli.deployment import read_settings
from app.cli.listening import WILDCARDS
from app.settings import Settings
from models.arguments import Parser

SECONDS = 4


def run(words: Sequence[str]) -> int:
    """0 where it does, else 1 and a line that says what is wrong."""
    parser = Parser(
        prog="minist health", description="Ask the service on this machine whether it does its work."
    )
    parser.add_argument(
        "part",
        nargs="?",
        default="api",
        choices=("api", "worker"),
        help="what runs here: the API, which is asked for /readyz (default), or a training worker alone",
    )
    settings = read_settings()
    wrong = {"api": _api, "worker": _worker}[parser.parse_args(words).part](settings)
    if wrong is not None:
        print(f"error: {wrong}", file=sys.stderr)
    return 0 if wrong is None else 1


def _api(settings: Settings) -> str | None:
    """http.client rather than urllib, which would ask the proxy that Docker may hand to containers."""
    connection = http.client.HTTPConnection(
        WILDCARDS.get(settings.host, settings.host), settings.port, timeout=SECONDS
    )
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return None if response.status == 200 else response.read(1000).decode(errors="replace")
    except OSError as error:
        return f"port {settings.port}: {error.strerror or error}"
    finally:
        connection.close()


def _worker(settings: Settings) -> str | None:
    from sqlalchemy.exc import OperationalError  # here: the check of the API does without

    from app.store.database import Database
    from app.store.errors import StoreError, reason
    from app.store.supervisors import Supervisors

    address, connections = settings.database_address, settings.database_connections
    try:
        with closing(Database(settings.home, SECONDS, address, connections)) as database:
            alive = Supervisors(database).count(socket.gethostname())
    except (StoreError, OperationalError) as error:
        return str(error) if isinstance(error, StoreError) else f"the database does not answer: {reason(error)}"
    return None if alive else "no training worker of this machine has been heard of lately"
