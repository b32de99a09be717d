"""How fast `POST /predict` is, against what one writes by hand: the table of the README.

    python -m benchmarks.serving [--rounds 3] [--seconds 5] [--check]

Starts each server itself, all with the logging they come with (to a file). The load is wrk, one thread,
multipart uploads of ten 28x28 PNGs in turn. Rounds are interleaved: every target is measured once per
round, and figures are medians over rounds. Before each measurement a client checks every digit's label;
wrk counts what is not 2xx.
"""

import argparse
import http.client
import io
import json
import os
import platform
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import fastapi
import numpy as np
import torch
import uvicorn
from PIL import Image

ROOT = Path(__file__).parent.parent
DIGITS = [ROOT / "examples" / f"{label}.png" for label in range(10)]
BOUNDARY = "boundary-of-the-benchmark"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
BULK = 1_000  # images of one request


@dataclass(frozen=True)
class Server:
    """A process that was started, and where it listens."""

    process: subprocess.Popen[bytes]
    port: int


@dataclass(frozen=True)
class Target:
    """One line of the table: who is asked, where, by how many connections."""

    name: str
    server: str
    path: str
    connections: int


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    rate: float  # requests per second
    p50: float  # ms
    p99: float
    errors: int
    cpu: float  # microseconds of the server's processes per request: what a busy machine distorts least


