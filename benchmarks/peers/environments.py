"""An environment for each peer, made by pip when it is first asked for.

It falls back on the packages of this process (torch is 5 GB), behind its own.
"""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

WANTED = "requirements.txt"  # written last: an environment that has it is complete


class Unavailable(Exception):
    """A peer cannot be had on this machine; the message says why."""


def environment(folder: Path, requirements: Sequence[str]) -> Path:
    """Its `bin`. Created again when other packages are wanted. Raises Unavailable."""
    wanted = "\n".join(requirements)
    if not ((folder / WANTED).is_file() and (folder / WANTED).read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(folder)])
        run([*_python(folder), "-m", "pip", "install", "--quiet", *requirements])
        place = run([*_python(folder), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        own = sysconfig.get_path("purelib")
        Path(place.strip(), "zzz-fallback.pth").write_text(f"{own}\n")  # after pip, which would count on them
        (folder / WANTED).write_text(wanted)
    return folder / "bin"


def version(folder: Path, package: str) -> str:
    script = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    return run([*_python(folder), "-c", script]).strip()


def _python(folder: Path) -> list[str]:
    return [str(folder / "bin" / "python")]


def run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        raise Unavailable(next((line for line in said if line.startswith("ERROR")), said[-1]))
    return done.stdout
