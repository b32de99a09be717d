"""The command line: `python -m app` starts the service."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn
from pydantic import ValidationError

from app.registry import find
from app.settings import Settings
from models.devices import choose_device
from models.errors import ModelError

DRAIN_SECONDS = 30


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first."""
    parser = argparse.ArgumentParser(prog="python -m app", description="Serve the models over HTTP.")
    for name in ("host", "port", "workers"):
        description = Settings.model_fields[name].description
        parser.add_argument(f"--{name}", help=f"{description} (MINIST_{name.upper()})")
    chosen = parser.parse_args(arguments)
    given = {name: value for name, value in vars(chosen).items() if value is not None}
    # Worker processes read their settings from the environment, so the options go there too.
    os.environ.update({f"MINIST_{name.upper()}": value for name, value in given.items()})
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            print(f"error: MINIST_{str(problem['loc'][0]).upper()}: {problem['msg']}", file=sys.stderr)
        sys.exit(2)
    # uvicorn raises the signal again once it has drained: that is a clean end, not a death by signal.
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    try:  # what no worker could start with is told here, in one line
        find(settings.default_model)
        choose_device(settings.device)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