def targets() -> list[Target]:
    return [
        Target("hand-written def", "hand 1", "/def", 64),
        Target("hand-written async def", "hand 1", "/async", 64),
        Target("hand-written async def, 2 workers", "hand 2", "/async", 64),
        Target("minist", "minist 1", "/predict", 64),
        Target("minist, 2 workers", "minist 2", "/predict", 64),
        Target("minist, 256 connections", "minist 1", "/predict", 256),
        Target("hand-written def, 1 connection", "hand 1", "/def", 1),
        Target("minist, 1 connection", "minist 1", "/predict", 1),
        Target("hand-written def, cnn", "hand 1", "/cnn-def", 64),
        Target("minist, cnn", "minist 1", "/predict?model=cnn", 64),
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def hand_words(port: int, workers: int) -> list[str]:
    words = [sys.executable, "-m", "uvicorn", "benchmarks.handwritten:app"]
    return [*words, "--port", str(port), "--workers", str(workers)]


def minist_words(port: int, workers: int) -> list[str]:
    return [sys.executable, "-m", "app", "api", "--port", str(port), "--workers", str(workers)]


@contextmanager
def started(words: list[str], port: int, path: str, directory: Path) -> Iterator[Server]:
    """A server that answers the first digit rightly; ended at the end."""
    environment = {
        **os.environ,
        "MINIST_HOME": str(directory / "home"),
        "MINIST_DEVICE": "cpu",
        "MINIST_DEFAULT_MODEL": "minist",
    }
    with (directory / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for_answer(process, port, path)
        yield Server(process, port)
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for_answer(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            if label_of(port, path, DIGITS[7].read_bytes()) == "7":
                return
        except (OSError, http.client.HTTPException, ValueError):
            time.sleep(0.02)
    raise SystemExit(f"no answer on port {port}")


def form(field: str, images: list[bytes]) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{i}.png"\r\n'
        f"Content-Type: image/png\r\n\r\n".encode()
        + image
        + b"\r\n"
        for i, image in enumerate(images)
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def post(connection: http.client.HTTPConnection, path: str, kind: str, body: bytes) -> object:
    connection.request("POST", path, body, {"content-type": kind})
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status != 200:
        raise ValueError(answer)
    return answer


def label_of(port: int, path: str, image: bytes) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    answer = post(connection, path, FORM, form("file", [image]))
    connection.close()
    assert isinstance(answer, dict)
    return str(answer["label"])


def check_answers(port: int, path: str) -> None:
    for label, digit in enumerate(DIGITS):
        assert label_of(port, path, digit.read_bytes()) == str(label), (path, label)


def tree(pid: int) -> list[int]:
    children = (path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [pid, *(found for words in children for child in words for found in tree(int(child)))]


def cpu_seconds(pid: int) -> float:
    """What a process and its children have used."""
    stats = (Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in tree(pid))
    return sum(int(words[11]) + int(words[12]) for words in stats) / os.sysconf("SC_CLK_TCK")


def wrk(server: Server, path: str, connections: int, seconds: float) -> Load:
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s"]
    words += ["-s", str(ROOT / "benchmarks" / "upload.lua"), f"http://127.0.0.1:{server.port}{path}"]
    environment = {**os.environ, "DIGITS": ":".join(str(path) for path in DIGITS)}
    before = cpu_seconds(server.process.pid)
    output = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    found = json.loads(output[output.index("RESULT") + 7 :])
    cpu = (cpu_seconds(server.process.pid) - before) / max(1, found["requests"]) * 1e6
    return Load(found["requests"] / found["seconds"], found["p50"], found["p99"], found["errors"], cpu)


def measure(
    servers: Mapping[str, Server], chosen: list[Target], rounds: int, seconds: float
) -> dict[str, Load]:
    """Medians over interleaved rounds; errors are summed."""
    found: dict[str, list[Load]] = {target.name: [] for target in chosen}
    for target in chosen:
        wrk(servers[target.server], target.path, target.connections, 1)  # warm up
    for number in range(rounds):
        for target in chosen:
            server = servers[target.server]
            check_answers(server.port, target.path)
            load = wrk(server, target.path, target.connections, seconds)
            found[target.name].append(load)
            _say(
                f"round {number + 1}: {target.name}: {load.rate:.0f}/s, p99 {load.p99:.1f} ms, "
                f"{load.cpu:.0f} us of CPU, {load.errors} errors"
            )
    return {name: _median(loads) for name, loads in found.items()}


def _median(loads: list[Load]) -> Load:
    def median(key: str) -> float:
        return statistics.median(getattr(load, key) for load in loads)

    errors = sum(load.errors for load in loads)
    return Load(median("rate"), median("p50"), median("p99"), errors, median("cpu"))


def measure_bulk(servers: Mapping[str, Server], rounds: int) -> dict[str, float]:
    """Milliseconds of one request with 1,000 images, medians of interleaved requests."""
    images = [DIGITS[i % 10].read_bytes() for i in range(BULK)]
    array = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in images])
    npy = io.BytesIO()
    np.save(npy, array)
    idx = b"\x00\x00\x08\x03" + struct.pack(">3I", *array.shape) + array.tobytes()
    kinds = {
        "hand-written, PNG parts": ("hand 1", "/batch", FORM, form("files", images)),
        "minist, PNG parts": ("minist 1", "/predict/batch", FORM, form("files", images)),
        "minist, npy": ("minist 1", "/predict/batch", "application/x-npy", npy.getvalue()),
        "minist, idx": ("minist 1", "/predict/batch", "application/x-idx", idx),
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    connections = {
        name: http.client.HTTPConnection("127.0.0.1", servers[name].port, timeout=60)
        for name in ("hand 1", "minist 1")
    }
    for number in range(5 * rounds + 1):
        for name, (server, path, kind, body) in kinds.items():
            begun = time.perf_counter()
            connections[server].request("POST", path, body, {"content-type": kind})
            answer = connections[server].getresponse().read()
            if number:  # the first warms up
                found[name].append((time.perf_counter() - begun) * 1000)
            assert [a["label"] for a in json.loads(answer)] == [str(i % 10) for i in range(BULK)], name
    return {name: statistics.median(times) for name, times in found.items()}


def cold_start(words: Callable[[int, int], list[str]], path: str, directory: Path) -> float:
    """Seconds from the start of the process to the first right answer."""
    port = free_port()
    begun = time.perf_counter()
    with started(words(port, 1), port, path, directory):
        return time.perf_counter() - begun


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def bars(
    load: Mapping[str, Load], bulk: Mapping[str, float], others: Mapping[str, float]
) -> list[tuple[str, float, float]]:
    """(what, figure, at least); a figure that has to stay small is given as its inverse ratio."""
    rate = {name: found.rate for name, found in load.items()}
    one, two = rate["minist"], rate["minist, 2 workers"]
    by_hand = bulk["hand-written, PNG parts"]
    rows = [
        ("1 worker / def", one / rate["hand-written def"], 8),
        ("1 worker / async def", one / rate["hand-written async def"], 3.8),
        ("2 workers / def, 1 worker", two / rate["hand-written def"], 12),
        ("2 workers / async def, 2 workers", two / rate["hand-written async def, 2 workers"], 3),
        (
            "1 connection: p50 of def / p50",
            load["hand-written def, 1 connection"].p50 / load["minist, 1 connection"].p50,
            2,
        ),
        ("1 worker: 15 ms / p99", 15 / load["minist"].p99, 1),
        ("256 connections / 64", rate["minist, 256 connections"] / one, 0.85),
        ("cnn / def with the same cnn", rate["minist, cnn"] / rate["hand-written def, cnn"], 8),
        ("1,000 images: idx", by_hand / bulk["minist, idx"], 7),
        ("1,000 images: npy", by_hand / bulk["minist, npy"], 7),
        ("1,000 images: PNG parts", by_hand / bulk["minist, PNG parts"], 2.5),
        ("cold start: by hand / minist", others["cold hand"] / others["cold minist"], 1 / 1.25),
        ("memory: by hand / minist", others["memory hand"] / others["memory minist"], 1 / 1.15),
        ("no errors", float(all(found.errors == 0 for found in load.values())), 1),
    ]
    if "TorchServe" in rate:
        rows += [
            ("1 worker / TorchServe", one / rate["TorchServe"], 1.2),
            ("2 workers / TorchServe", two / rate["TorchServe"], 1.8),
        ]
    return rows


def tables(load: Mapping[str, Load], bulk: Mapping[str, float], others: Mapping[str, float]) -> Iterator[str]:
    base = load["hand-written def"].rate
    yield "| 64 connections, where not said | requests/s | x | p50 ms | p99 ms | CPU us/request | errors |"
    yield "|---|---|---|---|---|---|---|"
    for name, found in load.items():
        speed = f"{found.rate:,.0f} | {found.rate / base:.1f} | {found.p50:.2f} | {found.p99:.1f}"
        figures = f"{speed} | {found.cpu:.0f} | {found.errors}"
        yield f"| {name} | {figures} |"
    by_hand = bulk["hand-written, PNG parts"]
    yield "\n| 1,000 images in one request | ms | x |\n|---|---|---|"
    for name, milliseconds in bulk.items():
        yield f"| {name} | {milliseconds:.1f} | {by_hand / milliseconds:.1f} |"
    yield "\n| | hand-written | minist | x |\n|---|---|---|---|"
    for what, unit in (("cold", "cold start, s"), ("memory", "memory of one worker, MiB")):
        hand, mine = others[f"{what} hand"], others[f"{what} minist"]
        yield f"| {unit} | {hand:.2f} | {mine:.2f} | {mine / hand:.2f} |"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--only", help="measure but the targets whose name contains this, without a table")
    parser.add_argument("--check", action="store_true", help="status 1 where a bar is missed")
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("error: wrk is not installed (Debian: apt-get install wrk)")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        wanted = [target for target in targets() if not chosen.only or chosen.only in target.name]
        servers: dict[str, Server] = {}
        for server in dict.fromkeys(target.server for target in wanted):
            kind, workers = server.split()
            words, path = (hand_words, "/def") if kind == "hand" else (minist_words, "/predict")
            port = free_port()
            servers[server] = stack.enter_context(started(words(port, int(workers)), port, path, directory))
        load = measure(servers, wanted, chosen.rounds, chosen.seconds)
        if chosen.only:
            return
        bulk = measure_bulk(servers, chosen.rounds)
        others = {
            "memory hand": resident_mib(servers["hand 1"].process.pid),
            "memory minist": resident_mib(servers["minist 1"].process.pid),
        }
        starts = {"hand": (hand_words, "/def"), "minist": (minist_words, "/predict")}
        times: dict[str, list[float]] = {who: [] for who in starts}
        for _ in range(max(3, chosen.rounds)):
            for who, (words, path) in starts.items():
                times[who].append(cold_start(words, path, directory))
        others |= {f"cold {who}": statistics.median(found) for who, found in times.items()}
    print(*tables(load, bulk, others), sep="\n")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, FastAPI {fastapi.__version__}"
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d}, medians of {chosen.rounds} interleaved rounds of "
        f"{chosen.seconds:g} s, "
        f"{os.cpu_count()} CPUs shared with wrk, load average {os.getloadavg()[0]:.1f}; {versions}, "
        f"uvicorn {uvicorn.__version__}\n"
    )
    missed = False
    print("| bar | reached | at least | |\n|---|---|---|---|")
    for what, figure, least in bars(load, bulk, others):
        missed |= figure < least
        print(f"| {what} | {figure:.2f} | {least:.2f} | {'holds' if figure >= least else 'MISSED'} |")
    if chosen.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
