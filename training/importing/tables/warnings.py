"""What a person should look at in a table, and what to do about it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from training.importing.facts import Warned
from training.importing.tables.facts import ColumnFacts
from training.importing.tables.labels import Labelled

GIVES_AWAY = 0.97  # share of the target's entropy that one column may tell without a warning
UNBALANCED, FEW = 10, 10


def of_columns(facts: Sequence[ColumnFacts]) -> Iterator[Warned]:
    for fact in facts:
        if fact.used and fact.association is not None and fact.association >= GIVES_AWAY:
            yield Warned(
                what=f"column {fact.name!r} gives the answer away (association {fact.association:.2f})",
                hint="leave it out by `roles` if it is not known before the answer",
            )
        elif fact.role == "duplicate" and fact.association is not None and fact.association >= GIVES_AWAY:
            yield Warned(
                what=f"column {fact.name!r} gives the answer away and was left out: {fact.why}",
                hint="no action needed",
            )
        elif _is_of_several_forms(fact):
            yield Warned(
                what=f"column {fact.name!r} was left out: {fact.why}", hint="or give it the role categorical"
            )
    reasons: dict[str, list[str]] = {}
    for fact in facts:
        if _is_of_several_forms(fact):
            continue
        if not fact.used and fact.role in ("text", "id", "constant", "duplicate"):
            reasons.setdefault(fact.role, []).append(fact.name)
    words = {
        "text": "free text",
        "id": "like numbers of rows",
        "constant": "constant",
        "duplicate": "a copy of another",
    }
    for role, names in reasons.items():
        yield Warned(
            what=f"left out, {words[role]}: {', '.join(names[:10])}" + (", .." if len(names) > 10 else ""),
            hint="give a column a role by `roles` to take it back",
        )


def _is_of_several_forms(fact: ColumnFacts) -> bool:
    return fact.why is not None and fact.why.startswith("its dates are of several forms")


def of_labels(found: Labelled) -> Iterator[Warned]:
    for same in found.similar:
        yield Warned(
            what=f"the classes {', '.join(map(repr, same))} differ only in blanks, case or a final dot",
            hint="merge them by `merge_similar`, or by `rename`",
        )
    if found.without:
        yield Warned(
            what=f"{found.without:,} row{'s' * (found.without != 1)} without a target left out",
            hint="fill it in, or predict it afterwards",
        )


def of_spellings(found: Labelled, counts: Mapping[str, Mapping[str, int]]) -> Iterator[Warned]:
    """Test files that write the classes differently, as adult's does."""
    tested = [label for same in found.similar for label in same if not counts[label]["train"]]
    if tested:
        yield Warned(
            what=f"the classes {', '.join(map(repr, tested[:10]))} are in the test rows alone, and differ from "
            "others only in blanks, case or a final dot: figures on the test rows mean nothing",
            hint="import again with merge_similar",
        )


def of_classes(counts: Mapping[str, Mapping[str, int]]) -> Iterator[Warned]:
    totals = Counter({label: sum(by_split.values()) for label, by_split in counts.items()})
    for label, total in totals.items():
        if not counts[label]["train"]:
            yield Warned(what=f"class {label!r} has no row to train on", hint="add some, merge it or drop it")
        elif total < 2:
            yield Warned(
                what=f"class {label!r} has one row, which is never tested", hint="add more, or drop it"
            )
        elif total < FEW:
            yield Warned(what=f"class {label!r} has {total} rows", hint="its figures say little: add more")
    if max(totals.values()) >= UNBALANCED * min(totals.values()):
        yield Warned(
            what=f"the largest class has {max(totals.values()):,} rows, the smallest {min(totals.values()):,}",
            hint="look at balanced accuracy and log loss as well as accuracy",
        )


def of_copies(copies: int, conflicts: int, often: bool) -> Iterator[Warned]:
    if conflicts:
        yield Warned(
            what=f"{conflicts:,} rows equal an earlier one of another class",
            hint="no model can tell them apart: a column may be missing",
        )
    if copies:
        hint = (
            "they are more than half of all and taken for different cases"
            if often
            else "they stay on one side of a split"
        )
        yield Warned(what=f"{copies:,} rows equal an earlier one", hint=hint)
