"""Knowing that the end has begun: SIGTERM came, and what is in flight is still to be answered."""

import multiprocessing
import os
import signal
import threading
import time
from types import FrameType

PARENT_SECONDS = 0.5  # between two looks whether the parent is still there


class Draining:
    """False until SIGTERM or SIGINT; then streams end and the service calls itself not ready."""

    def __init__(self) -> None:
        self.begun = False

    def __bool__(self) -> bool:
        return self.begun

    def watch(self) -> None:
        """Note the signals before whatever handles them now (uvicorn) gets them; does so in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)

            def note(number: int, frame: FrameType | None, before: object = before) -> None:
                self.begun = True
                if callable(before):
                    before(number, frame)

            signal.signal(number, note)


def end_with_parent() -> None:
    """A worker whose parent was killed ends as on SIGTERM; else it would hold the port.

    Not by the pipe to its parent: workers that were forked later hold the other end as well.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            while os.getppid() == parent.pid:
                time.sleep(PARENT_SECONDS)
            signal.raise_signal(signal.SIGTERM)

        threading.Thread(target=watch, name="watch-parent", daemon=True).start()
