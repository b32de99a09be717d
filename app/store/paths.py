"""Where things lie under MINIST_HOME: their paths, and their places, which are the same in every home."""

from dataclasses import dataclass
from pathlib import Path


def version_place(model: str, version: int) -> str:
    """Of a version's files."""
    return f"models/{model}/{version}"


def dataset_place(name: str, version: int) -> str:
    """Of what was imported."""
    return f"datasets/{name}/{version}"


def source_place(digest: str) -> str:
    """Of a file that a data set came as."""
    return f"datasets/.sources/{digest}"


def run_place(job_id: str) -> str:
    """Of a job's run directory."""
    return f"runs/{job_id}"


@dataclass(frozen=True)
class HomePaths:
    """The files and folders of one deployment.

    minist.db    jobs, versions, aliases, keys, feedback       admin.key   the key of the first start
    models/<model>/<version>/    one version's files           home.lock   held while one of them is made
    runs/<job>/                  one job's run directory
    datasets/<name>/<version>/   one imported data set     datasets/.sources/<sha256>   the files they came as
    """

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "minist.db"

    @property
    def admin_key(self) -> Path:
        return self.root / "admin.key"

    @property
    def lock(self) -> Path:
        return self.root / "home.lock"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def model(self, model: str) -> Path:
        return self.models / model

    def version(self, model: str, version: int) -> Path:
        return self.root / version_place(model, version)

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def sources(self) -> Path:
        return self.datasets / ".sources"

    def dataset(self, name: str, version: int) -> Path:
        return self.root / dataset_place(name, version)

    def source(self, digest: str) -> Path:
        return self.root / source_place(digest)

    def run(self, job_id: str) -> Path:
        return self.root / run_place(job_id)
