"""The errors of training; each message says what to do."""


class TrainingError(Exception):
    """A run that cannot start, go on or be read."""


class DatasetError(TrainingError):
    """A data set that is missing and cannot be downloaded, or is too small for what is asked."""


class RunBusy(TrainingError):
    """Another process is training in the same directory."""
