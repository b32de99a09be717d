"""`minist publish`: a run of the command line becomes a version of a model, also while the service runs."""

import argparse
import getpass
import json
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch

from app.cli.deployment import open_home, read_settings
from app.jobs.executor import RunDirectory
from app.jobs.promotion import Rule
from app.jobs.publication import Publication
from models.classifier import Classifier
from models.errors import CheckpointError, ModelError


@dataclass(frozen=True)
class FinishedRun:
    """A run directory, and the name of the model that came out."""

    directory: RunDirectory
    model: str


def run(words: Sequence[str]) -> int:
    """Publish a finished run; the status."""
    chosen = _parser().parse_args(words)
    try:
        finished = check(RunDirectory(chosen.run))
        return _publish(finished, chosen.promote)
    except (ModelError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _publish(finished: FinishedRun, rule: Rule) -> int:
    home = open_home(read_settings())
    publication = Publication(home.queue, home.versions)
    version, decision = publication.publish_run(finished.directory, finished.model, rule, _who())
    home.versions.prune(finished.model, home.settings.keep_versions)
    place = "production points at it" if decision.promoted else "production stays where it is"
    print(f"published {finished.model}@{version}; {place}: {decision.reason}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minist publish",
        description="Make the result of a finished run the next version of its model. "
        "A service that runs on the same MINIST_HOME serves it within a second.",
    )
    parser.add_argument("run", type=Path, help="run directory, as 'minist train' leaves it")
    parser.add_argument(
        "--promote",
        choices=get_args(Rule),
        default="if_better",
        help="whether the alias production moves to it (default: if its test accuracy is not worse)",
    )
    return parser


def check(directory: RunDirectory) -> FinishedRun:
    """A finished run whose weights load and answer.

    Raises CheckpointError where there is none, or it answers with what is no probability.
    """
    try:
        name = str(json.loads(directory.config.read_bytes())["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{directory.path} holds no run: {directory.config} cannot be read") from error
    if not directory.card(name).exists():
        raise CheckpointError(
            f"{directory.path} has not finished: go on with 'minist train --resume {directory.path}'"
        )
    classifier = Classifier.load(directory.weights(name), torch.device("cpu"))
    blank = torch.zeros((1, *classifier.card.input_shape), dtype=torch.uint8)
    if not classifier.probabilities(blank).isfinite().all():
        raise CheckpointError(f"{directory.weights(name)}: its answers are not finite, so it was not published")
    return FinishedRun(directory, name)


def _who() -> str:
    """For the audit list, at most 64 characters."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"[:64]
