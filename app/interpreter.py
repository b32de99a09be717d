"""How Python is started on one of our packages, whatever the working directory holds."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # a checkout, or site-packages

# The three packages are imported from the root and from nowhere else. Then it goes to the end of the path, as
# site-packages must not come before the standard library; `minist predict` finds its client there. -P: the
# working directory is not on it at all.
_RUN = """import runpy, sys
root, module, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, root)
import app, models, training
sys.path.remove(root)
sys.path.append(root)
runpy.run_module(module, run_name="__main__", alter_sys=True)"""


def module_command(module: str, *words: str) -> list[str]:
    """The command line that runs `python -m module words` with the code that is running now.

    A folder called `app`, `models` or `training` in the working directory, or on PYTHONPATH, changes nothing.
    """
    return [sys.executable, "-P", "-c", _RUN, str(ROOT), module, *words]


def forget_working_directory() -> None:
    """Take the working directory, which `python -m` puts first, off the path, unless our packages lie there."""
    if not sys.flags.safe_path and sys.path and Path(sys.path[0]).resolve() != ROOT:
        del sys.path[0]
