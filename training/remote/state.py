"""What of a run travels between its own directory and the one on the machine that trains. Knows no Ray."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from models.files import write_atomically
from training.directory import TRIALS, RunDirectory

Files = Mapping[str, bytes]  # by path within the run directory, in the order in which they must appear


def state_files(run: RunDirectory, trial: int | None = None) -> Iterator[Path]:
    """Those that a run (or one trial of it) goes on from; the history before the state that it belongs to."""
    parts = [run, *run.trials()] if trial is None else [run.trial(trial)]
    for part in parts:
        yield from (part.config, part.choice, part.last_blocks, part.metrics, part.resume, part.result)


def read_state(run: RunDirectory, trial: int | None = None) -> dict[str, bytes]:
    """Those of them that there are; the config of the whole run always."""
    paths = (run.config, *state_files(run, trial))
    return {_name(run, path): path.read_bytes() for path in paths if path.exists()}


class Changes:
    """The files of a run that have changed since they were last asked for."""

    def __init__(self, run: RunDirectory, trial: int | None = None) -> None:
        self._run, self._trial = run, trial
        self._seen: dict[Path, int] = {}
        self.read()

    def read(self) -> dict[str, bytes]:
        """Of the state."""
        return self._changed(state_files(self._run, self._trial))

    def read_all(self, card: Path) -> dict[str, bytes]:
        """Of all that a run leaves; its card comes last, as it does there."""
        kept = {
            self._run.lock,
            self._run.features,
            self._run.features.with_suffix(".json"),
            self._run.maps,
            card,
        }
        others = (path for path in sorted(self._run.path.iterdir()) if path.is_file() and path not in kept)
        return self._changed([*state_files(self._run), *others, card])

    def _changed(self, paths: Iterator[Path] | list[Path]) -> dict[str, bytes]:
        found = {}
        for path in paths:
            if path.exists() and self._seen.get(path) != (written := path.stat().st_mtime_ns):
                self._seen[path] = written
                found[_name(self._run, path)] = path.read_bytes()
        return found


def write(run: RunDirectory, files: Files) -> None:
    """Put them into a run directory, each whole or not at all. Raises ValueError for a name of no run."""
    for name, data in files.items():
        parts = PurePosixPath(name).parts
        of_trial = len(parts) == 3 and parts[0] == TRIALS and parts[1].isdecimal()
        if not (of_trial or len(parts) == 1) or parts[-1] in ("", ".", ".."):
            raise ValueError(f"{name!r} is no file of a run")
        path = run.path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)


def _name(run: RunDirectory, path: Path) -> str:
    return path.relative_to(run.path).as_posix()
