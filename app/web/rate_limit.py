"""A limit of requests per key or address, off by default (`MINIST_RATE_LIMIT`).

This stands in front of the service only where there is a limit. Windows are fixed: they take two numbers per
caller and are forgotten when they end. (The moving windows of `limits` in memory keep an entry per request,
and every address for ever.) On a Postgres all processes share them (`app.web.shared_rates`).
"""

import math
import time
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import TooManyRequests
from app.settings import rate_limits
from app.store.database import Database
from app.store.rates import SharedCounts
from app.web.access_log import RequestObserver, RequestObserverMiddleware
from app.web.auth import presented_key
from app.web.dependencies import services_of
from app.web.paths import path_of
from app.web.problems import response_of
from app.web.shared_rates import SharedRates

if TYPE_CHECKING:
    from limits import RateLimitItem

FREE = ("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")  # monitoring is not held up
PAGES = ("/", "/docs")  # what they ask the service for is counted, how they look is not
STATIC = "/static/"


class Rates:
    """The limits, and how far each caller is from them. Used in the event loop only."""

    def __init__(self, text: str) -> None:
        from limits.storage import MemoryStorage  # here: most services do without
        from limits.strategies import FixedWindowRateLimiter

        self.limits = rate_limits(text)
        self.windows = FixedWindowRateLimiter(MemoryStorage())
        self._shared: SharedRates | None = None

    def share(self, database: Database) -> None:
        """Count together with all processes on a Postgres; on SQLite each counts for itself."""
        if not database.in_home:
            self._shared = SharedRates(self.limits, SharedCounts(database))

    async def admit(self, caller: str) -> TooManyRequests | None:
        """Count a request of `caller`, unless one of the limits is reached; then why it is refused."""
        if self._shared is not None:
            try:
                reached = await self._shared.seconds_to_wait(caller)
            except OperationalError:  # then each process counts for itself
                return self.refusal(caller)
            return None if reached is None else _refusal(*reached)
        return self.refusal(caller)

    def refusal(self, caller: str) -> TooManyRequests | None:
        """The same of this process alone."""
        for limit in self.limits:
            if not self.windows.test(limit, caller):
                reset = self.windows.get_window_stats(limit, caller).reset_time
                return _refusal(limit, max(1, math.ceil(reset - time.time())))
        for limit in self.limits:
            self.windows.hit(limit, caller)
        return None


def _refusal(limit: "RateLimitItem", seconds: int) -> TooManyRequests:
    return TooManyRequests(
        f"no more than {limit} are answered",
        f"try again in {seconds} s, and ask more slowly",
        retry_after=seconds,
    )


class RateLimited:
    """ASGI in front of ASGI: a caller with too many requests is answered 429. Used in the event loop only."""

    def __init__(
        self, app: ASGIApp, text: str, observer: RequestObserver, rates: "Rates | None" = None
    ) -> None:
        """`rates` are those that other doors share."""
        self.app = app
        self.rates = rates or Rates(text)
        self.observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_free(path_of(scope)):
            await self.app(scope, receive, send)
            return
        refusal = await self.rates.admit(await caller_of(scope))
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            self.observer.counters.refused["rate"] += 1
            await RequestObserverMiddleware(response_of(refusal), self.observer)(scope, receive, send)


def _is_free(path: str) -> bool:
    """The page has some fifty small files: a strict limit would show it half."""
    return path in FREE or path in PAGES or path.startswith(STATIC)


async def caller_of(scope: Scope) -> str:
    """The key where it is valid (else anyone could invent new ones), or the address."""
    presented = presented_key(dict(scope["headers"]))
    if presented:
        identity = await services_of(scope).authenticator.identify(presented)
        if identity is not None:
            return f"key {identity.who}"
    client = scope.get("client")
    return f"address {_network(client[0])}" if client else "nobody"


def _network(address: str) -> str:
    """An IPv6 subscriber has 2^64 addresses: they count as one."""
    try:
        found = ip_address(address)
    except ValueError:  # a socket's path, or what a proxy wrote
        return address
    return str(ip_network((found, 64), strict=False)) if isinstance(found, IPv6Address) else address
