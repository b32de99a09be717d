"""How much a training job hurts predictions: latency of `POST /predict` while a job trains, against idle.

One service, one run: idle and training rounds take turns. The load is a few closed-loop clients with
pauses (a service that is asked, not flooded); both phases are the same.
"""

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
import torch

ROOT = Path(__file__).parent.parent
KEY = "benchmark"
HEADERS = {"authorization": f"Bearer {KEY}"}
IMAGE = (ROOT / "examples" / "7.png").read_bytes()


async def latencies(base: str, clients: int, seconds: float, pause: float) -> list[float]:
    """Milliseconds of each request."""
    found: list[float] = []

    async def ask(client: httpx2.AsyncClient, until: float) -> None:
        while time.monotonic() < until:
            begun = time.perf_counter()
            response = await client.post("/predict", content=IMAGE, headers={"content-type": "image/png"})
            found.append((time.perf_counter() - begun) * 1000)
            assert response.json()["label"] == "7"
            await asyncio.sleep(pause)

    async with httpx2.AsyncClient(base_url=base, trust_env=False) as client:
        until = time.monotonic() + seconds
        await asyncio.gather(*(ask(client, until) for _ in range(clients)))
    return found


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def wait_until(client: httpx2.Client, job: str, status: str) -> None:
    while client.get(f"/train/{job}").json()["status"] != status:
        time.sleep(0.1)


def measure(base: str, rounds: int, seconds: float, clients: int, pause: float, recipe: str) -> list[str]:
    """A line of the table per phase, and the ratio."""
    phases: dict[str, list[tuple[float, float, int]]] = {"idle": [], "training": []}
    with httpx2.Client(base_url=base, headers=HEADERS, trust_env=False, timeout=30) as client:
        asyncio.run(latencies(base, clients, 2, pause))  # warm up
        for _ in range(rounds):
            phases["idle"].append(_summary(base, clients, seconds, pause))
            body = {"model": "bench", "recipe": recipe, "epochs": 1000, "promote": "never"}
            job = client.post("/train", json=body).raise_for_status().json()["id"]
            while client.get(f"/train/{job}").json()["epoch"] < 1:
                time.sleep(0.2)
            phases["training"].append(_summary(base, clients, seconds, pause))
            client.delete(f"/train/{job}").raise_for_status()
            wait_until(client, job, "cancelled")
            time.sleep(0.5)
    medians = {
        name: tuple(statistics.median(column) for column in zip(*rows, strict=True))
        for name, rows in phases.items()
    }
    lines = [f"| {name} | {p50:.2f} | {p99:.2f} | {count:.0f} |" for name, (p50, p99, count) in medians.items()]
    ratio = medians["training"][1] / medians["idle"][1]
    return [*lines, f"\np99 while training / idle: {ratio:.2f}x (must be at most 2x)"]


def _summary(base: str, clients: int, seconds: float, pause: float) -> tuple[float, float, int]:
    found = asyncio.run(latencies(base, clients, seconds, pause))
    return percentile(found, 0.5), percentile(found, 0.99), len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.005, help="seconds between a client's requests")
    parser.add_argument("--recipe", default="mlp")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--data-dir", default=os.environ.get("MINIST_DATA_DIR", "data"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "MINIST_HOME": home,
            "MINIST_DEFAULT_MODEL": "minist",
            "MINIST_DATA_DIR": chosen.data_dir,
            "MINIST_API_KEY": KEY,
        }
        words = [sys.executable, "-m", "app", "--port", str(chosen.port)]
        server = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        base = f"http://127.0.0.1:{chosen.port}"
        try:
            _wait_until_ready(base)
            print("| `POST /predict` | p50 ms | p99 ms | requests |\n|---|---|---|---|")
            print(
                *measure(base, chosen.rounds, chosen.seconds, chosen.clients, chosen.pause, chosen.recipe),
                sep="\n",
            )
        finally:
            server.terminate()
            server.wait(30)
    print(
        f"\nMedians of {chosen.rounds} rounds of {chosen.seconds:.0f} s, {chosen.clients} clients; "
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} CPUs."
    )


def _wait_until_ready(base: str) -> None:
    for _ in range(600):
        try:
            if httpx2.get(f"{base}/readyz", trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise SystemExit("the service did not start")


if __name__ == "__main__":
    main()
