"""Knowing that the end has begun: SIGTERM came, and what is in flight is still to be answered."""

import signal
from types import FrameType


class Draining:
    """False until SIGTERM or SIGINT; then streams end and the service calls itself not ready."""

    def __init__(self) -> None:
        self.begun = False

    def __bool__(self) -> bool:
        return self.begun

    def watch(self) -> None:
        """Note the signals before whoever handles them now (uvicorn) gets them. Main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)

            def note(number: int, frame: FrameType | None, before: object = before) -> None:
                self.begun = True
                if callable(before):
                    before(number, frame)

            signal.signal(number, note)
