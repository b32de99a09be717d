"""Where the service stands behind a proxy: the prefix of its paths, whether the proxy strips it or not.

The prefix becomes ASGI's `root_path`, and `path` begins with it, as ASGI wants it. Routes know only the rest.
"""

import re
from collections.abc import Awaitable, Mapping
from typing import Any

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

_PREFIX = re.compile(r"(?:/[\w.~%-]+){1,16}", re.ASCII)
MAX_PREFIX = 256


def is_prefix(text: str) -> bool:
    """Whether a text is a path that can stand in front of others, like /tools/minist."""
    return len(text) <= MAX_PREFIX and _PREFIX.fullmatch(text) is not None and "/.." not in text


def path_of(scope: Mapping[str, Any]) -> str:
    """The path of a request without the prefix of the service."""
    path: str = scope["path"]
    prefix = scope.get("root_path")
    return path.removeprefix(prefix) if prefix else path


def url_of(scope: Mapping[str, Any], path: str) -> str:
    """The path at which clients reach a path of ours."""
    return f"{scope.get('root_path', '')}{path}"


class Paths:
    """ASGI in front of ASGI: the prefix is found, and a slash at the end makes no difference.

    Stands before what rewrites the client's address, since only trusted proxies may name a prefix.
    """

    def __init__(self, app: ASGIApp, prefix: str, trusted: str) -> None:
        """`prefix` is the one that is configured, or empty; `trusted` are the proxies, separated by commas."""
        self.proxied = ProxyHeadersMiddleware(app, trusted) if trusted else None  # type: ignore[arg-type]
        self.app = app
        self.prefix = prefix

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        prefix = self._announced(scope) or self.prefix
        if prefix:
            _put_under(scope, prefix)
        path = path_of(scope)
        if not path or path == "/docs/":  # its relative links would lead elsewhere
            return RedirectResponse(url_of(scope, path.rstrip("/") or "/"), 308)(scope, receive, send)
        if path[-1] == "/" and path != "/" and not path.startswith("/static"):
            scope["path"] = scope["path"].rstrip("/") or "/"
        app: Any = self.app if self.proxied is None else self.proxied
        found: Awaitable[None] = app(scope, receive, send)
        return found

    def _announced(self, scope: Scope) -> str | None:
        """The prefix in X-Forwarded-Prefix, where a trusted proxy says it."""
        if self.proxied is None or (scope.get("client") or ("",))[0] not in self.proxied.trusted_hosts:
            return None
        value = dict(scope["headers"]).get(b"x-forwarded-prefix", b"").decode("latin-1").rstrip("/")
        return value if is_prefix(value) else None


def _put_under(scope: Scope, prefix: str) -> None:
    path = scope["path"]
    if path != prefix and not path.startswith(f"{prefix}/"):  # the proxy has stripped it
        scope["path"] = prefix + path
        if "raw_path" in scope:
            scope["raw_path"] = prefix.encode() + scope["raw_path"]
    scope["root_path"] = prefix
