"""The settings and the home of a deployment, or one line that says why there are none."""

import getpass
import os
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress

from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from app.cli.waiting import answering
from app.home import Home
from app.settings import Settings
from app.store.errors import Away, StoreError

WAIT_SECONDS = 1.0  # between two attempts to reach a database


def read_settings() -> Settings:
    """From the environment. Ends the process with status 2 and a line for each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = str(problem["loc"][0]).upper().removeprefix("MINIST_")
            print(f"error: MINIST_{name}: {problem['msg']}", file=sys.stderr)
        sys.exit(2)


def open_home(settings: Settings) -> Home:
    """Open MINIST_HOME. Ends the process with status 1 and a line where it or its database cannot be used."""
    try:
        return _opened(settings)
    except Away as error:
        sys.exit(f"error: {error}")


def await_home(settings: Settings, sockets: Sequence[socket.socket] = ()) -> Home:
    """As `open_home`, but a database or an object store that does not answer yet is waited for.

    Meanwhile whoever asks on the sockets is told so.
    """
    try:
        return _opened(settings)
    except Away as error:
        print(f"{error}; waiting for it", file=sys.stderr, flush=True)
    with answering(sockets):
        while True:
            time.sleep(WAIT_SECONDS)
            with suppress(Away):
                return _opened(settings)


def _opened(settings: Settings) -> Home:
    """Raises Away; whatever waiting does not help ends the process."""
    try:
        home = Home.open(settings)
        _give_temporary_folder(home)
        return home
    except Away:
        raise
    except StoreError as error:
        sys.exit(f"error: {error}")
    except (OSError, OperationalError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.orig
        sys.exit(f"error: MINIST_HOME {settings.home} cannot be written ({reason}): name another folder")


def _give_temporary_folder(home: Home) -> None:
    """A read-only root file system without /tmp: this process and its children use a folder of the home."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        folder = home.paths.root.absolute() / "tmp"
        folder.mkdir(exist_ok=True)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def who() -> str:
    """For the audit list, at most 64 characters."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"[:64]
