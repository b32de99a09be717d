"""The settings and the home of a deployment, or one line that says why there are none."""

import getpass
import os
import socket
import sys
import tempfile

from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from app.home import Home
from app.settings import Settings
from app.store.database import StoreError


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
    """Open MINIST_HOME. Ends the process with status 1 and a line where it cannot be written."""
    try:
        home = Home.open(settings)
        _give_temporary_folder(home)
        return home
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
