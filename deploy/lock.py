"""Write deploy/requirements.txt, extras/*.txt and build-requirements.txt: what the image installs, with hashes.

    make lock

Versions are those of constraints.txt. torch and torchvision are left out: the image takes them from an index of
PyTorch's, whose files have hashes of their own. No file names an index.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OF_TORCH = ("filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy", "typing-extensions")
NO_EXTRAS = ("dev", "postgres", "store")  # MINIST_DATABASE_URL and MINIST_STORE need no other image
OPTIONS = ("--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host")
PLAIN = ("--no-header", "--no-annotate", "--strip-extras", "--allow-unsafe", "--quiet")
HEADER = "# Written by `make lock`. With --require-hashes pip takes these files and no others.\n"


def locked(requirements: list[str]) -> dict[str, str]:
    """What is required, resolved to exact versions with the hashes of all their files: entries by name."""
    constraints = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if _is_kept(line)]
    with tempfile.TemporaryDirectory() as folder:
        wanted, pinned, made = (Path(folder) / file for file in ("in.txt", "constraints.txt", "out.txt"))
        wanted.write_text("\n".join(requirements))
        pinned.write_text("\n".join(constraints))
        words = [*OPTIONS, *PLAIN, f"--constraint={pinned}", f"--output-file={made}", str(wanted)]
        subprocess.run([sys.executable, "-m", "piptools", "compile", *words], check=True)
        lines = [line for line in made.read_text().splitlines() if line and not line.startswith("#")]
    entries = re.split(r"\n(?=\S)", "\n".join(lines))
    return {entry.split("==")[0]: entry for entry in entries}


def write(name: str, entries: dict[str, str]) -> None:
    (ROOT / "deploy" / name).write_text(HEADER + "\n".join(entries[name] for name in sorted(entries)) + "\n")


def _is_kept(line: str) -> bool:
    return not line.startswith(("torch==", "torchvision=="))


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    ours = [line for line in project["dependencies"] if not line.startswith("torch")]
    always = locked([*ours, *extras["postgres"], *extras["store"], *OF_TORCH])
    write("requirements.txt", always)
    (ROOT / "deploy" / "extras").mkdir(exist_ok=True)
    for extra in sorted(extras.keys() - set(NO_EXTRAS)):
        wanted = [line for line in extras[extra] if not line.startswith("torch")]
        added = {name: entry for name, entry in locked(wanted).items() if name not in always}
        write(f"extras/{extra}.txt", added)
    write("build-requirements.txt", locked(["cyclonedx-bom"]))
