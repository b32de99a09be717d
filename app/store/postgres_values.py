"""Values that SQLite keeps and Postgres refuses."""

import json
import math
from typing import Any

REPLACEMENT = "\ufffd"  # for a NUL, which no text in Postgres can hold


def to_json(value: Any) -> str:
    """JSON as Postgres takes it: no number that is none."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(plain(value))


def plain(value: Any) -> Any:
    """A value as it comes back from Postgres."""
    if isinstance(value, str):
        return value.replace("\0", REPLACEMENT)
    return _finite(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def accept_every_text(connection: Any, record: object) -> None:
    """Texts may hold a NUL, of a client or a log: it becomes the character for what cannot be shown."""
    from psycopg.types.string import StrDumper, StrDumperUnknown  # here: SQLite needs no driver

    for base in (StrDumperUnknown, StrDumper):  # the last is the one that is asked first
        connection.adapters.register_dumper(str, _without_nul(base))


def _without_nul(base: Any) -> Any:
    class WithoutNul(base):  # type: ignore[misc]
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", REPLACEMENT) if "\0" in obj else obj)

    return WithoutNul
