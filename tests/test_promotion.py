"""Whether `production` moves: a rule, two cards, a decision."""

import pytest

from app.jobs.promotion import Current, Rule, decide
from models.card import Card, DatasetFacts, read_card
from tests.conftest import WEIGHTS

CARD = read_card(WEIGHTS / "minist.json")
TEST = CARD.metrics["test"]


def measured(accuracy: float | None, dataset: DatasetFacts | None = CARD.dataset) -> Card:
    metrics = {} if accuracy is None else {"test": TEST.model_copy(update={"accuracy": accuracy})}
    return CARD.model_copy(update={"metrics": metrics, "dataset": dataset})


@pytest.mark.parametrize(
    ("rule", "new", "old", "promoted"),
    [
        ("if_better", 0.9, 0.8, True),
        ("if_better", 0.9, 0.9, True),
        ("if_better", 0.8, 0.9, False),
        ("if_better", None, 0.9, False),
        ("if_better", 0.8, None, True),
        ("always", 0.1, 0.9, True),
        ("never", 0.9, 0.1, False),
    ],
)
def test_the_rule_decides(rule: Rule, new: float | None, old: float | None, promoted: bool) -> None:
    decision = decide(rule, measured(new), Current(3, measured(old)))
    assert (decision.rule, decision.promoted) == (rule, promoted)
    assert (decision.accuracy, decision.current_version, decision.current_accuracy) == (new, 3, old)
    assert decision.reason


@pytest.mark.parametrize(("rule", "promoted"), [("if_better", True), ("always", True), ("never", False)])
def test_the_first_version_is_promoted_unless_never_was_asked(rule: Rule, promoted: bool) -> None:
    assert decide(rule, measured(0.1), None).promoted is promoted


def test_figures_on_other_data_are_not_compared() -> None:
    other = DatasetFacts(name="mnist", digest="0" * 64)
    decision = decide("if_better", measured(0.99), Current(1, measured(0.5, other)))
    assert not decision.promoted
    assert "other data" in decision.reason


def test_a_version_that_cannot_be_read_gives_way() -> None:
    decision = decide("if_better", measured(0.5), Current(7, None))
    assert decision.promoted
    assert "version 7 is damaged" in decision.reason


def test_the_digest_says_whether_the_data_are_the_same() -> None:
    assert CARD.dataset is not None
    renamed = CARD.dataset.model_copy(update={"name": "photos@2"})
    decision = decide("if_better", measured(0.99), Current(1, measured(0.5, renamed)))
    assert decision.promoted
