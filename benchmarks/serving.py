"""How fast `POST /predict` is, against what one writes by hand: the table of the README.

    python -m benchmarks.serving [--rounds 3] [--seconds 5] [--check] [--peers] [--before DIR]

Starts each server itself, all with the logging they come with (to a file). The load is wrk, one thread,
multipart uploads of ten 28x28 PNGs in turn. Rounds are interleaved: every target is measured once per
round, and figures are medians over rounds. Before each measurement a client checks every digit's label;
wrk counts what is not 2xx.

With --peers also LitServe, BentoML, MLServer and TorchServe (`benchmarks/peers/`), each in an environment of
its own that pip makes at first. They are stopped (SIGSTOP) while another is measured. One that is not to be
had, or ceases to answer, is left out, with the reason.

With --before also the service of another checkout (`git worktree add DIR REVISION`), in the same rounds: one
more table has the ratios of the two, and with --check none of them may be more than 5 % worse.
"""

import argparse
import http.client
import io
import json
import os
import platform
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import fastapi
import numpy as np
import torch
import uvicorn
from PIL import Image

from app.cpus import cpu_quota, threads_per_worker
from app.serving.batching import MAX_BATCH_SIZE
from benchmarks.peers.environments import Unavailable
from benchmarks.peers.known import PEERS
from benchmarks.servers import (
    DIGITS,
    ROOT,
    NoAnswer,
    Server,
    awake,
    cpu_seconds,
    free_port,
    resident_mib,
    started,
)
from benchmarks.upload import FORM, Way, form, json_tensor, label_of, raw_tensor, upload
from models.classifier import Classifier
from models.inference import InferenceModel

BULK = 1_000  # images of one request
FORWARD = "their forward pass alone"


@dataclass(frozen=True)
class Target:
    """One line of the table: who is asked, where, by how many connections."""

    name: str
    server: str
    way: Way
    connections: int = 64
    warm_up: float = 1  # seconds
    peer: bool = False


@dataclass(frozen=True)
class Load:
    """What wrk saw."""

    rate: float  # requests per second
    p50: float  # ms
    p99: float
    errors: int
    cpu: float  # microseconds of the server's processes per request: what a busy machine distorts least


def targets() -> list[Target]:
    predict = upload("/predict")
    return [
        Target("hand-written def", "hand 1", upload("/def")),
        Target("hand-written async def", "hand 1", upload("/async")),
        Target("hand-written async def, 2 workers", "hand 2", upload("/async")),
        Target("minist", "minist 1", predict),
        Target("bare ASGI, no service", "bare 1", predict),
        Target("minist, 2 workers", "minist 2", predict),
        Target("minist, digits", "minist 1", upload("/predict?model=digits")),
        Target("minist, 256 connections", "minist 1", predict, 256),
        Target("hand-written def, 1 connection", "hand 1", upload("/def"), 1),
        Target("minist, 1 connection", "minist 1", predict, 1),
        Target("hand-written def, cnn", "hand 1", upload("/cnn-def")),
        Target("minist, cnn", "minist 1", upload("/predict?model=cnn")),
        Target("minist, V2 binary", "minist 1", raw_tensor("/v2/models/minist/infer")),
        Target("minist, V2 JSON", "minist 1", json_tensor("/v2/models/minist/infer")),
    ]


def targets_before() -> list[Target]:
    """The service's own targets, for the tree before."""
    return [
        replace(
            target,
            name=target.name.replace("minist", "before"),
            server=target.server.replace("minist", "before"),
        )
        for target in targets()
        if target.server.startswith("minist") and "/v2/" not in target.way.path  # it may be too old for that
    ]


def hand_words(port: int, workers: int) -> list[str]:
    words = [sys.executable, "-m", "uvicorn", "benchmarks.handwritten:app"]
    return [*words, "--port", str(port), "--workers", str(workers)]


def bare_words(port: int, workers: int) -> list[str]:
    words = [sys.executable, "-m", "uvicorn", "benchmarks.bare:app", "--no-access-log", "--lifespan", "off"]
    return [*words, "--port", str(port), "--workers", str(workers)]


