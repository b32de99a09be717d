"""The settings and the home of a deployment, or one line that says why there are none."""

import getpass
import socket
import sys

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
            print(f"error: MINIST_{str(problem['loc'][0]).upper()}: {problem['msg']}", file=sys.stderr)
        sys.exit(2)


def open_home(settings: Settings) -> Home:
    """Open MINIST_HOME. Ends the process with status 1 and a line where it cannot be written."""
    try:
        return Home.open(settings)
    except StoreError as error:
        sys.exit(f"error: {error}")
    except (OSError, OperationalError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.orig
        sys.exit(f"error: MINIST_HOME {settings.home} cannot be written ({reason}): name another folder")


def who() -> str:
    """For the audit list, at most 64 characters."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"[:64]
