"""API keys: who may train and administer.

A key is `<id>.<secret>`, the secret 256 random bits. The table holds the secret's sha256 (a slow hash
protects guessable passwords; these cannot be guessed). A key is printed once, when it is made.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock
from sqlalchemy import Connection, func, insert, select, update

from app.store import locks
from app.store.database import Database
from app.store.paths import HomePaths
from app.store.tables import keys
from models.files import write_atomically

Scope = Literal["predict", "train", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Identity:
    """The owner of a key and its scopes; `admin` includes all others."""

    who: str
    scopes: frozenset[str]

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True)
class KeyInfo:
    """A key without its secret; times in seconds since the epoch."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: float
    revoked_at: float | None


class Keys:
    """The keys in the table, and the one from MINIST_API_KEY."""

    def __init__(self, database: Database, from_environment: str | None) -> None:
        self.database = database
        self._environment = _digest(from_environment) if from_environment else None

    def create(self, name: str, scopes: Sequence[Scope]) -> str:
        """A new key, as its owner has to present it."""
        with self.database.write() as connection:
            return _add(connection, name, scopes)

    def revoke(self, key_id: str) -> bool:
        """Whether there was such a key that was not revoked."""
        with self.database.write() as connection:
            row = (keys.c.id == key_id) & keys.c.revoked_at.is_(None)
            return connection.execute(update(keys).where(row).values(revoked_at=time.time())).rowcount == 1

    def all(self) -> list[KeyInfo]:
        """Every key, oldest first."""
        with self.database.read() as connection:
            rows = connection.execute(select(keys).order_by(keys.c.created_at))
            return [KeyInfo(r.id, r.name, tuple(r.scopes), r.created_at, r.revoked_at) for r in rows]

    def identify(self, presented: str) -> Identity | None:
        """Whose key that is, or None. Digests are compared in constant time."""
        if self._environment and hmac.compare_digest(_digest(presented), self._environment):
            return Identity("MINIST_API_KEY", frozenset({"admin"}))
        key_id, _, secret = presented.partition(".")
        query = select(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
        with self.database.read() as connection:
            row = connection.execute(query).mappings().first()
        known = row["digest"] if row else _digest("")
        if not hmac.compare_digest(_digest(secret), known) or row is None:
            return None
        return Identity(f"{row['name']} ({row['id']})", frozenset(row["scopes"]))

    def make_first(self, path: Path) -> str | None:
        """On the first start, if no key is configured: an admin key, kept in `path` (mode 0600)."""
        if self._environment:
            return None
        with FileLock(HomePaths(path.parent).lock), self.database.write(locks.KEYS) as connection:
            if connection.scalar(select(func.count()).select_from(keys)):  # of another instance, maybe
                return None
            key = _add(connection, "first start", ["admin"])
            write_atomically(path, key.encode() + b"\n", mode=0o600)
        return key


def _add(connection: Connection, name: str, scopes: Sequence[Scope]) -> str:
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    row = {"id": key_id, "name": name, "digest": _digest(secret), "scopes": list(scopes)}
    connection.execute(insert(keys).values(**row, created_at=time.time()))
    return f"{key_id}.{secret}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