def minist_words(port: int, workers: int, tree: Path = ROOT) -> list[str]:
    command = ["serve", "api"] if (tree / "app" / "cli").is_dir() else ["api"]  # before 0.2.0
    return [sys.executable, "-m", "app", *command, "--port", str(port), "--workers", str(workers)]


STARTS = {
    "hand": (hand_words, upload("/def")),
    "minist": (minist_words, upload("/predict")),
    "bare": (bare_words, upload("/predict")),
}
COLD = ("hand", "minist")  # whose start is measured
WORSE = 0.05  # what a median may lose against the tree before


def variables(directory: Path, home: str = "home") -> dict[str, str]:
    return {
        "MINIST_HOME": str(directory / home),
        "MINIST_DEVICE": "cpu",
        "MINIST_DEFAULT_MODEL": "minist",
    }


def check_answers(port: int, way: Way) -> None:
    for label, digit in enumerate(DIGITS):
        found = label_of(port, way, digit.read_bytes())
        if found != str(label):
            raise ValueError(f"{way.path} says {found} of {label}")


def wrk(
    server: Server, way: Way, connections: int, seconds: float, images: Sequence[bytes] | None = None
) -> Load:
    """`images` (default: the ten digits) in turn."""
    images = images or [digit.read_bytes() for digit in DIGITS]
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s"]
    words += ["-s", str(ROOT / "benchmarks" / "upload.lua"), f"http://127.0.0.1:{server.port}{way.path}"]
    with tempfile.TemporaryDirectory() as name:
        bodies = [Path(name, str(number)) for number in range(len(images))]
        for body, image in zip(bodies, images, strict=True):
            body.write_bytes(way.body(image))
        environment = {**os.environ, "BODIES": ":".join(map(str, bodies)), "KIND": way.kind}
        if way.json_bytes:
            environment["JSON"] = str(way.json_bytes)
        before = cpu_seconds(server.process.pid)
        output = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    found = json.loads(output[output.index("RESULT") + 7 :])
    cpu = (cpu_seconds(server.process.pid) - before) / max(1, found["requests"]) * 1e6
    return Load(found["requests"] / found["seconds"], found["p50"], found["p99"], found["errors"], cpu)


def measure(
    servers: Mapping[str, Server],
    chosen: list[Target],
    rounds: int,
    seconds: float,
    left_out: dict[str, str],
) -> dict[str, Load]:
    """Medians over interleaved rounds; errors are summed. A peer that fails is left out."""
    found: dict[str, list[Load]] = {target.name: [] for target in chosen}
    for number in range(rounds + 1):  # the first warms up
        for target in chosen:
            if target.name not in found:
                continue
            length = seconds if number else target.warm_up
            try:
                load = measure_one(servers[target.server], target, length)
            except (OSError, http.client.HTTPException, ValueError, subprocess.CalledProcessError) as error:
                if not target.peer:
                    raise
                del found[target.name]
                left_out[target.name] = repr(error)
                _say(f"{target.name} is left out: {error!r}")
                continue
            if number:
                found[target.name].append(load)
                _say(
                    f"round {number}: {target.name}: {load.rate:.0f}/s, p99 {load.p99:.1f} ms, "
                    f"{load.cpu:.0f} us of CPU, {load.errors} errors"
                )
    return {name: _median(loads) for name, loads in found.items()}


def measure_one(server: Server, target: Target, seconds: float) -> Load:
    with awake(server) if target.peer else nullcontext():
        check_answers(server.port, target.way)
        return wrk(server, target.way, target.connections, seconds)


def _median(loads: list[Load]) -> Load:
    def median(key: str) -> float:
        return statistics.median(getattr(load, key) for load in loads)

    errors = sum(load.errors for load in loads)
    return Load(median("rate"), median("p50"), median("p99"), errors, median("cpu"))


def measure_bulk(servers: Mapping[str, Server], rounds: int) -> dict[str, float]:
    """Milliseconds of one request with 1,000 images, and of their forward pass alone: medians, interleaved."""
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
    forward = forward_pass(torch.from_numpy(array)[:, None])
    found: dict[str, list[float]] = {name: [] for name in (*kinds, FORWARD)}
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
        begun = time.perf_counter()
        forward()
        if number:
            found[FORWARD].append((time.perf_counter() - begun) * 1000)
    return {name: statistics.median(times) for name, times in found.items()}


