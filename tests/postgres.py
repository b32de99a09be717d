"""A Postgres of the tests' own: Debian's, on a private port, in a folder that goes with it."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

PASSWORD = "a-secret-of-the-tests"  # must be found nowhere
# commits stay synchronous: a server that is killed keeps what it has confirmed
FAST = ("fsync=off", "full_page_writes=off", "autovacuum=off", "max_connections=200")


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`; None where there is no server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    where = shutil.which("initdb")
    return Path(where).parent if where else None


class Server:
    """One server, which can be killed and started again on the same port."""

    def __init__(self, folder: Path, programs: Path) -> None:
        from tests.processes import free_port  # here: it needs the conftest, which needs this

        self.folder = folder
        self.port = free_port()
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
        self._options = {"user": user, "group": user, "extra_groups": []} if user else {}
        if user:
            shutil.chown(folder, user, user)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        words = [
            "--username=minist",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--no-sync",
            "--encoding=UTF8",
        ]
        subprocess.run(
            [programs / "initdb", *words, "--no-sync", "--locale=C.UTF-8", f"--pgdata={folder / 'data'}"],
            check=True,
            capture_output=True,
            **self._options,  # type: ignore[call-overload]
        )

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        settings = [word for setting in FAST for word in ("-c", setting)]
        place = ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-k", str(self.folder)]
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", str(self.folder / "data"), *place, *settings],
                stdout=log,
                stderr=log,
                **self._options,  # type: ignore[call-overload]
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(psycopg.OperationalError):
                self._ask("SELECT 1")
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        """As a power cut: the server and whatever serves its clients."""
        assert self._process is not None
        pids = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._process.kill()
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # at once: nobody needs its files any more
            self._process.wait(60)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://minist:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def database(self, template: str | None = None) -> str:
        """The URL of a new database: empty, or a copy."""
        self._made += 1
        name = f"test_{self._made}"
        self._ask(f"CREATE DATABASE {name}" + (f" TEMPLATE {template} STRATEGY FILE_COPY" if template else ""))
        return self.url(name)

    def _ask(self, sql: str) -> None:
        place = self.url("postgres").replace("+psycopg", "")
        with psycopg.connect(place, autocommit=True, connect_timeout=5) as connection:
            connection.execute(sql)


@contextmanager
def running() -> Iterator[Server]:
    """A server; the test is skipped where there is none to be had."""
    found = programs()
    if found is None:
        pytest.skip("there is no Postgres server here: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="minist-postgres-"))
    server = Server(folder, found)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
