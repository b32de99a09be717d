"""How many SQL statements processes send: while nobody asks, and with each request.

`python -m benchmarks.statements` starts the API and the supervisors of a worker in this process, on SQLite in a
home of its own, and counts what SQLAlchemy sends; BEGIN counts, COMMIT does not.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi.testclient import TestClient
from sqlalchemy import Engine, event

from app.home import Home
from app.main import create_app
from app.settings import Settings
from app.store.supervisors import Heartbeat
from benchmarks.servers import DIGITS

SECONDS = 10.0
KEY = "0123456789abcdef"
REQUESTS = ("/models", "/models/minist", "/models/minist/versions", "/train", "/health", "/metrics")


class Counted:
    """Statements of all engines of this process."""

    def __init__(self) -> None:
        self.number = 0
        event.listen(Engine, "before_cursor_execute", self._count)

    def _count(self, connection: object, cursor: object, statement: str, *more: object) -> None:
        self.number += not statement.startswith("PRAGMA")

    def of(self, work: Callable[[], object]) -> int:
        before = self.number
        work()
        return self.number - before


@contextmanager
def worker(home: Home) -> Iterator[None]:
    """The supervisors of `minist serve worker`, idle."""
    supervisors = home.supervisor(), home.importer(), home.weights_reader()
    threads = [threading.Thread(target=one.run) for one in supervisors]
    with Heartbeat(home.supervisors, "benchmark"):
        for thread in threads:
            thread.start()
        yield
        for one, thread in zip(supervisors, threads, strict=True):
            one.stop()
            thread.join()


def main() -> None:
    counted = Counted()
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(home=Path(directory), api_key=KEY, feedback=True, log_requests=False)  # type: ignore[arg-type]
        home = Home.open(settings)
        with worker(home):
            time.sleep(1)
            idle = counted.of(lambda: time.sleep(SECONDS)) / SECONDS
            print(f"worker, idle: {idle:.1f} per second", flush=True)
        with TestClient(create_app(settings), headers={"x-api-key": KEY}) as client:
            time.sleep(2)
            idle = counted.of(lambda: time.sleep(SECONDS)) / SECONDS
            print(f"API process, idle: {idle:.1f} per second", flush=True)
            for path in REQUESTS:
                print(f"GET {path}: {least(counted, lambda path=path: client.get(path))}")  # type: ignore[misc]
            image = {"file": DIGITS[7].read_bytes()}

            def predict() -> None:
                client.post("/predict", files=image).raise_for_status()

            print(f"POST /predict: {least(counted, predict)}")

            def predict_long() -> None:
                until = time.monotonic() + 5
                while time.monotonic() < until:
                    predict()

            busy = counted.of(predict_long) / 5
            print(f"API process that answers predictions: {busy:.1f} per second")
        home.database.close()


def least(counted: Counted, work: Callable[[], object]) -> int:
    """Of some turns: in others the background has its own."""
    work()
    return min(counted.of(work) for _ in range(10))


if __name__ == "__main__":
    main()
