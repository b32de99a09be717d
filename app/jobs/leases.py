"""Which claims have gone silent, without asking what time it is.

A claimant changes its row several times in the length of a lease. A supervisor takes it for dead once it has
*seen* the row unchanged for a whole lease, on its own monotonic clock and without a gap in its watching. No two
clocks are compared: a clock that is set, a machine that sleeps or a locked database costs nobody a job.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """What a claimant's row says; `beat` grows with every sign of life."""

    job_id: str
    token: int
    beat: int


class LeaseWatch:
    """What one supervisor has seen of the claims of others; `lease` in seconds."""

    def __init__(self, lease: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.lease = lease
        self.clock = clock
        self._since: dict[Claim, float] = {}
        self._looked = 0.0

    def silent(self, claims: Iterable[Claim]) -> list[Claim]:
        """Those of the present claims that have been the same for a lease."""
        now = self.clock()
        if now - self._looked > self.lease / 2:  # a claimant may have been frozen or locked out as we were
            self.reset()
        self._looked = now
        self._since = {claim: self._since.get(claim, now) for claim in claims}
        return [claim for claim, since in self._since.items() if now - since >= self.lease]

    def reset(self) -> None:
        """Start over: earlier observations prove nothing."""
        self._since = {}
