"""Who may do what: the rule that every door of the service asks.

Keys are looked up in the database, in a thread; each answer is remembered for a second, so that predictions
with a key do not wait for the disk, and a good one for longer while the database does not answer. Only the
digests of keys are remembered, and only a bounded number.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import OperationalError

from app.errors import Forbidden, Unauthorized
from app.store.keys import Identity, Keys, Scope

REMEMBER_SECONDS = 1.0
AWAY_SECONDS = 300.0  # that a good key stays good while no database answers: nobody can revoke it meanwhile
ASK_AGAIN_SECONDS = 5.0  # then, since asking may take as long
REMEMBERED = 1000  # keys, good and bad ones together
LOOKUPS_AT_ONCE = 4  # threads of their own: a key is checked also while all others are busy

Headers = Mapping[bytes, bytes]  # lower-case names, as ASGI has them


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was found when a key was looked up; times of the monotonic clock."""

    identity: Identity | None
    looked_up: float
    until: float


class Authenticator:
    """Knows whose key a request presents, and whether that is enough. Used in the event loop only."""

    def __init__(self, keys: Keys, open_predict: bool) -> None:
        """With `open_predict`, predictions and reads need no key."""
        self.keys = keys
        self.open_predict = open_predict
        self._remembered: OrderedDict[bytes, Remembered] = OrderedDict()
        self._lookups = CapacityLimiter(LOOKUPS_AT_ONCE)

    async def may_predict(self, headers: Headers) -> None:
        """Raises Unauthorized or Forbidden where the request may neither predict nor correct a prediction."""
        if not self.open_predict:
            await self.authorize(headers, "predict")

    async def may_read(self, headers: Headers) -> None:
        """Raises Unauthorized where the request may not read; any valid key is enough."""
        if not self.open_predict:
            await self.authorize(headers, None)

    async def authorize(self, headers: Headers, scope: Scope | None) -> Identity:
        """The owner of the key that the request presents; with scope None any valid key will do.

        Raises Unauthorized without a valid key, Forbidden where it lacks the scope.
        """
        presented = presented_key(headers)
        if not presented:
            raise Unauthorized(
                "this needs an API key and none was sent",
                "send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
                presented=False,
            )
        identity = await self.identify(presented)
        if identity is None:
            raise Unauthorized(
                "the API key is not known, or was revoked",
                "look it up in MINIST_HOME/admin.key, or make one with 'minist keys create'",
                presented=True,
            )
        if scope is not None and not identity.may(scope):
            raise Forbidden(
                f"the key of {identity.who} has the scopes {', '.join(sorted(identity.scopes))}",
                f"use a key with the scope {scope}",
            )
        return identity

    async def identify(self, presented: str) -> Identity | None:
        """The owner of a key; None where it is not valid."""
        digest = hashlib.sha256(presented.encode()).digest()
        known = self._remembered.get(digest)
        if known is not None and known.until >= time.monotonic():
            return known.identity
        try:
            identity = await to_thread.run_sync(self.keys.identify, presented, limiter=self._lookups)
        except OperationalError:
            now = time.monotonic()
            if known is None or known.identity is None or now - known.looked_up > AWAY_SECONDS:
                raise
            self._remember(digest, replace(known, until=now + ASK_AGAIN_SECONDS))
            return known.identity
        now = time.monotonic()
        self._remember(digest, Remembered(identity, now, now + REMEMBER_SECONDS))
        return identity

    def _remember(self, digest: bytes, found: Remembered) -> None:
        self._remembered[digest] = found
        self._remembered.move_to_end(digest)
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)


def presented_key(headers: Headers) -> str | None:
    """The key in a request's headers."""
    scheme, _, credentials = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    key = headers.get(b"x-api-key")
    return None if key is None else key.decode("latin-1")
