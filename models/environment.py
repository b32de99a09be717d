"""The environment of a child process that reads what is foreign, or runs what is ours for long."""

import os

_SECRET = ("MINIST_", "OTEL_", "AWS_", "RAY_")  # keys are among them


def without_secrets() -> dict[str, str]:
    """Of this process, without the settings of the service: they are none of a child's business."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_SECRET)}
