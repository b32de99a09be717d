"""A candidate answers what production has answered, off the way of requests: nobody waits for it.

What was answered is offered to a bounded queue; where that is full, or images wait for production, it is
dropped. One thread of low priority computes a few images at a time.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from app.serving.batching import Batcher, Rows, lower_priority
from app.serving.registry import Registry, ServedModel
from app.store.traffic import Compared

log = logging.getLogger("minist.shadow")

MOST_WAITING = 64  # images
AT_ONCE = 16  # in a forward pass
TRIES = 3  # of a forward pass that is timed
TIMED_EVERY = 8  # batches, of whose images one is computed by both, to compare their time
Offer = tuple[ServedModel, bytes, int, float]  # by whom, its input, index and probability of the answer


class Shadow:
    """The candidates of one process. `offer` is called in the event loop, `work` by one thread at a time."""

    def __init__(self, registry: Registry, batcher: Batcher) -> None:
        self._registry = registry
        self._batcher = batcher
        self._waiting: deque[Offer] = deque()
        self._found: dict[str, Compared] = {}
        self._dropped: dict[str, int] = {}
        self._counting = threading.Lock()
        self._batches = 0
        self.thread = ThreadPoolExecutor(1, "shadow", lower_priority)

    @property
    def waits(self) -> bool:
        return bool(self._waiting)

    def offer(self, served: ServedModel, values: bytes, index: int, probability: float) -> None:
        """Of a model that has a candidate in the shadow."""
        if self._registry.get(served.name) is not served:  # another alias has answered
            return
        if len(self._waiting) >= MOST_WAITING or self._batcher.images > MOST_WAITING:
            self._dropped[served.name] = self._dropped.get(served.name, 0) + 1
        else:
            self._waiting.append((served, values, index, probability))

    def offer_all(self, served: ServedModel, values: bytes | memoryview, rows: Rows) -> None:
        """The inputs of one request, and their answers: as many as there is room for."""
        size, room = served.input_bytes, max(MOST_WAITING - len(self._waiting), 1)
        for at, row in enumerate(rows[:room]):
            index = served.most_probable(row)
            self.offer(served, bytes(values[at * size : (at + 1) * size]), index, row[index])
        if len(rows) > room and self._registry.get(served.name) is served:
            self._dropped[served.name] = self._dropped.get(served.name, 0) + len(rows) - room

    def take(self, model: str) -> Compared:
        """What was found since the last time."""
        with self._counting:
            found = self._found.pop(model, Compared())
        return replace(found, dropped=self._dropped.pop(model, 0))

    def work(self) -> None:
        """Compare what waits."""
        offers = [self._waiting.popleft() for _ in range(len(self._waiting))]
        for served in {id(offer[0]): offer[0] for offer in offers}.values():
            mine = [offer for offer in offers if offer[0] is served]
            for at in range(0, len(mine), AT_ONCE):
                found = self._compare(served, mine[at : at + AT_ONCE])
                with self._counting:
                    self._found[served.name] = self._found.get(served.name, Compared()).plus(found)

    def _compare(self, served: ServedModel, offers: Sequence[Offer]) -> Compared:
        alias = self._registry.shadows.get(served.name)
        if alias is None:
            return Compared()
        try:
            candidate = self._registry.get(f"{served.name}@{alias}")
            if candidate is None:
                return Compared(failed=len(offers))
            inputs = candidate.inputs([values for _, values, _, _ in offers])
            rows = candidate.probabilities(candidate.forward(inputs).tolist())
        except Exception as error:  # whatever a candidate does: production has answered
            log.warning("the candidate %s of %s failed: %s", alias, served.name, error)
            return Compared(failed=len(offers))
        best = [max(row) for row in rows]
        agreed = sum(row.index(most) == offer[2] for row, most, offer in zip(rows, best, offers, strict=True))
        found = Compared(
            compared=len(offers),
            agreed=agreed,
            confidence=sum(offer[3] for offer in offers),
            candidate_confidence=sum(best),
        )
        self._batches += 1
        return found.plus(_timed(served, candidate, inputs[:1])) if self._batches % TIMED_EVERY == 1 else found


def _timed(served: ServedModel, candidate: ServedModel, one: torch.Tensor) -> Compared:
    """A forward pass of one image by each, in turn; the quickest, since other threads take the CPU away."""
    best = {"production": math.inf, "candidate": math.inf}
    for _ in range(TRIES):
        for name, model in (("production", served), ("candidate", candidate)):
            begun = time.perf_counter()
            model.forward(one)
            best[name] = min(best[name], time.perf_counter() - begun)
    return Compared(timed=1, seconds=best["production"], candidate_seconds=best["candidate"])


def why_not_comparable(production: ServedModel, candidate: ServedModel) -> str | None:
    """Why the two cannot answer for each other; None where they can. For the shadow inputs must be the same."""
    if production.classifier.card.classes != candidate.classifier.card.classes:
        return "it has other classes"
    if production.takes_rows != candidate.takes_rows:
        return "one takes pictures and the other rows of a table"
    return None


def why_not_in_shadow(production: ServedModel, candidate: ServedModel) -> str | None:
    """The same where both have to take the same input."""
    one, other = production.classifier.card.input, candidate.classifier.card.input
    if production.takes_rows:
        return None if one == other else "its columns are others"
    return (
        None
        if _preprocessed(one) == _preprocessed(other)
        else "it takes pictures that are preprocessed otherwise"
    )


def _preprocessed(taken: object) -> Mapping[str, object]:
    names = ("shape", "preprocessing", "resize", "polarity")
    return {name: getattr(taken, name) for name in names}
