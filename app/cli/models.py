"""`minist models`: list, check, point at and delete what is served, with the service or without it."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing

from app.cli.columns import columns
from app.cli.deployment import open_home, read_settings, who
from app.clock import utc
from app.jobs.imports import is_name
from app.store import renaming
from app.store.errors import ArtifactsAway
from app.store.versions import NoSuchAlias, NoSuchVersion, Version, VersionInUse, Versions
from models.arguments import Parser, nearest
from models.errors import CheckpointError

HEADS = ("version", "made", "accuracy", "data", "layers", "names")


def run(words: Sequence[str]) -> int:
    """Do what the words say; the status."""
    chosen = _parser().parse_args(words)
    home = open_home(read_settings())
    with closing(home.database):
        return _done(home.versions, chosen)


def _done(versions: Versions, chosen: argparse.Namespace) -> int:
    try:
        status: int = chosen.act(versions, chosen)
    except (NoSuchVersion, NoSuchAlias, VersionInUse, renaming.NameTaken, CheckpointError) as error:
        print(f"error: {error}{_suggestion(versions, chosen)}", file=sys.stderr)
        return 1
    return status


def _suggestion(versions: Versions, chosen: argparse.Namespace) -> str:
    """The model that may have been meant, where there is none of that name."""
    name = (getattr(chosen, "model", None) or getattr(chosen, "name", None) or "").partition("@")[0]
    known = list(versions.snapshot().numbers)
    near = None if name in known else nearest(name, known)
    return f": did you mean {near!r}?" if near else ""


def _parser() -> Parser:
    parser = Parser(prog="minist models", description="What is served; the service may run.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    parser.set_defaults(act=_list)
    actions.add_parser("list", help="show models, versions and aliases (default)").set_defaults(act=_list)
    point = actions.add_parser("point", help="point an alias at a version")
    point.add_argument("model")
    point.add_argument("alias", help="production is what the bare name means")
    point.add_argument("version", type=int)
    point.set_defaults(act=_point)
    verify = actions.add_parser("verify", help="load versions and ask each, as the service does")
    verify.add_argument("model", nargs="?", help="MODEL or MODEL@VERSION (default: all)")
    verify.set_defaults(act=_verify)
    copy = actions.add_parser("copy", help="make a version the first or next of another model")
    copy.add_argument("name", help="MODEL@VERSION")
    copy.add_argument("to", help="name of the other model")
    copy.set_defaults(act=_copy)
    rename = actions.add_parser("rename", help="give a model another name, with all its versions")
    rename.add_argument("name", help="MODEL")
    rename.add_argument("to", help="its new name")
    rename.set_defaults(act=_rename)
    delete = actions.add_parser("delete", help="delete a version, an alias, or a model with all its versions")
    delete.add_argument("name", help="MODEL@VERSION, MODEL@ALIAS or MODEL")
    delete.set_defaults(act=_delete)
    return parser


def _list(versions: Versions, chosen: argparse.Namespace) -> int:
    snapshot = versions.snapshot()
    names: dict[tuple[str, int], list[str]] = {}
    for (model, alias), number in sorted(snapshot.aliases.items()):
        names.setdefault((model, number), []).append(alias)
    rows = [_row(version, names.get(key, [])) for key, version in sorted(snapshot.versions.items())]
    print(columns(HEADS, rows))
    return 0


def _row(version: Version, names: Sequence[str]) -> tuple[object, ...]:
    made = f"{utc(version.created_at):%Y-%m-%d %H:%M}"
    head, tail = (f"{version.model}@{version.version}", made), (", ".join(names),)
    try:
        card = version.card()
    except CheckpointError:
        return (*head, "damaged", "-", "-", *tail)
    except ArtifactsAway:
        return (*head, "away", "-", "-", *tail)
    test = card.metrics.get("test")
    data = card.dataset.name if card.dataset else "-"
    return (*head, f"{test.accuracy:.4f}" if test else "-", data, card.architecture, *tail)


def _point(versions: Versions, chosen: argparse.Namespace) -> int:
    versions.move(chosen.model, chosen.alias, chosen.version, who(), "at the command line")
    print(f"{chosen.model}@{chosen.alias} is version {chosen.version}")
    return 0


def _verify(versions: Versions, chosen: argparse.Namespace) -> int:
    from models.devices import choose_device  # here: torch takes seconds to import
    from models.verification import load_verified

    model, _, number = (chosen.model or "").partition("@")
    found = versions.snapshot().versions
    wanted = {key: found[key] for key in sorted(found) if model in ("", key[0]) and number in ("", str(key[1]))}
    if not wanted:
        raise NoSuchVersion(f"there is no {chosen.model!r}; 'minist models list' shows what there is")
    status = 0
    for (name, version_number), version in wanted.items():
        try:
            version.intact_card()
            load_verified(version.weights, choose_device("cpu"))
            print(f"{name}@{version_number}: ok")
        except CheckpointError as error:
            status = 1
            print(f"{name}@{version_number}: {error}")
    return status


def _copy(versions: Versions, chosen: argparse.Namespace) -> int:
    model, _, number = chosen.name.partition("@")
    if not number.isdecimal():
        raise NoSuchVersion(f"say which version of {model!r}: {model}@1")
    made = renaming.copy(versions, model, int(number), _name(chosen.to), who(), "at the command line")
    print(f"{chosen.name} is {chosen.to}@{made} now too")
    return 0


def _rename(versions: Versions, chosen: argparse.Namespace) -> int:
    renaming.rename(versions, chosen.name, _name(chosen.to), who(), "at the command line")
    print(f"{chosen.name} is called {chosen.to}")
    return 0


def _name(text: str) -> str:
    """Raises NameTaken for what is no name."""
    if not is_name(text):
        raise renaming.NameTaken(f"{text!r} is no name: small letters, digits and hyphens")
    return text


def _delete(versions: Versions, chosen: argparse.Namespace) -> int:
    model, at, part = chosen.name.partition("@")
    if not at:
        versions.delete_model(model, who(), "at the command line")
    elif part.isdecimal():
        versions.delete(model, int(part), who(), "at the command line")
    else:
        versions.delete_alias(model, part, who(), "at the command line")
    print(f"deleted {chosen.name}")
    return 0
