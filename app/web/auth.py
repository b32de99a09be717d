"""The gate that a key must pass."""

import time
from collections.abc import Mapping

from app.errors import Forbidden, Unauthorized
from app.store.keys import Identity, Keys, Scope

REMEMBER_SECONDS = 1.0


class Authenticator:
    """Lets a key through, or not. Remembers each answer for a second, so that predictions need no database."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._remembered: dict[str, tuple[float, Identity | None]] = {}

    def authorize(self, presented: str | None, scope: Scope | None) -> Identity:
        """Who that is; with scope None any key will do.

        Raises Unauthorized without a good key, Forbidden where it lacks the scope.
        """
        if not presented:
            raise Unauthorized(
                "this needs an API key and none was sent",
                "send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
                {"www-authenticate": "Bearer"},
            )
        identity = self.identify(presented)
        if identity is None:
            raise Unauthorized(
                "the API key is not known, or was revoked",
                "look it up in MINIST_HOME/admin.key, or make one by 'minist keys create'",
                {"www-authenticate": 'Bearer error="invalid_token"'},
            )
        if scope is not None and not identity.may(scope):
            raise Forbidden(
                f"the key of {identity.who} has the scopes {', '.join(sorted(identity.scopes))}",
                f"use a key with the scope {scope}",
            )
        return identity

    def identify(self, presented: str) -> Identity | None:
        now = time.monotonic()
        until, identity = self._remembered.get(presented, (0.0, None))
        if until < now:
            identity = self.keys.identify(presented)
            if len(self._remembered) > 1000:
                self._remembered.clear()
            self._remembered[presented] = (now + REMEMBER_SECONDS, identity)
        return identity


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The key in a request's headers."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else headers.get("x-api-key")
