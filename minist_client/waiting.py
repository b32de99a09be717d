"""How long to wait before a request is sent again, and when to give up."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

AGAIN = (429, 502, 503, 504)  # statuses that may pass
FIRST, LONGEST = 0.25, 8.0  # seconds


@dataclass(frozen=True)
class Retries:
    """At most so many after the first attempt, and none that would begin later than `seconds` after it."""

    times: int = 4
    seconds: float = 60

    def wait(self, number: int, elapsed: float, asked: float | None) -> float | None:
        """Seconds to wait before retry `number` (from 1), at least those that the service has `asked` for;
        None: give up."""
        if number > self.times:
            return None
        grown = min(LONGEST, FIRST * 2 ** (number - 1)) * random.uniform(0.5, 1)  # noqa: S311 - to spread clients
        found = grown if asked is None else asked + 0.1 * grown
        return found if elapsed + found <= self.seconds else None


def retry_after(text: str, now: float | None = None) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, moment - (time.time() if now is None else now))
