"""What both clients are made with: address, key, time limits, and how errors of the network are told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import httpx2

from minist_client.errors import ClientError, NotReachable, TimedOut, UnexpectedAnswer, UnusableInput

URL = "http://127.0.0.1:8000"
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Connection:
    """Where the service is, and who asks."""

    url: str  # without a slash at its end
    api_key: str | None
    timeout: float

    @classmethod
    def of(cls, url: str | None, api_key: str | None, timeout: float) -> Connection:
        """What is None is taken from MINIST_URL and MINIST_API_KEY. Raises UnusableInput."""
        found = url or os.environ.get("MINIST_URL", "").strip() or URL
        found = (found if "://" in found else f"http://{found}").rstrip("/")
        try:
            parsed = httpx2.URL(found)
        except httpx2.InvalidURL as error:
            raise UnusableInput(f"{found!r} is no address ({error}): write one like {URL}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
            raise UnusableInput(f"{found!r} is no address of a service: write one like {URL}")
        key = api_key if api_key is not None else os.environ.get("MINIST_API_KEY", "").strip() or None
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UnusableInput("the API key has characters that no key has: look for a newline in it")
        return cls(found, key, timeout)

    @property
    def options(self) -> Mapping[str, Any]:
        """For httpx2's clients. A proxy of the environment is not asked for this machine."""
        headers = {"user-agent": "minist-client", "accept": "application/json"}
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key}"
        limits = httpx2.Timeout(self.timeout, connect=min(self.timeout, CONNECT_SECONDS))
        return {"headers": headers, "timeout": limits, "trust_env": not _is_here(httpx2.URL(self.url).host)}

    def trouble(self, error: httpx2.HTTPError) -> ClientError:
        """The same in words of ours."""
        if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
            return TimedOut(
                f"{self.url} does not take connections in time: is it the right address?", sent=False
            )
        if isinstance(error, httpx2.TimeoutException):
            return TimedOut(
                f"no answer from {self.url} within {self.timeout:g} s: try again, or raise `timeout`"
            )
        if isinstance(error, httpx2.ConnectError):
            hint = "start it (minist serve)" if _is_here(httpx2.URL(self.url).host) else "is it running there?"
            return NotReachable(
                f"no service answers at {self.url} ({error}): {hint}, or give its address", sent=False
            )
        if isinstance(error, httpx2.TransportError):
            return NotReachable(f"the connection to {self.url} was lost ({error or type(error).__name__})")
        return UnexpectedAnswer(f"{self.url} answers what cannot be read ({error})")


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
