"""`python -m app`: see `app.cli`."""

import gc
import signal
import sys
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    # The first process of a container ignores SIGTERM until there is a handler: set it before the slow imports.
    # uvicorn raises the signal again once it has drained; that too is a clean end, not a death by signal.
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    # Nothing of what is imported is ever garbage: collecting meanwhile takes a tenth of the start.
    gc.disable()
    from app.cli import main

    gc.freeze()
    gc.enable()
    main()
