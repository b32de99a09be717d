"""`minist keys`: who may train and administer."""

import sys
from collections.abc import Sequence
from contextlib import closing

from app.cli.deployment import open_home, read_settings
from app.clock import utc
from app.store.keys import SCOPES, Keys
from models.arguments import Parser


def run(words: Sequence[str]) -> int:
    """Make, list or revoke keys; the status."""
    chosen = _parser().parse_args(words)
    home = open_home(read_settings())
    with closing(home.database):
        if chosen.action == "create":
            print(home.keys.create(chosen.name, chosen.scope or ["train"]))
        elif chosen.action == "revoke":
            return _revoke(home.keys, chosen.id)
        else:
            _list(home.keys)
    return 0


def _parser() -> Parser:
    parser = Parser(prog="minist keys", description="API keys.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key and print it, once")
    create.add_argument("--name", default="unnamed", help="for the audit list")
    create.add_argument(
        "--scope", choices=SCOPES, action="append", help="may be given several times; default train"
    )
    actions.add_parser("list", help="show the keys, without their secrets")
    actions.add_parser("revoke", help="end a key").add_argument("id", help="the part before the dot")
    return parser


def _revoke(keys: Keys, key_id: str) -> int:
    if not keys.revoke(key_id):
        print(
            f"error: no key {key_id!r} that is not revoked already; 'minist keys list' shows them",
            file=sys.stderr,
        )
        return 1
    print(f"revoked {key_id}")
    return 0


def _list(keys: Keys) -> None:
    for key in keys.all():
        state = "revoked" if key.revoked_at else "valid"
        made = utc(key.created_at)
        print(f"{key.id}  {','.join(key.scopes):20} {state:8} {made:%Y-%m-%d %H:%M}  {key.name}")
