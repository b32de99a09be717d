"""A Ray cluster of three nodes on this machine: a head that trains nothing, and two with a CPU each.

    python -m tests.ray_cluster PORT

starts the head, and a node for each line that it reads, whose pid (its raylet's) it writes; all end with its
input.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.processes import alive, children, free_port, wait_for

TOKEN = "the-token-of-the-tests-0123456789"
MEMORY = 80 * 1024**2  # of a node's object store, about the least that Ray takes
ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
needs_ray = pytest.mark.skipif(
    not find_spec("ray"), reason="Ray is not installed, as in CI: pip install 'minist[ray]'"
)


class RayCluster:
    """May be stopped and started again at the same address."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = ""
        self._nodes: list[int] = []

    def start(self, nodes: int = 2) -> None:
        words = [sys.executable, "-m", "tests.ray_cluster", str(self.port)]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(
            words, cwd=ROOT, text=True, bufsize=1, stdin=pipe, stdout=pipe, stderr=nothing
        )
        self.address = self._said()
        for _ in range(nodes):
            self.add_node()

    def _said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "Ray could not be started"
        return line

    def add_node(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._nodes.append(int(self._said()))

    def stop(self) -> None:
        """All machines, head included."""
        self._process.communicate()
        self._nodes = []

    def trainers(self) -> dict[int, int]:
        """Pids of the processes that train, each with its node's."""
        nodes = [pid for pid in self._nodes if alive(pid)]
        return {pid: node for node in nodes for pid in children(node) if b"RemoteTrainer" in _title(pid)}

    def lose_the_node_that_trains(self) -> None:
        (node,) = set(wait_for(self.trainers).values())
        os.kill(node, signal.SIGKILL)


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def running() -> Iterator[RayCluster]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        cluster = RayCluster()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()


def main(port: int) -> None:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False, "gcs_server_port": port}
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Ray prints goes elsewhere
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    out.write(f"{cluster.address}\n")
    for _ in sys.stdin:
        node = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        out.write(f"{node.all_processes['raylet'][0].process.pid}\n")
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
