"""Write deploy/requirements.txt and deploy/build-requirements.txt: what the image installs, with hashes.

    make lock

Versions are those of constraints.txt. torch and torchvision are left out: the image takes them from an index of
PyTorch's, whose files have hashes of their own. No file names an index.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OF_TORCH = ("filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy", "typing-extensions")
OPTIONS = ("--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host")
PLAIN = ("--no-header", "--no-annotate", "--strip-extras", "--allow-unsafe", "--quiet")
HEADER = "# Written by `make lock`. With --require-hashes pip takes these files and no others.\n"


def lock(requirements: list[str], name: str) -> None:
    """Resolve what is required to exact versions with the hashes of all their files."""
    constraints = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if _is_kept(line)]
    with tempfile.TemporaryDirectory() as folder:
        wanted, pinned, made = (Path(folder) / file for file in ("in.txt", "constraints.txt", "out.txt"))
        wanted.write_text("\n".join(requirements))
        pinned.write_text("\n".join(constraints))
        words = [*OPTIONS, *PLAIN, f"--constraint={pinned}", f"--output-file={made}", str(wanted)]
        subprocess.run([sys.executable, "-m", "piptools", "compile", *words], check=True)
        lines = [line for line in made.read_text().splitlines() if line and not line.startswith("#")]
        (ROOT / "deploy" / name).write_text(HEADER + "\n".join(lines) + "\n")


def _is_kept(line: str) -> bool:
    return not line.startswith(("torch==", "torchvision=="))


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [line for line in project["dependencies"] if not line.startswith("torch")]
    postgres = project["optional-dependencies"]["postgres"]  # MINIST_DATABASE_URL needs no other image
    lock([*ours, *postgres, *OF_TORCH], "requirements.txt")
    lock(["cyclonedx-bom"], "build-requirements.txt")
