"""How fast photographs are answered, against what one writes by hand, and what they do to small requests.

    python -m benchmarks.photographs [--rounds 3] [--seconds 5] [--check] [--before CHECKOUT]

One API worker each; hand-written is Pillow's open, convert and resize and an MLP in a `def` endpoint, which
does not look for the digit. The load is wrk, one thread, uploads in a form. Rounds are interleaved, figures are
medians over rounds. The last line asks with 28x28 pixels on one connection, alone and while sixteen others
send photographs. wrk and all processes share the machine's CPUs: run it when nothing else does.
"""

import argparse
import io
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.servers import DIGITS, ROOT, NoAnswer, Server
from benchmarks.serving import Load, Target, start_ours, wrk
from benchmarks.upload import label_of, upload

PREDICT = upload("/predict")
BY_HAND = upload("/photograph")
SIZES = {"800x600": ((800, 600), 10), "12 megapixels": ((4000, 3000), 4)}  # and how many different ones


@dataclass(frozen=True)
class Line:
    """What is sent, by how many connections, and which figure of wrk's counts."""

    name: str
    size: str
    connections: int
    figure: str
    bar: float | None  # of minist


LINES = (
    Line("800x600 JPEG, 1 connection: p50, ms", "800x600", 1, "p50", 4),
    Line("800x600 JPEG, 1 connection: p99, ms", "800x600", 1, "p99", 12),
    Line("800x600 JPEG, 16 connections: requests/s", "800x600", 16, "rate", 350),
    Line("12-megapixel JPEG, 16 connections: requests/s", "12 megapixels", 16, "rate", 130),
)
BESIDE = "28x28 while 16 connections send 800x600: p99 / p99 alone"
BESIDE_AT_MOST = 3.0
Figures = dict[tuple[str, str], list[float]]  # by line and server


def photograph(label: int, size: tuple[int, int]) -> bytes:
    """A digit in ink on a sheet in uneven light, with the grain of a camera, as JPEG."""
    width, height = size
    side = height // 3
    ink = Image.open(DIGITS[label]).resize((side, side), Image.Resampling.BICUBIC)
    sheet = Image.new("L", size, 230)
    sheet.paste(40, ((width - side) // 2, (height - side) // 2), ink)
    random = np.random.default_rng(label)
    light = np.linspace(0.75, 1, width, dtype=np.float32)
    grain = random.normal(0, 3, (height, width)).astype(np.float32)
    pixels = (np.asarray(sheet, np.float32) * light + grain).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(stream, "JPEG", quality=85)
    return stream.getvalue()


def check(server: Server, photographs: Sequence[bytes]) -> None:
    """minist finds the digit in each."""
    for label, image in enumerate(photographs):
        found = label_of(server.port, PREDICT, image)
        if found != str(label):
            raise ValueError(f"{found} instead of {label}")


def measure(
    servers: dict[str, Server], photographs: dict[str, list[bytes]], rounds: int, seconds: float
) -> tuple[Figures, int]:
    """Each line of each server once a round, and the number of errors; the first round warms up."""
    figures: Figures = {}
    errors = 0
    for number in range(rounds + 1):
        for size, connections in dict.fromkeys((line.size, line.connections) for line in LINES):
            for name, server in servers.items():
                way = BY_HAND if name.startswith("hand") else PREDICT
                load = wrk(server, way, connections, seconds if number else 1, photographs[size])
                errors += load.errors
                for line in LINES:
                    if number and (line.size, line.connections) == (size, connections):
                        figures.setdefault((line.name, name), []).append(getattr(load, line.figure))
                _say(number, f"{name}, {size}, {connections} connections", load)
        for name, server in servers.items():
            ratio, wrong = beside(server, seconds if number else 1, photographs["800x600"], name)
            errors += wrong
            if number:
                figures.setdefault((BESIDE, name), []).append(ratio)
    return figures, errors


def beside(server: Server, seconds: float, photographs: list[bytes], name: str) -> tuple[float, int]:
    """p99 of 28x28 requests under photographs over what it is alone, and errors."""
    small, large = (upload("/def"), BY_HAND) if name.startswith("hand") else (PREDICT, PREDICT)
    alone = wrk(server, small, 1, seconds)
    with ThreadPoolExecutor() as pool:
        load = pool.submit(wrk, server, large, 16, seconds + 1, photographs)
        under = wrk(server, small, 1, seconds)
        other = load.result()
    _say(0, f"{name}, 28x28 alone", alone)
    _say(0, f"{name}, 28x28 beside photographs ({other.rate:.0f}/s)", under)
    return under.p99 / alone.p99, alone.errors + under.errors + other.errors


def table(figures: Figures, servers: Sequence[str]) -> Iterator[str]:
    yield f"| one API worker | {' | '.join(servers)} | bar |"
    yield "|---|" + "---|" * (len(servers) + 1)
    for name, bar in bars():
        found = [f"{statistics.median(figures[name, server]):.1f}" for server in servers]
        yield f"| {name} | {' | '.join(found)} | {bar} |"


def bars() -> Iterator[tuple[str, float | None]]:
    yield from ((line.name, line.bar) for line in LINES)
    yield BESIDE, BESIDE_AT_MOST


def missed(figures: Figures) -> list[str]:
    """The lines where minist does not reach its bar."""
    found = []
    for line in LINES:
        value = statistics.median(figures[line.name, "minist 1"])
        if line.bar is not None and (value < line.bar if line.figure == "rate" else value > line.bar):
            found.append(line.name)
    if statistics.median(figures[BESIDE, "minist 1"]) > BESIDE_AT_MOST:
        found.append(BESIDE)
    return found


def _say(number: int, what: str, load: Load) -> None:
    text = f"{load.rate:.0f}/s, p50 {load.p50:.2f} ms, p99 {load.p99:.1f} ms, {load.cpu:.0f} us of CPU"
    print(f"round {number}: {what}: {text}, {load.errors} errors", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--check", action="store_true", help="status 1 where a bar is missed")
    parser.add_argument("--before", type=Path, help="another checkout, measured in the same rounds")
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("error: wrk is not installed (Debian: apt-get install wrk)")
    names = ["hand 1", "minist 1", *(["before 1"] if chosen.before else [])]
    photographs = {
        name: [photograph(label, size) for label in range(count)] for name, (size, count) in SIZES.items()
    }
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        targets = [Target(name, name, PREDICT) for name in names]
        servers = start_ours(targets, Path(directory), stack, (chosen.before or ROOT).resolve())
        for images in photographs.values():
            check(servers["minist 1"], images)
        figures, errors = measure(servers, photographs, chosen.rounds, chosen.seconds)
    print(*table(figures, names), sep="\n")
    kib = ", ".join(f"{name}: {len(images[0]) // 1024} KiB" for name, images in photographs.items())
    print(
        f"\n{datetime.now(UTC):%Y-%m-%d}, medians of {chosen.rounds} interleaved rounds of "
        f"{chosen.seconds:g} s, {os.cpu_count()} CPUs shared with wrk, load average {os.getloadavg()[0]:.1f}; "
        f"{errors} errors; {kib}; Python {platform.python_version()}"
    )
    lines = missed(figures)
    for line in lines:
        print(f"MISSED: {line}")
    if chosen.check and (lines or errors):
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except NoAnswer as error:
        sys.exit(f"error: {error}")
