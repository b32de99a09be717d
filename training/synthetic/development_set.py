"""The development set of the preprocessing: simulated pictures of held-out training digits.

    python -m training.synthetic.development_set tests/data/pictures --count 26

writes the pictures and `labels.json`.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np

from training.datasets import load_dataset
from training.synthetic.camera import Picture
from training.synthetic.rendering import Writer
from training.synthetic.scenes import KINDS


def simulate(writer: Writer, count: int) -> list[tuple[str, int, Picture]]:
    """`count` pictures of each kind, labels in turn: kind, label, picture."""
    return [(kind, i % 10, take(writer, i % 10)) for kind, take in KINDS.items() for i in range(count)]


def main() -> None:
    """Write pictures and `labels.json` into a directory."""
    parser = argparse.ArgumentParser(
        prog="python -m training.synthetic.development_set", description="Simulate pictures of digits."
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--count", type=int, default=26, help="pictures of each kind (default 26)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("MINIST_DATA_DIR", "data")))
    options = parser.parse_args()
    _, held_out = load_dataset("mnist", options.data_dir).hold_out(5000, 0)
    assert held_out is not None
    random = np.random.default_rng(options.seed)
    writer = Writer(held_out.images[:, 0].numpy(), held_out.labels.numpy(), random)
    options.directory.mkdir(parents=True, exist_ok=True)
    labels = {}
    for number, (kind, label, (data, ending)) in enumerate(simulate(writer, options.count)):
        name = f"{kind}-{number % options.count:02d}.{ending}"
        (options.directory / name).write_bytes(data)
        labels[name] = label
    (options.directory / "labels.json").write_text(json.dumps(labels, indent=0) + "\n")


if __name__ == "__main__":
    main()
