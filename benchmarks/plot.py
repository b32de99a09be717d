"""The first table of `benchmarks.serving` as a picture: `python -m benchmarks.plot TABLE.md OUT.png`."""

import re
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

OURS, OTHERS = "#a8361a", "#b9b4a7"
_ROW = re.compile(r"^\| ([^|]+) \| ([\d,]+) \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|", re.M)


def main(table: Path, out: Path) -> None:
    """Requests per second at 64 connections; the 99th percentile beside each bar."""
    rows = [
        (name, int(rate.replace(",", "")), float(p99))
        for name, rate, p99 in _ROW.findall(table.read_text())
        if "connection" not in name and "cnn" not in name
    ]
    rows.sort(key=lambda row: row[1])
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(rows) + 0.9), layout="constrained")
    colours = [OURS if name.startswith("minist") else OTHERS for name, _, _ in rows]
    bars = axes.barh([name for name, _, _ in rows], [rate for _, rate, _ in rows], color=colours, height=0.7)
    axes.bar_label(bars, [f"{rate:,}   p99 {p99:.0f} ms" for _, rate, p99 in rows], padding=5, fontsize=9)
    axes.set_xlim(0, 1.28 * max(rate for _, rate, _ in rows))
    axes.set_xlabel("requests per second, 64 connections, one 28x28 PNG each")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
