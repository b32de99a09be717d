"""The entry of `minist` and of `python -m app`: see `app.cli`."""

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from app.cli import main
from app.interpreter import forget_working_directory


def run(default: Sequence[str] = ()) -> None:
    """Run the command line; without words on it, `default`."""
    # The first process of a container ignores SIGTERM until there is a handler: set it before the slow imports.
    # uvicorn raises the signal again once it has drained; that too is a clean end, not a death by signal.
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    sys.exit(main(sys.argv[1:], default))


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    forget_working_directory()
    run(default=["serve"])
