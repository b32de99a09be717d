"""`minist publish`: a run or a weights file becomes a version of a model, also while the service runs."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from app.cli.deployment import open_home, read_settings, who
from app.cli.weights import publish_file
from app.home import Home
from app.jobs.executor import RunDirectory
from app.jobs.promotion import Decision, Rule
from app.jobs.publication import Publication
from models.arguments import Parser
from models.card import Card
from models.devices import choose_device
from models.errors import CheckpointError, ModelError
from models.verification import load_verified


def run(words: Sequence[str]) -> int:
    """Publish a finished run or a weights file; the status."""
    parser = _parser()
    chosen = parser.parse_args(words)
    if chosen.run.is_file():
        return publish_file(chosen)
    if chosen.name or chosen.card or chosen.dataset or chosen.calibrate:
        parser.error("--name, --card, --dataset and --calibrate go with a weights file, not with a run")
    try:
        card = check(chosen.run)
    except (ModelError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    version, decision = publish(open_home(read_settings()), chosen.run, card, chosen.promote)
    place = "production points at it" if decision.promoted else "production stays where it is"
    print(f"published {card.name}@{version}; {place}: {decision.reason}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="minist publish",
        description="Make the result of a finished run, or a weights file from elsewhere, the next version "
        "of a model. A service that runs on the same MINIST_HOME serves it within a second.",
    )
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN|FILE",
        help="run directory, as 'minist train' leaves it, or a .pth, .pt, safetensors or ONNX file",
    )
    weights = parser.add_argument_group("of a weights file")
    weights.add_argument("--name", help="of the model (default: the file's)")
    weights.add_argument(
        "--card", help="what weights do not tell, as JSON or the path of such a file (default: FILE's .json)"
    )
    weights.add_argument("--dataset", help="that it is measured on: mnist, fashion-mnist, NAME or NAME@n")
    weights.add_argument(
        "--calibrate", action="store_true", help="fit a temperature on the validation split of the data set"
    )
    parser.add_argument(
        "--promote",
        choices=get_args(Rule),
        default="if_better",
        help="whether the alias production moves to it (default: if its test accuracy is not worse)",
    )
    return parser


def check(directory: Path) -> Card:
    """The card of a finished run whose weights load and answer.

    Raises CheckpointError where there is none, or it answers with what is no probability.
    """
    config = directory / "config.json"
    try:
        name = json.loads(config.read_bytes())["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{directory} holds no run: {config} cannot be read") from error
    weights = directory / f"{name}.pth"
    if not weights.with_suffix(".json").exists():
        raise CheckpointError(f"{directory} has not finished: go on with 'minist train --resume {directory}'")
    classifier, _ = load_verified(weights, choose_device("cpu"))
    if "test" not in classifier.card.metrics:
        raise CheckpointError(f"{weights}: its card has no test accuracy to decide by")
    return classifier.card


def publish(home: Home, directory: Path, card: Card, promote: Rule) -> tuple[int, Decision]:
    """The version that came out, and the decision on `production`."""
    publication = Publication(home.queue, home.versions)
    version, decision = publication.publish_run(card.name, promote, RunDirectory(directory), who())
    home.versions.prune(card.name, home.settings.keep_versions)
    return version, decision
