"""The decision whether `production` moves to a new version."""

import math
from dataclasses import dataclass
from typing import Literal

from models.card import Card

Rule = Literal["if_better", "always", "never"]
WORTH = 0.001  # of the test accuracy, that a version which has learned corrections may lose; of few inputs, one


@dataclass(frozen=True)
class Current:
    """The version that is in production; `card` is None where it cannot be read."""

    version: int
    card: Card | None


@dataclass(frozen=True)
class Decision:
    """Whether `production` moves, and why; accuracies are on the test set, 0..1."""

    rule: Rule
    promoted: bool
    reason: str
    accuracy: float | None
    current_version: int | None
    current_accuracy: float | None


def decide(rule: Rule, new: Card, current: Current | None, may_replace: bool = True) -> Decision:
    """What follows from the rule and the two cards. Reads and changes nothing.

    Without `may_replace`, `always` is `if_better` where there is a version in production.
    """
    promoted, reason = _judge(rule, new, current, may_replace)
    before = current.card if current else None
    return Decision(
        rule=rule,
        promoted=promoted,
        reason=reason,
        accuracy=_accuracy(new),
        current_version=current.version if current else None,
        current_accuracy=_accuracy(before) if before else None,
    )


def _judge(rule: Rule, new: Card, current: Current | None, may_replace: bool) -> tuple[bool, str]:
    if rule == "never":
        return False, "the job asked never to promote"
    if current is None:
        return True, "it is the model's first version"
    if rule == "always" and may_replace:
        return True, "the job asked always to promote"
    if current.card is None:
        return True, f"version {current.version} is damaged"
    if new.dataset is None:  # weights that were uploaded without one
        return False, "its test accuracy is not known: name a data set with the weights, or promote always"
    if _digest(current.card) != _digest(new):
        return False, "the current version was measured on other data"
    if _is_fine_tuned(new):
        return _compare_both(new, current.card, current.version)
    return _compare(_accuracy(new), _accuracy(current.card), current.version)


def _is_fine_tuned(card: Card) -> bool:
    return card.corrections is not None and (card.training or {}).get("recipe") == "fine-tune"


def _compare_both(new: Card, old: Card, version: int) -> tuple[bool, str]:
    """Corrections that were learned are worth a little of the test accuracy."""
    accuracy, before, learned = _accuracy(new), _accuracy(old), new.corrections
    if learned is not None and learned.test_accuracy_before is not None:  # on the images of the new figure
        before = learned.test_accuracy_before
    if accuracy is None or before is None or learned is None or learned.right_before is None:
        return _compare(accuracy, before, version)
    said = f"{learned.right_after} of {learned.used} corrections right, {learned.right_before} before"
    kept = accuracy >= before - max(WORTH, 1.0001 / new.metrics["test"].images)
    said += f"; test accuracy {accuracy:.4f}, {before:.4f} of version {version}"
    return kept and (learned.right_after > learned.right_before or accuracy >= before), said


def _compare(new: float | None, old: float | None, version: int) -> tuple[bool, str]:
    if new is None:
        return False, "its test accuracy is not known"
    if old is None:
        return True, f"the test accuracy of version {version} is not known"
    sign = ">=" if new >= old else "<"
    return new >= old, f"test accuracy {new:.4f} {sign} {old:.4f} of version {version}"


def _digest(card: Card) -> str | None:
    """Of the data; versions of a data set with other names may hold the same."""
    return card.dataset.digest if card.dataset else None


def _accuracy(card: Card) -> float | None:
    test = card.metrics.get("test")
    return test.accuracy if test and math.isfinite(test.accuracy) else None
