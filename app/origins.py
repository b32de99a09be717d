"""Origins of URLs: scheme, host and port, in one form, so that two of them can be compared."""

import re
from ipaddress import AddressValueError, IPv6Address

MAX_URL = 2048
_PORTS = {"http": 80, "https": 443}
# Stricter than the standard: whatever two programs could read differently is no URL here.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<rest>(?:/[\w.~!$&'()*+,;=:@%/-]*)?(?:\?[\w.~!$&'()*+,;=:@%/?-]*)?)",
    re.ASCII | re.IGNORECASE,
)


def split(url: str) -> tuple[str, str]:
    """The origin of a URL in its one form, and what follows it.

    Raises ValueError for what is no plain http(s) URL: too long, with a user, a fragment, a host that ends with
    a dot, or a character that is not allowed.
    """
    found = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    if found is None:
        raise ValueError(
            f"it is no URL of at most {MAX_URL} characters like https://example.org/hook, "
            "without a user and a #fragment"
        )
    scheme, port = found["scheme"].lower(), int(found["port"] or 0)
    if found["port"] is not None and not 1 <= port <= 65535:
        raise ValueError("its port is not between 1 and 65535")
    place = "" if port in (0, _PORTS[scheme]) else f":{port}"
    return f"{scheme}://{_host(found['host'])}{place}", found["rest"]


def origins(text: str) -> frozenset[str]:
    """Those of a list with commas. Raises ValueError."""
    found = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            origin, rest = split(part)
        except ValueError as error:
            raise ValueError(f"{part!r}: {error}") from error
        if rest not in ("", "/"):
            raise ValueError(f"{part!r} is more than an origin: write {origin}")
        found.add(origin)
    return frozenset(found)


def _host(text: str) -> str:
    if not text.startswith("["):
        return text.lower()
    try:
        return f"[{IPv6Address(text[1:-1])}]"
    except AddressValueError as error:
        raise ValueError(f"its host is no IPv6 address: {error}") from error
