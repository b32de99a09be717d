"""Where things lie under MINIST_HOME."""

from dataclasses import dataclass
from pathlib import Path


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
        return self.models / model / str(version)

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def sources(self) -> Path:
        return self.datasets / ".sources"

    def dataset(self, name: str, version: int) -> Path:
        return self.datasets / name / str(version)

    def source(self, digest: str) -> Path:
        return self.sources / digest

    def run(self, job_id: str) -> Path:
        return self.runs / job_id