def forward_pass(images: torch.Tensor) -> Callable[[], None]:
    """That of the service: the same form of the model, batches and threads."""
    model = InferenceModel(Classifier.load(ROOT / "models" / "weights" / "minist.pth", torch.device("cpu")))
    model.freeze()
    threads = threads_per_worker(cpu_quota(), 1)

    def forward() -> None:
        torch.set_num_threads(threads)
        for batch in torch.split(images, MAX_BATCH_SIZE):
            model(batch)

    return forward


def cold_start(words: Callable[[int, int], list[str]], way: Way, directory: Path) -> float:
    """Seconds from the start of the process to the first right answer."""
    port = free_port()
    begun = time.perf_counter()
    with started(words(port, 1), port, way, directory / f"{port}.log", variables(directory)):
        return time.perf_counter() - begun


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
        ("1 worker / bare ASGI", one / rate["bare ASGI, no service"], 0.9),
        ("digits / minist", rate["minist, digits"] / one, 0.8),
        ("1 worker: 15 ms / p99", 15 / load["minist"].p99, 1),
        ("256 connections / 64", rate["minist, 256 connections"] / one, 0.85),
        ("cnn / def with the same cnn", rate["minist, cnn"] / rate["hand-written def, cnn"], 8),
        ("1,000 images: idx", by_hand / bulk["minist, idx"], 7),
        ("1,000 images: npy", by_hand / bulk["minist, npy"], 7),
        ("1,000 images: forward pass / npy", bulk[FORWARD] / bulk["minist, npy"], 0.85),
        ("1,000 images: PNG parts", by_hand / bulk["minist, PNG parts"], 2.5),
        ("cold start: by hand / minist", others["cold hand"] / others["cold minist"], 1 / 1.25),
        ("memory: by hand / minist", others["memory hand"] / others["memory minist"], 1 / 1.15),
        ("no errors", float(all(load[target.name].errors == 0 for target in targets())), 1),
    ]
    if "MLServer, V2 JSON" in rate:
        rows.append(("V2 binary / MLServer", rate["minist, V2 binary"] / rate["MLServer, V2 JSON"], 2))
    if "TorchServe" in rate:
        rows += [
            ("1 worker / TorchServe", one / rate["TorchServe"], 1.2),
            ("2 workers / TorchServe", two / rate["TorchServe"], 1.8),
            (
                "1 worker: 15/18 of TorchServe's p99 / p99",
                load["TorchServe"].p99 * 15 / 18 / load["minist"].p99,
                1,
            ),
        ]
    return rows


def tables(load: Mapping[str, Load], bulk: Mapping[str, float], others: Mapping[str, float]) -> Iterator[str]:
    base = load["hand-written def"].rate
    yield "| 64 connections unless stated | requests/s | x | p50 ms | p99 ms | CPU us/request | errors |"
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


def compared(load: Mapping[str, Load]) -> Iterator[tuple[str, float]]:
    """What is measured of both trees, and how this one does: above 1 is better."""
    for target in targets():
        before = load.get(target.name.replace("minist", "before"))
        if target.server.startswith("minist") and before is not None:
            now = load[target.name]
            yield f"{target.name}: requests/s", now.rate / before.rate
            yield f"{target.name}: CPU per request", before.cpu / now.cpu


def start_ours(wanted: list[Target], directory: Path, stack: ExitStack, tree_before: Path) -> dict[str, Server]:
    servers: dict[str, Server] = {}
    for name in dict.fromkeys(target.server for target in wanted if not target.peer):
        kind, workers = name.split()
        words, way = STARTS["minist" if kind == "before" else kind]
        port = free_port()
        log = directory / f"{port}.log"
        home, cwd = ("home-before", tree_before) if kind == "before" else ("home", ROOT)
        command = minist_words(port, int(workers), cwd) if kind == "before" else words(port, int(workers))
        servers[name] = stack.enter_context(started(command, port, way, log, variables(directory, home), cwd))
    return servers


