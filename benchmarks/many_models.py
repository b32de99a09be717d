"""What a process with many models costs: its start, its memory, and what it asks four times a second.

    python -m benchmarks.many_models [1000 10000]

Each is a softmax of 33 KB, one file that all models link to, in a home of its own on SQLite. CPU seconds of
this process; memory is its resident set.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from sqlalchemy import insert

from app.home import Home
from app.serving.registry import Registry
from app.settings import Settings
from app.store import locks
from app.store.audit import Change, note
from app.store.shipped import WEIGHTS
from app.store.tables import aliases, versions
from app.store.versions import PRODUCTION
from app.telemetry.counters import Counters
from app.web.routes.models import list_models
from benchmarks.servers import resident_mib

SHIPPED = "softmax-mnist"
TURNS = 40  # of what is too short for one


def publish(home: Home, names: list[str]) -> None:
    """Models of one version, in production."""
    card, weights = (WEIGHTS / f"{SHIPPED}{ending}" for ending in (".json", ".pth"))
    digest = json.loads(card.read_text())["sha256"]
    for name in names:
        folder = home.paths.version(name, 1)
        folder.mkdir(parents=True)
        os.link(weights, folder / f"{name}.pth")
        os.link(card, folder / f"{name}.json")
    same = {"version": 1, "sha256": digest, "created_at": time.time(), "deleted": False, "job_id": None}
    with home.database.write(locks.VERSIONS) as connection:
        connection.execute(insert(versions), [{"model": name, **same} for name in names])
        rows = [{"model": name, "alias": PRODUCTION, "version": 1} for name in names]
        connection.execute(insert(aliases), rows)
        for name in names:
            note(connection, Change("benchmark", "publish", name, "", to_version=1))


def seconds(work: Callable[[], object], turns: int = 1) -> float:
    """CPU seconds of one turn."""
    begun = time.process_time()
    for _ in range(turns):
        work()
    return (time.process_time() - begun) / turns


def measured(number: int, directory: Path) -> Iterator[tuple[str, str]]:
    """What, and how much."""
    settings = Settings(home=directory, api_key="0123456789abcdef")  # type: ignore[arg-type]
    names = [f"model-{n:05d}" for n in range(number)]
    home = Home.open(settings)
    publish(home, names)
    home.database.close()
    opened: list[Home] = []
    yield "open the home", f"{seconds(lambda: opened.append(Home.open(settings))):.2f} s"
    home = opened[0]
    counters = Counters()
    registry = Registry(home.versions, settings.default_model, torch.device("cpu"), counters)
    yield "load the default model: the first answer", f"{seconds(registry.start):.2f} s"
    before = resident_mib(os.getpid())
    yield "load all others, in a thread beside the answers", f"{seconds(registry.refresh):.2f} s"
    yield "memory of all others", f"{resident_mib(os.getpid()) - before:,.0f} MiB"
    yield "poll, nothing has changed", f"{seconds(registry.refresh, TURNS) * 1e3:.2f} ms"
    home.versions.move(names[0], "canary", 1, "benchmark", "")
    yield "poll, one alias was moved", f"{seconds(registry.refresh) * 1e3:,.0f} ms"
    body = json.dumps([summary.model_dump(mode="json") for summary in list_models(registry)])
    yield "GET /models", f"{len(body) / 1e6:.2f} MB, {seconds(lambda: list_models(registry)) * 1e3:,.0f} ms"
    numbers = seconds(lambda: json.dumps(counters.snapshot(0, 0)), TURNS)
    yield "the numbers of this process, each second, in the event loop", f"{numbers * 1e3:.1f} ms"
    home.database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=int, nargs="*", default=[1000, 10_000])
    torch.set_num_threads(1)
    for number in parser.parse_args().models:
        print(f"{number:,} models:")
        with tempfile.TemporaryDirectory(dir=WEIGHTS.parent.parent) as directory:  # links need one disk
            for what, how_much in measured(number, Path(directory)):
                print(f"  {what}: {how_much}", flush=True)


if __name__ == "__main__":
    main()
