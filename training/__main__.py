"""The command line: `python -m training --recipe mlp`, `python -m training evaluate WEIGHTS`."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from models.architectures import identify
from models.card import Card, Metrics
from models.checkpoint import read_weights
from models.classifier import Classifier
from models.devices import choose_device
from models.errors import ModelError
from training.datasets import load_dataset
from training.display import Display
from training.errors import TrainingError
from training.evaluation import evaluate
from training.recipes import (
    RECIPES,
    Augment,
    Config,
    DatasetName,
    Loss,
    Optimizer,
    Precision,
    Recipe,
    Schedule,
)
from training.run import Run, card_of, train

_OVERRIDES = {
    "name": (str, "name of the model that comes out"),
    "dataset": (get_args(DatasetName), "data set instead of the recipe's"),
    "epochs": (int, "passes over the training images"),
    "lr": (float, "learning rate"),
    "batch_size": (int, "images per step"),
    "momentum": (float, "of SGD"),
    "weight_decay": (float, "L2 penalty"),
    "optimizer": (get_args(Optimizer), "sgd, adam or adamw"),
    "schedule": (get_args(Schedule), "of the learning rate, per step"),
    "loss": (get_args(Loss), "double-softmax repeats a source's mistake, for comparison"),
    "smoothing": (float, "of the labels"),
    "augment": (get_args(Augment), "change each training image anew each epoch"),
    "start": (str, "weights file to begin with (default: random weights)"),
    "pictures": (int, "simulated pictures of training digits to train on besides (default 0)"),
    "average": (float, "decay of an average of the weights, which is kept instead (default 0: none)"),
    "precision": (get_args(Precision), "of products; bfloat16 is faster on processors that have it"),
    "seed": (int, "of initial weights, order and validation split (default 0)"),
    "validation": (int, "training images held out (default 5000); 0 trains on all, as the references did"),
    "threads": (int, "CPU threads (default 1)"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["evaluate"]:
            return _evaluate(words[1:])
        return _train(words)
    except ValidationError as error:
        for problem in error.errors():
            print(f"error: {'.'.join(map(str, problem['loc']))}: {problem['msg']}", file=sys.stderr)
        return 2
    except (TrainingError, ModelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _train(words: Sequence[str]) -> int:
    parser = _parser("python -m training", "Train a classifier by a recipe.")
    parser.add_argument("--recipe", choices=tuple(RECIPES), help="what to train (--list describes them)")
    parser.add_argument("--list", action="store_true", help="show the recipes and end")
    parser.add_argument("--out", type=Path, help="run directory (default runs/NAME-DATE-TIME)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in DIR")
    for name, (kind, text) in _OVERRIDES.items():
        values = {"choices": kind} if isinstance(kind, tuple) else {"type": kind}
        parser.add_argument(f"--{name.replace('_', '-')}", help=text, **values)
    chosen = parser.parse_args(words)
    if chosen.list:
        return _list()
    overrides = {key: value for key in _OVERRIDES if (value := getattr(chosen, key)) is not None}
    if bool(chosen.recipe) == bool(chosen.resume):
        parser.error("say either --recipe NAME (see --list) or --resume DIR")
    if chosen.resume and (overrides or chosen.out):
        parser.error("--resume goes on with the run's own config: leave the other options out")
    if chosen.resume:
        return _run(Run.open(chosen.resume), chosen)
    config = RECIPES[chosen.recipe].config(**overrides)
    return _run(Run.create(chosen.out or _default_directory(config), config), chosen)


def _run(run: Run, chosen: argparse.Namespace) -> int:
    with Display() as display:
        display.say(f"{run.config.recipe} on {run.config.dataset} -> {run.directory}")
        try:
            card = train(run, chosen.data_dir, choose_device(chosen.device), display)
        except KeyboardInterrupt:
            display.say(
                f"interrupted after {len(run.history())} complete epochs; go on with:\n"
                f"  python -m training --resume {run.directory}"
            )
            return 130
    for split, metrics in card.metrics.items():
        print(f"{split}: loss {metrics.loss:.4f}, accuracy {metrics.accuracy:.4f}")
    print(f"wrote {run.weights_path}, its card and pictures")
    return 0


def _evaluate(words: Sequence[str]) -> int:
    parser = _parser("python -m training evaluate", "Loss and accuracy of any checkpoint on a test set.")
    parser.add_argument("weights", type=Path, help="a .pth file, with its card or a tutorial's own")
    parser.add_argument("--dataset", choices=get_args(DatasetName), help="default: what it was trained on")
    chosen = parser.parse_args(words)

    device = choose_device(chosen.device)
    if chosen.weights.with_suffix(".json").exists():
        classifier = Classifier.load(chosen.weights, device)
        trained_on = classifier.card.dataset
        dataset = load_dataset(chosen.dataset or (trained_on.name if trained_on else "mnist"), chosen.data_dir)
    else:
        recipe = _recipe_of(chosen.weights)
        print(f"no card beside {chosen.weights}: taken for weights of the recipe {recipe.name}")
        dataset = load_dataset(chosen.dataset or recipe.config().dataset, chosen.data_dir)
        card = card_of(recipe.config(), dataset)
        classifier = Classifier.from_bare_weights(chosen.weights, card, device)
    _print(classifier.card, dataset.name, evaluate(classifier, dataset.test).metrics)
    return 0


def _recipe_of(weights: Path) -> Recipe:
    """The recipe whose architecture has the keys of this file."""
    architecture, _ = identify(read_weights(weights))
    return next(recipe for recipe in RECIPES.values() if recipe.config().architecture == architecture)


def _print(card: Card, dataset: str, metrics: Metrics) -> None:
    print(f"{card.name} ({card.architecture}) on {metrics.images:,} test images of {dataset}")
    print(f"loss {metrics.loss:.4f}, accuracy {metrics.accuracy:.4f}")
    for label, accuracy in metrics.per_class.items():
        print(f"  {label:>12}  {accuracy:.4f}")


def _list() -> int:
    for recipe in RECIPES.values():
        print(f"{recipe.name:14} {recipe.summary}; reference: {recipe.reference}")
    return 0


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--device", default="auto", help="auto (cuda, then mps, then cpu), cpu, cuda, mps")
    data_dir = Path(os.environ.get("MINIST_DATA_DIR", "data"))
    parser.add_argument("--data-dir", type=Path, default=data_dir, help="data set root (default %(default)s)")
    return parser


def _default_directory(config: Config) -> Path:
    return Path("runs") / f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"


if __name__ == "__main__":
    sys.exit(main())
