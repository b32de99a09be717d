"""What a run leaves for people to look at."""

from collections.abc import Mapping
from pathlib import Path

_INNER = ("lock", "resume.pt", "corrections.json")  # of use to the run alone


def artifacts(directory: Path) -> Mapping[str, Path]:
    """The files of a run directory (or of a version made from it) by name; empty where it is gone."""
    if not directory.is_dir():
        return {}
    files = (path for path in sorted(directory.iterdir()) if path.is_file())
    return {path.name: path for path in files if path.name not in _INNER and not path.name.startswith(".")}
