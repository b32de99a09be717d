"""The commands `minist train`, `evaluate`, `calibrate` and `report`, and `work`, the process of a job.

Each takes the arguments after its name and returns the status: 0 done, 1 failed, 2 wrong usage, 130 stopped.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError

from models.arguments import Parser
from models.card import Card, Metrics, read_card
from models.checkpoint import load_bare
from models.classifier import Classifier
from models.devices import choose_device
from models.errors import ModelError
from models.tables import TableInput
from training import child, evaluation, regression
from training import run as runs
from training.calibration import recalibrate
from training.datasets import load_dataset
from training.errors import TrainingError
from training.progress import Display
from training.recipes import RECIPES, Augment, Loss, Optimizer, Precision, Recipe, Schedule
from training.run import Run, card_of, rewrite_report
from training.search import search_of
from training.tables.columns import alike
from training.tables.dataset import load_table, table_directory
from training.tables.ending import evaluated
from training.tables.recalibration import recalibrate_table

_OVERRIDES = {
    "name": (str, "name of the trained model"),
    "dataset": (str, "data set, if not the recipe's: mnist, fashion-mnist, or NAME@n of your own"),
    "epochs": (int, "passes over the training images"),
    "lr": (float, "learning rate (its peak, with a schedule)"),
    "batch_size": (int, "images per step"),
    "momentum": (float, "momentum of SGD"),
    "weight_decay": (float, "L2 penalty; decoupled from the gradient with adamw"),
    "optimizer": (get_args(Optimizer), "from-scratch is for the -scratch recipes only"),
    "schedule": (get_args(Schedule), "learning rate from step to step"),
    "loss": (get_args(Loss), "double-softmax repeats the mistake of one source, for comparison"),
    "label_smoothing": (float, "share of each label that is spread over all classes"),
    "augment": (get_args(Augment), "random changes to each training image, new in every epoch"),
    "init_from": (str, "weights file to start from (default: random weights)"),
    "teacher": (str, "weights file whose probabilities are learned in place of the data set's labels"),
    "teacher_share": (float, "share of the teacher's weights in the result (default 0)"),
    "synthetic_images": (int, "simulated pictures of digits added to the training images (default 0)"),
    "written_images": (int, "digits written stroke by stroke added to the training images (default 0)"),
    "unfamiliar_images": (int, "pictures of what is no digit, to be told from digits (default 0)"),
    "background_epochs": (int, "epochs at the end in which only what tells digits from others learns"),
    "ema_decay": (
        float,
        "decay per step of an average of the weights, which becomes the result (default 0: none)",
    ),
    "precision": (
        get_args(Precision),
        "numbers in matrix products; bfloat16 is faster where the processor supports it",
    ),
    "seed": (int, "seed of initial weights, order of images and validation split (default 0)"),
    "validation_images": (
        int,
        "training images held out for validation (default 5000; 0 trains on all, as the references did)",
    ),
    "threads": (int, "CPU threads (default 1)"),
}

SEARCH = (
    "values of a setting, as lr=0.001,0.003: all are trained, the best by validation is kept; may be repeated"
)
_METAVARS: dict[Any, str] = {int: "N", float: "X", str: "TEXT"}

Entry = Callable[[Sequence[str]], int]


def _explained(command: Entry) -> Entry:
    """Print errors that a user can do something about as one line each."""

    @wraps(command)
    def run(arguments: Sequence[str]) -> int:
        try:
            return command(arguments)
        except ValidationError as error:
            for problem in error.errors():
                print(f"error: {'.'.join(map(str, problem['loc']))}: {problem['msg']}", file=sys.stderr)
            return 2
        except BrokenPipeError:  # of `minist evaluate .. | head`
            raise
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            hint = "; --out chooses where a run is written" if command.__name__ == "train" else ""
            print(f"error: {reason}{hint}", file=sys.stderr)
        except (TrainingError, ModelError) as error:
            print(f"error: {error}", file=sys.stderr)
        return 1

    return run


@_explained
def train(arguments: Sequence[str]) -> int:
    """Train by a recipe, or continue a run."""
    parser = _parser("minist train", "Train a classifier by a recipe, or continue a run.")
    parser.usage = (
        "minist train --recipe NAME [options]\n       minist train --resume DIR\n       minist train --list"
    )
    parser.epilog = "example: minist train --recipe mlp --epochs 3 --out runs/mine"
    parser.add_argument(
        "--recipe",
        choices=(regression.RECIPE, *RECIPES),
        metavar="NAME",
        help="what to train (--list describes them)",
    )
    parser.add_argument("--list", action="store_true", help="list the recipes and exit")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run directory (default runs/NAME-DATE-TIME)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="continue the run in DIR")
    settings = parser.add_argument_group("settings, instead of the recipe's")
    for name, (kind, description) in _OVERRIDES.items():
        values = {"choices": kind} if isinstance(kind, tuple) else {"type": kind, "metavar": _METAVARS[kind]}
        settings.add_argument(f"--{name.replace('_', '-')}", help=description, **values)
    settings.add_argument("--search", action="append", default=[], metavar="NAME=X,Y", help=SEARCH)
    options = parser.parse_args(arguments)
    if options.list:
        return _list()
    overrides = {key: value for key in _OVERRIDES if (value := getattr(options, key)) is not None}
    if options.search:
        overrides["search"] = search_of(options.search, overrides)
    if bool(options.recipe) == bool(options.resume):
        parser.error("give either --recipe NAME (see --list) or --resume DIR")
    if options.resume and (overrides or options.out):
        parser.error("--resume uses the config of the run: remove the other options")
    if options.recipe == regression.RECIPE or (options.resume and regression.is_regression(options.resume)):
        return _fit_line(options, overrides)
    if options.resume:
        return _run(Run.open(options.resume), options)
    config = RECIPES[options.recipe].config(**overrides)
    return _run(Run.create(options.out or _default_directory(config.name), config), options)


def _run(run: Run, options: argparse.Namespace) -> int:
    finished = run.card_path.exists()
    with Display() as display:
        display.print(f"{run.config.recipe} on {run.config.dataset} -> {run.directory}")
        try:
            card = runs.train(
                run, options.data_dir, choose_device(options.device), display, datasets_dir=options.datasets_dir
            )
        except KeyboardInterrupt:
            display.print(
                f"interrupted after {run.epochs_done()} complete epochs; continue with:\n"
                f"  minist train --resume {run.directory}"
            )
            return 130
    for split, metrics in card.metrics.items():
        print(f"{split}: loss {metrics.loss:.4f}, accuracy {metrics.accuracy:.4f}")
    if finished:
        print(f"the run had finished already: see {run.files.report}")
        return 0
    print(f"wrote {run.weights_path}, its card, pictures and {run.files.report}")
    return 0


def _fit_line(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    directory = options.resume or options.out or _default_directory(regression.RECIPE)
    if not options.resume:
        regression.create(directory, regression.Config(**overrides))
    print(f"{regression.RECIPE} -> {directory}")
    try:
        card = regression.train(
            directory,
            lambda epoch: print(
                f"epoch {epoch.epoch}/{epoch.epochs}  train loss {epoch.train_loss:.6f}  {epoch.seconds:.1f} s"
            ),
        )
    except KeyboardInterrupt:
        print(f"interrupted; continue with:\n  minist train --resume {directory}")
        return 130
    print(f"w {', '.join(f'{w:.4f}' for w in card.w)}, b {card.b:.4f}: off by at most {card.error:.4f}")
    print(f"wrote {directory / regression.RECIPE}.pth, its card and its loss curve")
    return 0


@_explained
def evaluate(arguments: Sequence[str]) -> int:
    """Measure a weights file on a test set."""
    parser = _parser("minist evaluate", "Print loss and accuracy of any checkpoint on a test set.")
    parser.add_argument("weights", type=Path, help="a .pth or .safetensors file, with or without a card")
    parser.add_argument("--dataset", help="data set (default: the one it was trained on)")
    options = parser.parse_args(arguments)

    device = choose_device(options.device)
    if options.weights.suffix == ".pth" and options.weights.with_suffix(".json").exists():
        if isinstance(read_card(options.weights.with_suffix(".json")).input, TableInput):
            return _evaluate_table(options.weights, device, options)
        classifier = Classifier.load(options.weights, device)
        trained_on = classifier.card.dataset
        dataset = load_dataset(
            options.dataset or (trained_on.name if trained_on else "mnist"),
            options.data_dir,
            options.datasets_dir,
        )
    else:
        recipe = _recipe_of(options.weights)
        print(
            f"no card beside {options.weights}: using the settings of recipe {recipe.name}, whose layers it has"
        )
        dataset = load_dataset(
            options.dataset or recipe.config().dataset, options.data_dir, options.datasets_dir
        )
        card = card_of(recipe.config(), dataset)
        classifier = Classifier.from_bare_weights(options.weights, card, device)
    if classifier.card.classes != dataset.classes:
        raise TrainingError(
            f"{classifier.card.name} was trained on other classes than those of {dataset.name}: "
            f"{', '.join(classifier.card.classes[:3])}, .. and {', '.join(dataset.classes[:3])}, .."
        )
    _print(classifier.card, dataset.name, evaluation.evaluate(classifier, dataset.test).metrics)
    return 0


def _evaluate_table(weights: Path, device: torch.device, options: argparse.Namespace) -> int:
    """On the test rows of the table that it was trained on, or of another version with its columns."""
    classifier = Classifier.load(weights, device)
    trained_on = classifier.card.dataset
    name = options.dataset or (trained_on.name if trained_on else "")
    directory = table_directory(name, options.datasets_dir)
    if directory is None:
        raise TrainingError(f"{name or 'its data set'} is no table that is there: say where by --datasets-dir")
    dataset = load_table(directory, name)
    if dataset.classes != classifier.card.classes or not alike(dataset.input, classifier.card.table):
        raise TrainingError(f"{classifier.card.name} was trained on other columns or classes than {name} has")
    _print(classifier.card, name, evaluated(classifier, dataset)[1].metrics)
    return 0


@_explained
def calibrate(arguments: Sequence[str]) -> int:
    """Fit temperatures again and rewrite the cards."""
    parser = _parser(
        "minist calibrate",
        "Fit the temperature of checkpoints again on their validation split, and rewrite their cards.",
    )
    parser.add_argument("weights", type=Path, nargs="+", help=".pth files with their cards")
    options = parser.parse_args(arguments)
    for weights in options.weights:
        card = _recalibrated(weights, options)
        print(f"{card.name}: temperature {card.temperature:.4f}")
        _print_scores(card.metrics["test"])
    return 0


def _recalibrated(weights: Path, options: argparse.Namespace) -> Card:
    device = choose_device(options.device)
    if isinstance(read_card(weights.with_suffix(".json")).input, TableInput):
        return recalibrate_table(weights, device, options.datasets_dir)
    return recalibrate(weights, options.data_dir, device, options.datasets_dir)


@_explained
def report(arguments: Sequence[str]) -> int:
    """Write the report of a finished run again."""
    parser = _parser("minist report", "Write report.html and the pictures of a finished run again.")
    parser.add_argument("run", type=Path, help="run directory")
    options = parser.parse_args(arguments)
    if regression.is_regression(options.run):
        raise TrainingError(f"{regression.RECIPE} has no report: see curves.png in {options.run}")
    path = rewrite_report(
        Run.open(options.run), options.data_dir, choose_device(options.device), options.datasets_dir
    )
    print(f"wrote {path}")
    return 0


@_explained
def work(arguments: Sequence[str]) -> int:
    """Run a job for a supervisor."""
    parser = _parser("minist work", "Run a job for a supervisor, which sends heartbeats (used by the service).")
    parser.add_argument("directory", type=Path, help="run directory with its config.json")
    parser.add_argument(
        "--lease", type=float, required=True, help="seconds without a heartbeat after which this process ends"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="of a Ray cluster, where the run is trained then")
    options = parser.parse_args(arguments)
    return child.work(
        options.directory, options.data_dir, options.device, options.lease, options.datasets_dir, options.ray
    )


def _recipe_of(weights: Path) -> Recipe:
    """The recipe whose architecture this file has."""
    _, architecture, _ = load_bare(weights)
    return next(recipe for recipe in RECIPES.values() if recipe.config().architecture == architecture)


def _print(card: Card, dataset: str, metrics: Metrics) -> None:
    things = "rows" if isinstance(card.input, TableInput) else "images"
    print(f"{card.name} (architecture {card.architecture}) on {metrics.images:,} test {things} of {dataset}")
    print(f"loss {metrics.loss:.4f}, accuracy {metrics.accuracy:.4f}")
    _print_scores(metrics)
    for label, accuracy in metrics.per_class.items():
        print(f"  {label:>12}  {accuracy:.4f}")


def _print_scores(metrics: Metrics) -> None:
    for name, scores in (("before", metrics.uncalibrated), ("after", metrics.calibrated)):
        if scores:
            print(
                f"  {name:6} calibration: negative log-likelihood {scores.nll:.4f}, "
                f"Brier score {scores.brier:.4f}, expected calibration error {scores.ece:.2%}"
            )


def _list() -> int:
    print(f"{regression.RECIPE:17} {regression.SUMMARY}")
    for recipe in RECIPES.values():
        print(f"{recipe.name:17} {recipe.summary}; reference: {recipe.reference}")
    return 0


def _parser(program: str, description: str) -> Parser:
    parser = Parser(prog=program, description=description)
    parser.add_argument("--device", default="auto", help="auto (cuda, then mps, then cpu), cpu, cuda, mps")
    data_dir = Path(os.environ.get("MINIST_DATA_DIR", "data"))
    parser.add_argument("--data-dir", type=Path, default=data_dir, help="data set root (default %(default)s)")
    parser.add_argument("--datasets-dir", type=Path, help="folder of your own data sets (NAME/n in it)")
    return parser


def _default_directory(name: str) -> Path:
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
