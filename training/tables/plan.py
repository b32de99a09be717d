"""What a table recipe leaves to the table, by rows and columns alone: sizes of the network, folds, epochs."""

from dataclasses import asdict, dataclass, replace
from typing import Any

FLOPS = 12e12  # of all epochs together: less than ten minutes of one core
CHEAPEST = 12  # epochs, at least
WIDE = (
    40  # columns, above which fewer figures are made of each: 10,000 rows are to be answered in half a second
)


@dataclass(frozen=True)
class PartPlan:
    """A part of the network (`models.table_networks`), and how it is trained."""

    settings: dict[str, float]
    lr: float
    decay: float


@dataclass(frozen=True)
class Plan:
    """How a table is trained."""

    groups: int  # networks that share nothing, each with a fold of its own
    held: float  # share of the rows that each holds out
    bins: int
    parts: tuple[PartPlan, ...]
    batch: int
    epochs: int
    patience: int
    lr: float
    optimizer: str = "adamw"
    smoothing: float = 0.0
    averaged: float = 1.0  # epochs that the average of the weights reaches back
    warm: int = 20  # steps

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def network(lr: float, decay: float, **settings: float) -> PartPlan:
    return PartPlan(settings, lr, decay)


LINEAR = PartPlan({"linear": 1}, lr=0.01, decay=0.1)
# is fitted at once; with these degrees of freedom an outlier costs little, and rows in the middle tell as much
GAUSSIAN = PartPlan({"gaussian": 1, "degrees": 10}, lr=0.0, decay=0.0)
MOST_GAUSSIAN = 64, 500_000  # numbers of a row, and of its parameters, with which it is tried


def plan_for(rows: int, columns: int, classes: int) -> Plan:
    """For a table of so many training rows, and columns after dates were taken apart."""
    if rows < 3_000:
        plan = Plan(
            groups=8,
            held=1 / 8,
            bins=12,
            parts=(
                LINEAR,
                network(0.002, 0.05, members=4, width=64, embedding=4, dropout=0.3),
                network(0.002, 0.01, members=4, width=128, embedding=8, dropout=0.1),
            ),
            batch=max(16, min(128, rows // 16)),
            epochs=150,
            patience=16,
            lr=0.002,
        )
    elif rows < 15_000:
        plan = Plan(
            groups=5,
            held=1 / 5,
            bins=24,
            parts=(LINEAR, network(0.002, 0.01, members=8, width=128, embedding=8, dropout=0.15)),
            batch=128,
            epochs=80,
            patience=10,
            lr=0.002,
        )
    elif rows < 45_000:
        plan = Plan(
            groups=2,
            held=0.1,
            bins=48,
            parts=(network(0.002, 0.01, members=8, width=192, embedding=8, dropout=0.15),),
            batch=256,
            epochs=100,
            patience=8,
            lr=0.002,
        )
    else:
        wide = columns > WIDE
        plan = Plan(
            groups=1,
            held=0.1,
            bins=16 if wide else 48,
            parts=(
                network(
                    0.002,
                    0.01,
                    members=8,
                    width=192 if wide else 256,
                    embedding=3 if wide else 8,
                    dropout=0.2 if wide else 0.15,
                ),
            ),
            batch=256,
            epochs=60,
            patience=6,
            lr=0.002,
        )
    return _within(plan, rows, columns, classes)


def with_gaussian(plan: Plan, numbers: int, classes: int) -> Plan:
    """With distributions of the classes, where there are numbers, and not too many."""
    most, parameters = MOST_GAUSSIAN
    fits = 2 <= numbers <= most and plan.groups * classes * numbers * numbers <= parameters
    return replace(plan, parts=(*plan.parts, GAUSSIAN)) if fits else plan


def flops(plan: Plan, rows: int, columns: int, classes: int) -> float:
    """Of one epoch."""
    found = 0.0
    for part in plan.parts:
        width = part.settings.get("width", 0)
        features = columns * part.settings.get("embedding", 0)
        found += part.settings.get("members", 1) * (features * width + width * width + width * classes)
    return found * plan.groups * rows * 6


def _within(plan: Plan, rows: int, columns: int, classes: int) -> Plan:
    """Smaller where that would take too long: fewer epochs first, then groups, then narrower layers."""
    while True:
        affordable = int(FLOPS / flops(plan, rows, columns, classes))
        if affordable >= min(plan.epochs, CHEAPEST):
            return replace(plan, epochs=min(plan.epochs, affordable))
        smaller = _smaller(plan)
        if smaller == plan:
            return replace(plan, epochs=max(2, affordable))
        plan = smaller


def _smaller(plan: Plan) -> Plan:
    if plan.groups > 2:
        return replace(plan, groups=2)
    parts = tuple(
        replace(
            part,
            settings={
                key: max(int(value) // 2, {"embedding": 1, "members": 2, "width": 32}[key])
                if key in ("embedding", "members", "width")
                else value
                for key, value in part.settings.items()
            },
        )
        for part in plan.parts
    )
    return replace(plan, parts=parts)
