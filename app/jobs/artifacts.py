"""What a run leaves for people to look at."""

from collections.abc import Mapping
from pathlib import Path

from app.jobs.executor import RunDirectory


def artifacts(directory: Path) -> Mapping[str, Path]:
    """The files of a run directory (or of a version made from it) by name; empty where it is gone."""
    if not directory.is_dir():
        return {}
    private = RunDirectory(directory).private
    files = (path for path in sorted(directory.iterdir()) if path.is_file() and path not in private)
    return {path.name: path for path in files if not path.name.startswith(".")}
