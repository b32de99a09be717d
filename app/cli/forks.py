"""API workers as forks of the process that has imported everything: they share its pages.

uvicorn spawns: each worker would take seconds to import torch, and keep a copy of its own.
"""

import multiprocessing.context
import signal


class Fork(multiprocessing.context.ForkProcess):
    """A process to which signals mean what they mean to a new program; none is lost meanwhile."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def run(self) -> None:
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):  # of the parent
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
        super().run()


class Forks(multiprocessing.context.ForkContext):
    """For `uvicorn._subprocess.spawn`."""

    Process = Fork
