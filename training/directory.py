"""The names of the files in a run directory. Imports nothing: the service knows them from here as well."""

from dataclasses import dataclass
from pathlib import Path

TRIALS = "trials"


@dataclass(frozen=True)
class RunDirectory:
    """Where the files of one run lie.

    config.json     the config                    <name>.pth, <name>.json   the checkpoint that came out
    metrics.jsonl   a line per epoch              curves.png, confusion.png, samples.png, reliability.png
    resume.pt       the state after the last      report.html               all of it on one page, to look at
                    complete epoch                corrections.json          corrected pictures to train on
    chosen.json     what was left to the data     log.txt                   what a job's process printed
    lock            held while it is trained      features.npy              what a backbone made of the images
    generated.npz   pictures that were simulated, until the run has ended
    dataset/        what an import has read, until it is moved to the data sets
    upload          weights that were brought, until they are read
    sample.npz      some of the pictures, kept with the version, to fine-tune it once the data set is gone
    trials/N/       of a search: a run directory for each trial, with its result.json
    search.json     of a search that has ended: what its trials came to
    """

    path: Path
    of_run: Path | None = None  # of a trial: the directory of its run, whose corrections it learns

    def trial(self, number: int) -> "RunDirectory":
        return RunDirectory(self.path / TRIALS / str(number), self.path)

    def trials(self) -> list["RunDirectory"]:
        """Of a search: those that have begun."""
        begun = (path.name for path in (self.path / TRIALS).glob("*") if path.name.isdecimal())
        return [self.trial(number) for number in sorted(map(int, begun))]

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def search(self) -> Path:
        return self.path / "search.json"

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def choice(self) -> Path:
        return self.path / "chosen.json"

    @property
    def features(self) -> Path:
        return self.path / "features.npy"

    @property
    def generated(self) -> Path:
        return self.path / "generated.npz"

    @property
    def maps(self) -> Path:
        return self.path / "maps.npy"

    @property
    def last_blocks(self) -> Path:
        return self.path / "last-blocks.pt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def resume(self) -> Path:
        return self.path / "resume.pt"

    @property
    def corrections(self) -> Path:
        return (self.of_run or self.path) / "corrections.json"

    @property
    def dataset(self) -> Path:
        return self.path / "dataset"

    @property
    def sample(self) -> Path:
        return self.path / "sample.npz"

    @property
    def upload(self) -> Path:
        return self.path / "upload"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def picture(self, name: str) -> Path:
        """`curves`, `confusion`, `samples` or `reliability`."""
        return self.path / f"{name}.png"

    def weights(self, model: str) -> Path:
        return self.path / f"{model}.pth"

    def card(self, model: str) -> Path:
        return self.path / f"{model}.json"

    @property
    def private(self) -> tuple[Path, ...]:
        """What is not shown; none of it but the sample is published."""
        return (
            self.sample,
            self.upload,
            self.lock,
            self.resume,
            self.corrections,
            self.choice,
            self.features,
            self.features.with_suffix(".json"),
            self.maps,
            self.last_blocks,
        )
