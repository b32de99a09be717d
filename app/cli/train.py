"""`minist train`: by a recipe, or a file of one's own, which `minist serve` then answers for."""

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import get_args

from models.arguments import Parser

SEARCH = (
    "values of a setting, as lr=0.002,0.004: all are trained, the best by validation is kept; may be repeated"
)
RECIPES = ("auto", "small-image", "transfer", "table", "softmax", "otto")


def run(words: Sequence[str]) -> int:
    """Train; the status. The options of recipes are those of `training.cli`."""
    if words and not words[0].startswith("-"):
        return _own(words)
    status: int = import_module("training.cli").train(words)
    return status


def _own(words: Sequence[str]) -> int:
    from pydantic import ValidationError

    from app.cli.deployment import open_home, read_settings
    from app.cli.publish import check, publish
    from models.errors import ModelError

    own, errors = import_module("training.own"), import_module("training.errors")
    chosen = _parser().parse_args(words)
    name = chosen.name or own.name_of(chosen.file)
    home = open_home(read_settings())
    datasets_dir = home.paths.datasets
    settings = {"name": name, "seed": chosen.seed, "threads": chosen.threads}
    if chosen.epochs is not None:
        settings["epochs"] = chosen.epochs
    out = chosen.out or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        if chosen.search:
            settings["search"] = import_module("training.search").search_of(chosen.search, settings)
        options = import_module("training.importing.cli").options_for(chosen.target, chosen.size)
        dataset = own.import_own(chosen.file, datasets_dir, name, options)
        own.train_own(dataset, datasets_dir.absolute(), chosen.recipe, settings, out, chosen.device)
        card = check(out)
        version, decision = publish(home, out, card, chosen.promote)
    except KeyboardInterrupt:
        print(f"interrupted; continue with: minist train --resume {out} --datasets-dir {datasets_dir}")
        return 130
    except (errors.TrainingError, ModelError, ValidationError, OSError) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    print(f"published {card.name}@{version}: {decision.reason}; see {out / 'report.html'}")
    print(f"minist serve answers with it: POST /predict?model={card.name}")
    return 0


def _parser() -> Parser:
    from app.jobs.promotion import Rule

    parser = Parser(
        prog="minist train FILE",
        description="Import your own pictures (a zip of class folders, npz, a zip of idx files) or a table "
        "(CSV, parquet), train a classifier on them and make it a version that `minist serve` answers with.",
    )
    parser.add_argument("file", type=Path, help="photos.zip, data.npz, or table.csv")
    parser.add_argument("--recipe", choices=RECIPES, default="auto", help="default: %(default)s")
    parser.add_argument("--name", help="name of data set and model (default: by the file's name)")
    parser.add_argument("--size", type=int, help="side of the pictures in pixels (default: by the data)")
    parser.add_argument("--target", metavar="COLUMN", help="of a table: the column with the class")
    parser.add_argument("--epochs", type=int, help="passes over the training images (default: by the data)")
    parser.add_argument("--search", action="append", default=[], metavar="NAME=X,Y", help=SEARCH)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count() or 1), help="CPU threads")
    parser.add_argument("--device", default="auto", help="auto (cuda, then mps, then cpu), cpu, cuda, mps")
    parser.add_argument("--out", type=Path, metavar="DIR", help="run directory (default runs/NAME-DATE-TIME)")
    parser.add_argument(
        "--promote",
        choices=get_args(Rule),
        default="if_better",
        help="whether the alias production moves to it (default: if its test accuracy is not worse)",
    )
    return parser