def peer_targets() -> list[Target]:
    found = [Target(peer.name, peer.name, peer.way, warm_up=peer.warm_up, peer=True) for peer in PEERS]
    return [
        *found,
        # it has no raw tensors over REST
        Target("MLServer, V2 JSON", "MLServer", json_tensor("/v2/models/digits/infer"), warm_up=5, peer=True),
    ]


def start_peers(
    wanted: list[Target], cache: Path, directory: Path, stack: ExitStack
) -> tuple[dict[str, Server], dict[str, str]]:
    """Those that answer, stopped until it is their turn; and why others are left out."""
    servers: dict[str, Server] = {}
    left_out: dict[str, str] = {}
    names = {target.server for target in wanted}
    for peer in PEERS:
        if peer.name not in names:
            continue
        _say(f"starting {peer.name}, installing it where needed")
        try:
            servers[peer.name] = stack.enter_context(peer.started(cache, directory))
            servers[peer.name].signal(signal.SIGSTOP)
        except (Unavailable, NoAnswer, OSError) as error:
            left_out[peer.name] = str(error)
            _say(f"{peer.name} is left out: {error}")
    return servers, left_out


def peer_versions(servers: Mapping[str, Server], cache: Path) -> str:
    found = {peer.title: peer.version(cache) for peer in PEERS if peer.name in servers}
    return ", ".join(f"{title} {version}" for title, version in found.items())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--only", help="measure only the targets whose name contains this, without a table")
    parser.add_argument("--check", action="store_true", help="status 1 if a target is missed")
    parser.add_argument("--peers", action="store_true", help="also LitServe, BentoML, MLServer, TorchServe")
    parser.add_argument("--before", type=Path, help="another checkout, measured in the same rounds")
    parser.add_argument("--peers-dir", type=Path, default=ROOT / ".peers", help="of the peers' environments")
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("error: wrk is not installed (Debian: apt-get install wrk)")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        known = targets() + (targets_before() if chosen.before else [])
        known += peer_targets() if chosen.peers else []
        wanted = [target for target in known if not chosen.only or chosen.only in target.name]
        servers = start_ours(wanted, directory, stack, (chosen.before or ROOT).resolve())
        peers, left_out = start_peers(wanted, chosen.peers_dir.resolve(), directory, stack)
        servers |= peers
        wanted = [target for target in wanted if target.server in servers]
        load = measure(servers, wanted, chosen.rounds, chosen.seconds, left_out)
        if chosen.only:
            return
        bulk = measure_bulk(servers, chosen.rounds)
        others = {
            "memory hand": resident_mib(servers["hand 1"].process.pid),
            "memory minist": resident_mib(servers["minist 1"].process.pid),
        }
        times: dict[str, list[float]] = {who: [] for who in COLD}
        for _ in range(max(3, chosen.rounds)):
            for who in COLD:
                words, way = STARTS[who]
                times[who].append(cold_start(words, way, directory))
        others |= {f"cold {who}": statistics.median(found) for who, found in times.items()}
    print(*tables(load, bulk, others), sep="\n")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, FastAPI {fastapi.__version__}"
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d}, medians of {chosen.rounds} interleaved rounds of "
        f"{chosen.seconds:g} s, "
        f"{os.cpu_count()} CPUs shared with wrk, load average {os.getloadavg()[0]:.1f}; {versions}, "
        f"uvicorn {uvicorn.__version__}\n"
    )
    if chosen.peers:
        print(f"Peers: {peer_versions(servers, chosen.peers_dir) or 'none'}.")
        for name, reason in left_out.items():
            print(f"{name} is left out: {reason}")
        print()
    missed = False
    print("| bar | reached | at least | |\n|---|---|---|---|")
    for what, figure, least in bars(load, bulk, others):
        missed |= figure < least
        print(f"| {what} | {figure:.2f} | {least:.2f} | {'holds' if figure >= least else 'MISSED'} |")
    if chosen.before:
        print("\n| against the tree before | x | |\n|---|---|---|")
        for what, ratio in compared(load):
            missed |= ratio < 1 - WORSE
            print(f"| {what} | {ratio:.2f} | {'holds' if ratio >= 1 - WORSE else 'WORSE'} |")
    if chosen.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except NoAnswer as error:
        sys.exit(f"error: {error}")
