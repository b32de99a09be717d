"""Which hosts a request may be for (`MINIST_ALLOWED_HOSTS`).

A page anywhere can let its own name resolve to 127.0.0.1 and then ask a service there as if it were its own
(DNS rebinding). What gives it away is the Host header, which holds that page's name. As in Starlette's
TrustedHostMiddleware, a pattern is a name, `*.` and a domain, or `*`.
"""

from collections.abc import Awaitable, Iterable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import UnknownHost
from app.web.access_log import RequestObserver, RequestObserverMiddleware
from app.web.paths import path_of
from app.web.problems import response_of

FREE = ("/livez", "/readyz")  # probes ask by address
MAX_KNOWN, MAX_KNOWN_BYTES = 256, 256  # of the headers that are remembered


class AllowedHosts:
    """ASGI in front of ASGI: a request for another host is answered 400."""

    def __init__(self, app: ASGIApp, patterns: Iterable[str], observer: RequestObserver) -> None:
        self.app = app
        self._names = {pattern.lower() for pattern in patterns}
        self._domains = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._observer = observer
        self._known: set[bytes] = set()  # Host headers that were allowed

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http" or self._is_allowed(scope["headers"]) or path_of(scope) in FREE:
            return self.app(scope, receive, send)
        refusal = UnknownHost(
            "this service is not known by the name in the request's Host header",
            "ask by a name that is in MINIST_ALLOWED_HOSTS, or add this one to it",
        )
        return RequestObserverMiddleware(response_of(refusal), self._observer)(scope, receive, send)

    def _is_allowed(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        found = False
        for name, value in headers:
            if name == b"host":
                if value not in self._known and not self._matches(value):
                    return False
                found = True
        return found

    def _matches(self, value: bytes) -> bool:
        host = without_port(value.decode("latin-1"))
        matches = host in self._names or host.endswith(self._domains)
        if matches and len(value) <= MAX_KNOWN_BYTES and len(self._known) < MAX_KNOWN:
            self._known.add(value)
        return matches


def without_port(host: str) -> str:
    """`Example.org:8000` to `example.org`, `[::1]:8000` to `[::1]`."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() else host).lower().rstrip(".")


def patterns(text: str) -> tuple[str, ...]:
    """Those in a setting, separated by commas; none where every host is allowed."""
    found = tuple(filter(None, (part.strip() for part in text.split(","))))
    return () if "*" in found else found
