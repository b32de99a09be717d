"""The settings and the home of a deployment, or one line that says why there are none."""

import os
import sys
import tempfile

from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from app.home import Home
from app.settings import Settings


def read_settings() -> Settings:
    """From the environment. Ends the process with status 2 and a line for each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            print(f"error: MINIST_{str(problem['loc'][0]).upper()}: {problem['msg']}", file=sys.stderr)
        sys.exit(2)


def open_home(settings: Settings) -> Home:
    """What lies under MINIST_HOME. Ends the process with status 1 and a line where it cannot be written."""
    try:
        home = Home.open(settings)
        _give_temporary_folder(home)
        return home
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
