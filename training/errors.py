"""The errors of training; each message says what to do.

TrainingError
├── DatasetError   a data set is missing and cannot be downloaded, or is too small
├── RunBusy        another process is training in the same directory
├── ClusterAway    the Ray cluster does not answer
├── NotFinite      a model answers with infinities or NaN
└── Diverged       a run whose loss or answers are not finite any more
"""


class TrainingError(Exception):
    """A run that cannot start, continue or be read."""


class DatasetError(TrainingError):
    """A data set that is missing and cannot be downloaded, or too small for the config."""


class RunBusy(TrainingError):
    """Another process is training in the same directory."""


class ClusterAway(TrainingError):
    """The Ray cluster does not answer: the run is tried again later."""


class NotFinite(TrainingError):
    """A model answers with infinities or NaN."""


class Diverged(TrainingError):
    """A run whose loss or answers are not finite any more; `what` says which and when."""

    def __init__(self, what: str, lr: float) -> None:
        super().__init__(f"{what}: the run has diverged; train again with a smaller lr than {lr:g}")
