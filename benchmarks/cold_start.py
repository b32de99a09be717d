"""Seconds from the start of the process to the first answer: a bare server against `python -m app`.

    python -m benchmarks.cold_start [--rounds 5] [--check]

The bare server is the least that can be written: it imports torch and uvicorn, loads the weights of
one model and answers 200 to anything after a forward pass. Bare, ours, bare, ours, .. after a round
that fills the file cache and is not counted; medians. Ours is measured in a home that it has used
before, and, for information, in an empty one.
"""

import argparse
import http.client
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
import uvicorn

BAR = 1.3
PATIENCE = 120  # seconds until a server that does not answer is given up
POLL = 0.005
ROOT = Path(__file__).parent.parent
IMAGE = (ROOT / "examples" / "7.png").read_bytes()
WEIGHTS = ROOT / "models" / "weights" / "minist.pth"

BARE = """
import sys

import torch
import uvicorn
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear1 = nn.Linear(784, 512)
        self.linear2 = nn.Linear(512, 256)
        self.linear3 = nn.Linear(256, 128)
        self.linear4 = nn.Linear(128, 64)
        self.linear5 = nn.Linear(64, 10)

    def forward(self, x):
        x = x.view(-1, 784)
        for layer in (self.linear1, self.linear2, self.linear3, self.linear4):
            x = F.relu(layer(x))
        return self.linear5(x)


async def answer(scope, receive, send):
    with torch.no_grad():
        digit = model(torch.zeros(1, 1, 28, 28)).argmax().item()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % digit})


model = Net()
model.load_state_dict(torch.load(sys.argv[1]))
model.eval()
torch.set_num_threads(1)
uvicorn.run(answer, host="127.0.0.1", port=int(sys.argv[2]), lifespan="off")
"""


def seconds_to_answer(command: Sequence[str], port: int, home: Path) -> float:
    """From the start of the process to its first 200."""
    environment = {**os.environ, "MINIST_HOME": str(home), "MINIST_DEFAULT_MODEL": "minist"}
    with (home / "log").open("w+") as log:
        begun = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            while not answers(port):
                if process.poll() is not None or time.perf_counter() - begun > PATIENCE:
                    log.seek(0)
                    raise SystemExit(f"error: no answer from {' '.join(command[1:3])}:\n{log.read()}")
                time.sleep(POLL)
            return time.perf_counter() - begun
        finally:
            process.terminate()
            process.wait()


def answers(port: int) -> bool:
    """Whether a prediction gets a 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", "/predict", IMAGE, {"content-type": "image/png"})
        return connection.getresponse().status == 200
    except OSError:  # not listening yet
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def measure_round(directory: Path, number: int) -> dict[str, float]:
    """Seconds of each side, one after the other."""
    script = directory / "bare.py"
    script.write_text(BARE)
    used, empty = directory / "home", directory / f"home-{number}"
    for home in (used, empty):
        home.mkdir(exist_ok=True)

    def app_in(home: Path) -> float:
        port = free_port()
        return seconds_to_answer([sys.executable, "-m", "app", "--port", str(port)], port, home)

    def bare() -> float:
        port = free_port()
        return seconds_to_answer([sys.executable, str(script), str(WEIGHTS), str(port)], port, directory)

    return {"bare": bare(), "ours": app_in(used), "ours, empty home": app_in(empty)}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 done, 1 with --check when the bar is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cold_start", description="Time to first answer."
    )
    parser.add_argument("--rounds", type=int, default=5, help="starts of each (default 5)")
    parser.add_argument("--check", action="store_true", help="exit 1 when the bar is missed")
    chosen = parser.parse_args(arguments)

    rounds = []
    with tempfile.TemporaryDirectory() as directory:
        for number in range(chosen.rounds + 1):
            found = measure_round(Path(directory), number)
            print(number, *(f"{side} {seconds:.2f} s" for side, seconds in found.items()), file=sys.stderr)
            rounds.append(found)
    medians = {side: median(found[side] for found in rounds[1:]) for side in rounds[0]}
    report(medians, chosen.rounds)
    return 1 if chosen.check and medians["ours"] > BAR * medians["bare"] else 0


def report(medians: dict[str, float], rounds: int) -> None:
    """The table, in Markdown."""
    print("| seconds to the first 200 | median | ratio | allowed |\n|---|---:|---:|---:|")
    allowed = {"ours": f"{BAR}x"}
    for side, seconds in medians.items():
        print(f"| {side} | {seconds:.2f} | {seconds / medians['bare']:.2f}x | {allowed.get(side, '')} |")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, uvicorn {uvicorn.__version__}"
    print(f"\nMedians of {rounds} rounds. {versions}, {os.cpu_count()} CPUs.")


if __name__ == "__main__":
    sys.exit(main())
