"""How many API processes a load needs: a simulation from what a request costs, checked against real ones.

    python -m benchmarks.scaling [--turn US] [--request US] [--p99 MS]    the simulation alone
    python -m benchmarks.scaling --measure [--seconds 4]                  measures first, and compares

A turn of the event loop with n requests costs `turn + n * request` microseconds of CPU. Measured are CPU per
request with one connection (turn + request) and with 64, on one process; what 4, 16 and 256 connections, and
two and three processes do is then foretold, with wrk on the same CPUs. Needs wrk; listens on 127.0.0.1.
"""

import argparse
import os
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.queueing import Cost, Fleet, Outcome, arriving, looping, needed
from benchmarks.servers import free_port, started
from benchmarks.serving import Load, minist_words, variables, wrk
from benchmarks.upload import upload

PREDICT = upload("/predict")
RUNS = ((1, 1), (1, 4), (1, 16), (1, 64), (1, 256), (2, 64), (3, 64))  # processes, connections
MANY = 64
LOADS = (0.1, 0.5, 0.7, 0.8, 0.9, 0.95)  # of what the CPUs bear
TARGETS = (10, 1_000, 10_000, 100_000)  # requests per second


@dataclass(frozen=True)
class Run:
    """What wrk saw, and the CPU seconds that wrk itself took of each request."""

    load: Load
    client: float


def measure(seconds: float) -> dict[tuple[int, int], Run]:
    found: dict[tuple[int, int], Run] = {}
    with tempfile.TemporaryDirectory() as name:
        for processes in sorted({processes for processes, _ in RUNS}):
            port, log = free_port(), Path(name, f"{processes}.log")
            words = minist_words(port, processes)
            with started(words, port, PREDICT, log, variables(Path(name))) as server:
                wrk(server, PREDICT, MANY, 2)  # warms up
                for connections in (one for of, one in RUNS if of == processes):
                    before = _children()
                    load = wrk(server, PREDICT, connections, seconds)
                    client = (_children() - before) / (load.rate * seconds)
                    found[processes, connections] = Run(load, client)
                    print(f"measured {processes} x {connections}: {load}", flush=True)
    return found


def _children() -> float:
    """CPU seconds of children that have ended: of wrk, while the server runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fitted(found: dict[tuple[int, int], Run]) -> Cost:
    """From one connection and from many: n is what a turn takes of them, as the simulation has it."""
    alone, many = found[1, 1].load.cpu / 1e6, found[1, MANY].load.cpu / 1e6
    request = many
    for _ in range(5):  # the turns of many are large: their part is small, and soon found
        share = (alone - request) / _turn_of(Cost(alone - request, request), found[1, MANY].client)
        request = many - share
    return Cost(alone - request, request)


def _turn_of(cost: Cost, client: float) -> float:
    """Requests of a turn with many connections."""
    rate = simulated(1, MANY, cost, client).rate
    busy = 1 / rate - cost.request  # of a process that always has something to do
    return max(1.0, min(MANY, cost.turn / busy)) if busy > 0 else MANY


def simulated(processes: int, connections: int, cost: Cost, client: float) -> Outcome:
    fleet = Fleet(cpus=os.cpu_count() or 1, processes=processes)
    return looping(fleet, cost, connections, Cost(0.0, client, batch=1))


def compared(found: dict[tuple[int, int], Run], cost: Cost) -> Iterator[str]:
    yield f"{os.cpu_count()} CPUs for the processes and wrk; measured / simulated\n"
    yield "| processes | connections | requests/s | p50 ms | p99 ms | CPU us/request |"
    yield "|---|---|---|---|---|---|"
    for (processes, connections), run in found.items():
        told, load = simulated(processes, connections, cost, run.client), run.load
        rates = f"{load.rate:,.0f} / {told.rate:,.0f}"
        times = f"{load.p50:.1f} / {told.p50 * 1e3:.1f} | {load.p99:.1f} / {told.p99 * 1e3:.1f}"
        yield f"| {processes} | {connections} | {rates} | {times} | {load.cpu:.0f} |"


def latencies(cost: Cost) -> Iterator[str]:
    yield "| p50 / p99 ms at | " + " | ".join(f"{load:.0%}" for load in LOADS) + " |"
    yield "|---|" + "---|" * len(LOADS)
    for processes in (1, 2, 3, 10):
        cells = []
        for load in LOADS:
            found = arriving(Fleet(processes), cost, load * processes / cost.request)
            cells.append(f"{found.p50 * 1e3:.1f} / {found.p99 * 1e3:.1f}")
        yield f"| {processes} processes, {processes / cost.request:,.0f} requests/s | {' | '.join(cells)} |"


def sizes(cost: Cost, p99: float) -> Iterator[str]:
    yield f"| requests/s | processes for a p99 of {p99 * 1e3:g} ms | p50 ms | p99 ms | of their CPU |"
    yield "|---|---|---|---|---|"
    for rate in TARGETS:
        number, found = needed(cost, rate, p99, max(30_000, rate))
        used = rate * cost.request / number
        yield f"| {rate:,} | {number} | {found.p50 * 1e3:.1f} | {found.p99 * 1e3:.1f} | {used:.0%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turn", type=float, default=767, help="microseconds of CPU of each turn of the loop")
    parser.add_argument("--request", type=float, default=255, help="microseconds of CPU of each request in it")
    parser.add_argument("--p99", type=float, default=10, help="milliseconds")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    given = parser.parse_args()
    cost = Cost(given.turn / 1e6, given.request / 1e6)
    if given.measure:
        found = measure(given.seconds)
        cost = fitted(found)
        print(*compared(found, cost), sep="\n", end="\n\n")
    print(f"a turn costs {cost.turn * 1e6:.0f} us, each of its requests {cost.request * 1e6:.0f} us\n")
    print(*latencies(cost), "", *sizes(cost, given.p99 / 1e3), sep="\n")


if __name__ == "__main__":
    main()
