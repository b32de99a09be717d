"""A discrete-event simulation of API processes: what they cost is given, who waits for how long comes out.

A process takes all requests that wait, as `app.serving.batching` does, up to a batch; a turn with n of them
takes `turn + n * request` seconds of a CPU. Processes of one machine share its CPUs equally. Requests come at
random and are distributed by a balancer (`arriving`), or from a fixed number of connections that ask again
when they have their answer, through a client that needs CPU, too (`looping`, which is what wrk does).
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from app.serving.batching import MAX_BATCH_SIZE

Balancer = Literal["round robin", "least connections"]
WARM_UP = 0.1  # of the requests, which are not counted


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a turn, and of each request in it."""

    turn: float
    request: float
    batch: int = MAX_BATCH_SIZE

    def of(self, number: int) -> float:
        return self.turn + number * self.request


@dataclass(frozen=True)
class Fleet:
    """Machines with so many CPUs and API processes each."""

    machines: int = 1
    cpus: int = 1
    processes: int = 1

    def built(self) -> "tuple[list[Machine], list[Process]]":
        machines = [Machine(self.cpus) for _ in range(self.machines)]
        # one after the other from different machines
        return machines, [Process(machine) for _ in range(self.processes) for machine in machines]


@dataclass(frozen=True)
class Outcome:
    """Requests per second that were answered, and how long they took, in seconds."""

    rate: float
    mean: float
    p50: float
    p99: float

    @classmethod
    def of(cls, ends: list[float], taken: list[float]) -> "Outcome":
        skipped = int(len(taken) * WARM_UP)
        kept = np.array(taken[skipped:])
        rate = len(kept) / (ends[-1] - ends[skipped]) if ends[-1] > ends[skipped] else 0.0
        return cls(rate, float(kept.mean()), *(float(np.quantile(kept, part)) for part in (0.5, 0.99)))


@dataclass(eq=False, slots=True)
class Process:
    """What waits, and the turn that runs; items are whatever the caller queues."""

    machine: "Machine"
    waiting: deque[int] = field(default_factory=deque)
    running: list[int] = field(default_factory=list)

    @property
    def connections(self) -> int:
        return len(self.waiting) + len(self.running)


@dataclass(eq=False, slots=True)
class Machine:
    """`left` are the CPU seconds that the turn of each running process still needs, as of the time `at`."""

    cpus: int
    at: float = 0.0
    left: dict[Process, float] = field(default_factory=dict)
    stamp: int = 0  # grows with each change: an end that was foreseen before is void

    def pass_time(self, now: float) -> None:
        if self.left:
            done = (now - self.at) * min(1.0, self.cpus / len(self.left))
            for process in self.left:
                self.left[process] -= done
        self.at = now

    def next_end(self) -> tuple[float, Process]:
        process = min(self.left, key=self.left.__getitem__)
        return self.at + max(0.0, self.left[process]) * max(1.0, len(self.left) / self.cpus), process


class Simulation:
    """Turns of processes; `ended` is told of each: the process, its items, and when."""

    def __init__(
        self, cost: Callable[[Process], Cost], ended: Callable[[Process, list[int], float], None]
    ) -> None:
        self._cost = cost
        self._ended = ended
        self._ends: list[tuple[float, int, int, Machine, Process]] = []
        self._number = itertools.count()  # of two ends at once, the first foreseen goes first

    def submit(self, process: Process, items: Iterable[int], now: float) -> None:
        process.waiting.extend(items)
        if not process.running:
            process.machine.pass_time(now)
            self._begin(process)
            self._foresee(process.machine)

    def next(self) -> float:
        """When the next turn ends; infinity where none runs."""
        while self._ends and self._ends[0][2] != self._ends[0][3].stamp:
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else float("inf")

    def step(self) -> None:
        """End that turn."""
        now, _, _, machine, process = heapq.heappop(self._ends)
        machine.pass_time(now)
        del machine.left[process]
        items, process.running = process.running, []
        self._begin(process)
        self._foresee(machine)
        self._ended(process, items, now)

    def _begin(self, process: Process) -> None:
        cost = self._cost(process)
        number = min(cost.batch, len(process.waiting))
        if number:
            process.running = [process.waiting.popleft() for _ in range(number)]
            process.machine.left[process] = cost.of(number)

    def _foresee(self, machine: Machine) -> None:
        machine.stamp += 1
        if machine.left:
            at, process = machine.next_end()
            heapq.heappush(self._ends, (at, next(self._number), machine.stamp, machine, process))


def arriving(
    fleet: Fleet,
    cost: Cost,
    rate: float,
    balancer: Balancer = "round robin",
    requests: int = 30_000,
    seed: int = 0,
) -> Outcome:
    """So many requests per second in all, at random (a Poisson process)."""
    arrivals = np.random.default_rng(seed).exponential(1 / rate, requests).cumsum().tolist()
    _, processes = fleet.built()
    ends: list[float] = []
    taken: list[float] = []

    def ended(_: Process, items: list[int], now: float) -> None:
        ends.extend([now] * len(items))
        taken.extend(now - arrivals[item] for item in items)

    simulation = Simulation(lambda _: cost, ended)
    for number, now in enumerate(arrivals):
        while simulation.next() <= now:
            simulation.step()
        turned = number % len(processes)
        simulation.submit(_chosen(processes, turned, balancer), [number], now)
    while simulation.next() < float("inf"):
        simulation.step()
    return Outcome.of(ends, taken)


def _chosen(processes: list[Process], turned: int, balancer: Balancer) -> Process:
    if balancer == "round robin" or not processes[turned].connections:
        return processes[turned]
    turn = processes[turned:] + processes[:turned]  # of equals, whose turn it is
    return min(turn, key=lambda process: process.connections)


def looping(
    fleet: Fleet, cost: Cost, connections: int, client: Cost, requests: int = 30_000, own_cpu: bool = False
) -> Outcome:
    """Connections that stay with a process and ask again at once. The client shares the CPUs of the first
    machine, or has one of its own."""
    machines, processes = fleet.built()
    wrk = Process(Machine(1) if own_cpu else machines[0])
    since = [0.0] * connections
    ends: list[float] = []
    taken: list[float] = []

    def ended(process: Process, items: list[int], now: float) -> None:
        if process is not wrk:
            simulation.submit(wrk, items, now)
            return
        for item in items:
            ends.append(now)
            taken.append(now - since[item])
            since[item] = now
        for number, asked in enumerate(processes):
            if mine := [item for item in items if item % len(processes) == number]:
                simulation.submit(asked, mine, now)

    simulation = Simulation(lambda process: client if process is wrk else cost, ended)
    simulation.submit(wrk, range(connections), 0.0)
    while len(taken) < requests:
        simulation.next()  # drops the ends that are void
        simulation.step()
    return Outcome.of(ends, taken)


def needed(cost: Cost, rate: float, p99: float, requests: int = 30_000) -> tuple[int, Outcome]:
    """How many processes, each with a CPU of its own, answer 99 of 100 requests within `p99` seconds."""
    low = int(rate * cost.request)  # these do not keep up
    high = low + 1
    while (found := arriving(Fleet(high), cost, rate, requests=requests)).p99 > p99:
        low, high = high, high + max(1, high // 10)
    while high - low > 1:
        middle = (low + high) // 2
        tried = arriving(Fleet(middle), cost, rate, requests=requests)
        if tried.p99 > p99:
            low = middle
        else:
            high, found = middle, tried
    return high, found
