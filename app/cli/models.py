"""`minist models`: list, check, point at and delete what is served, with the service or without it."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing

from app.cli.deployment import open_home, read_settings, who
from app.clock import utc
from app.store.errors import ArtifactsAway
from app.store.versions import NoSuchAlias, NoSuchVersion, Version, VersionInUse, Versions
from models.errors import CheckpointError


def run(words: Sequence[str]) -> int:
    """Do what the words say; the status."""
    chosen = _parser().parse_args(words)
    home = open_home(read_settings())
    try:
        with closing(home.database):
            status: int = chosen.act(home.versions, chosen)
    except (NoSuchVersion, NoSuchAlias, VersionInUse) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minist models", description="What is served; the service may run.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="show models, versions and aliases").set_defaults(act=_list)
    point = actions.add_parser("point", help="point an alias at a version")
    point.add_argument("model")
    point.add_argument("alias", help="production is what the bare name means")
    point.add_argument("version", type=int)
    point.set_defaults(act=_point)
    verify = actions.add_parser("verify", help="load versions and ask each, as the service does")
    verify.add_argument("model", nargs="?", help="MODEL or MODEL@VERSION (default: all)")
    verify.set_defaults(act=_verify)
    delete = actions.add_parser("delete", help="delete a version, an alias, or a model with all its versions")
    delete.add_argument("name", help="MODEL@VERSION, MODEL@ALIAS or MODEL")
    delete.set_defaults(act=_delete)
    return parser


def _list(versions: Versions, chosen: argparse.Namespace) -> int:
    snapshot = versions.snapshot()
    for (model, number), version in sorted(snapshot.versions.items()):
        pointing = sorted(a for (name, a), n in snapshot.aliases.items() if (name, n) == (model, number))
        made = utc(version.created_at)
        print(
            f"{model}@{number:<4} {made:%Y-%m-%d %H:%M}  {_figure(version):10}  {', '.join(pointing)}".rstrip()
        )
    return 0


def _figure(version: Version) -> str:
    try:
        test = version.card().metrics.get("test")
    except CheckpointError:
        return "damaged"
    except ArtifactsAway:
        return "away"
    return f"{test.accuracy:.4f}" if test else "-"


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
