"""A run on a table: plan, epochs, card."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic, perf_counter, process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.card import Card, DatasetFacts
from models.classifier import Classifier
from models.tables import TableInput
from training.errors import DatasetError, TrainingError
from training.events import Epoch, Listener, Note, Resumed, Step
from training.protocols import RunState
from training.recipes import RECIPES, Config
from training.search import Score
from training.tables.columns import fit_columns, folds, recode
from training.tables.corrections import CorrectedRows
from training.tables.dataset import TableDataset
from training.tables.ending import Judged, finish
from training.tables.network import TableTrainer
from training.tables.plan import PartPlan, Plan, plan_for, with_gaussian

TABLE, SOFTMAX = "table", "softmax"  # architectures of recipes that take tables
REPORT_EVERY = 0.25  # seconds between two Step events
SAVE_EVERY = 2.0  # seconds between two checkpoints: epochs of small tables take less than their writing
SOFTMAX_STEPS = 2_000  # of softmax regression where the epochs are the recipe's


@dataclass(frozen=True)
class TrainedTable:
    """A run whose epochs are over, as `training.protocols.EndedRun`."""

    run: RunState
    classifier: Classifier
    dataset: TableDataset
    judged: Judged
    notes: Sequence[str]
    cpu_seconds: float
    on_event: Listener

    def score(self) -> Score:
        return Score.of(self.judged.figures(self.classifier.card), self.run.history())

    def finish(self) -> Card:
        return finish(
            self.run, self.classifier, self.dataset, self.judged, self.notes, self.cpu_seconds, self.on_event
        )


def train_table(run: RunState, dataset: TableDataset, on_event: Listener) -> TrainedTable:
    """Train to the end of the epochs, from the last checkpoint where there is one."""
    config = run.config
    learned = dataset.learned
    spec = fit_columns(dataset.input, learned.images)
    corrections = CorrectedRows.read(run.files.corrections, dataset)
    plan = planned(config, spec, len(learned), len(dataset.classes), dataset.validation_given)
    for note in _notes(plan, config, len(learned)):
        on_event(Note(note))
    trainer = trainer_of(config, plan, dataset, spec, corrections)
    if run.files.resume.exists():
        trainer.restore(run.files.resume)
    cpu_begun = process_time()
    _run_epochs(run, trainer, on_event)
    model, probabilities = trainer.finish()
    judged = Judged(*trainer.judged, probabilities)
    plan = replace(plan, parts=tuple(plan.parts[place] for place in trainer.kept))
    card = Card(
        name=config.name,
        architecture=TABLE,
        arguments=arguments(plan, spec, len(dataset.classes)),
        input=spec,
        classes=dataset.classes,
        temperature=judged.temperature(plan.groups),
        training=config.model_copy(update={"epochs": trainer.epoch, "batch_size": plan.batch}).model_dump(),
        dataset=DatasetFacts(name=dataset.name, digest=dataset.digest),
    )
    classifier = Classifier(model.requires_grad_(False), card, torch.device("cpu"))
    outcome = corrections.outcome(dataset, classifier) if corrections else None
    classifier = replace(classifier, card=card.model_copy(update={"corrections": outcome}))
    notes = _notes(plan, config, len(learned))
    return TrainedTable(run, classifier, dataset, judged, notes, process_time() - cpu_begun, on_event)


def planned(config: Config, spec: TableInput, rows: int, classes: int, given: bool = False) -> Plan:
    """By the table; what the config names is as it says. `given`: the validation rows, which stay held out."""
    if config.architecture == SOFTMAX:
        plan = _softmax(config, rows)
    elif config.architecture in (TABLE, "auto"):
        plan = with_gaussian(plan_for(rows, spec.width, classes), len(spec.layout[0]), classes)
        lr, usual = config.lr, RECIPES[TABLE].settings["lr"]
        if config.architecture == "auto":
            lr = usual
        parts = tuple(
            replace(part, lr=part.lr * lr / usual, decay=config.weight_decay or part.decay)
            if config.architecture == TABLE
            else part
            for part in plan.parts
        )
        smoothing = config.label_smoothing if config.architecture == TABLE else 0.0
        plan = replace(plan, parts=parts, lr=lr, smoothing=smoothing)
        if config.epochs is not None:
            plan = replace(plan, epochs=config.epochs)
        if config.batch_size is not None:
            plan = replace(plan, batch=config.batch_size)
    else:
        raise DatasetError(
            f"the recipe {config.recipe} trains on pictures, and this data set is a table: "
            "choose the recipe table, or auto"
        )
    return replace(plan, groups=1) if given else plan


def _softmax(config: Config, rows: int) -> Plan:
    """Softmax regression by plain SGD, as the tutorials have it."""
    batch = min(config.batch_size or 256, max(16, rows // 16))
    epochs = config.epochs or 5
    if config.epochs == RECIPES[SOFTMAX].settings["epochs"]:
        epochs = max(epochs, round(SOFTMAX_STEPS / max(1, rows // batch)))
    part = PartPlan({"linear": 2}, config.lr, config.weight_decay)
    return Plan(1, 0.15, 1, (part,), batch, epochs, epochs, config.lr, "sgd", 0.0, averaged=0.0, warm=0)


def arguments(plan: Plan, spec: TableInput, classes: int) -> dict[str, Any]:
    """Those of the architecture."""
    numeric, categorical, sizes = spec.layout
    return {
        "classes": classes,
        "numeric": numeric,
        "categorical": categorical,
        "sizes": sizes,
        "bins": plan.bins,
        "groups": plan.groups,
        "parts": [part.settings for part in plan.parts],
    }


def trainer_of(
    config: Config,
    plan: Plan,
    dataset: TableDataset,
    spec: TableInput,
    corrections: CorrectedRows | None = None,
) -> TableTrainer:
    """The trainer at the start of a run, on rows encoded by `spec`; nobody holds out corrections."""
    learned, held = dataset.learned, held_out(dataset, plan, config.seed)
    if corrections is not None:
        more = corrections.repeated(len(learned))
        learned, held = learned + more, torch.cat([held, torch.full((len(more),), -1)])
    return TableTrainer(
        plan,
        arguments(plan, spec, len(dataset.classes)),
        recode(dataset.input, spec, learned.images),
        learned.labels,
        held,
        config.seed,
        config.threads,
    )


def held_out(dataset: TableDataset, plan: Plan, seed: int) -> Tensor:
    """The group that holds out each of the learned rows, -1 for none; [N]. Of a large table, rows of the
    validation split alone are held out.
    """
    count, start = len(dataset.learned), len(dataset.train)
    held = torch.full((count,), -1)
    if dataset.validation is None or (plan.groups * plan.held >= 1 and not dataset.validation_given):
        start, parts = 0, max(2, round(1 / plan.held))
    elif dataset.validation_given:
        parts = 1
    else:
        parts = max(plan.groups, round((count - start) / (plan.held * count)))
    labels, groups = dataset.learned.labels[start:].numpy(), dataset.groups[start:].numpy()
    found = folds(labels, groups, parts, seed)
    held[start:] = torch.from_numpy(np.where(found < plan.groups, found, -1))
    return held


def held_by_card(card: Card, dataset: TableDataset) -> Tensor:
    """The same of the run that the card is of. Raises TrainingError where nobody can tell any more."""
    try:
        config = Config.model_validate(card.training)
        plan = planned(config, card.table, len(dataset.learned), len(dataset.classes), dataset.validation_given)
        if dataset.digest != (card.dataset and card.dataset.digest):
            raise TrainingError(f"the data set {dataset.name} is not the one that {card.name} was trained on")
        if plan.groups != card.arguments["groups"]:
            raise ValueError
    except (ValueError, KeyError, DatasetError) as error:
        raise TrainingError(
            f"another release has trained {card.name}, and which rows it held out is not known: train it again"
        ) from error
    return held_out(dataset, plan, config.seed)


def _run_epochs(run: RunState, trainer: TableTrainer, on_event: Listener) -> None:
    history = run.history()[: trainer.epoch]
    if history:
        on_event(Resumed(tuple(history)))
    saved = monotonic()
    while not trainer.over:
        begun, cpu_begun = perf_counter(), process_time()
        loss, accuracy = trainer.run_epoch(_Steps(trainer, on_event))
        seconds, cpu_seconds = perf_counter() - begun, process_time() - cpu_begun
        watched, right = trainer.judge()
        epoch = Epoch(
            epoch=trainer.epoch,
            epochs=trainer.plan.epochs,
            train_loss=loss,
            train_accuracy=accuracy,
            split="validation",
            loss=watched,
            accuracy=right,
            lr=trainer.plan.lr,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
        )
        history.append(epoch)
        if trainer.over or trainer.epoch == 1 or monotonic() - saved >= SAVE_EVERY:
            run.write_history(history)
            trainer.save(run.files.resume)
            saved = monotonic()
        on_event(epoch)


class _Steps:
    """Sends a step a few times a second."""

    def __init__(self, trainer: TableTrainer, on_event: Listener) -> None:
        self.trainer, self.on_event = trainer, on_event
        self.begun = self.reported = perf_counter()

    def __call__(self, step: int, loss: float, accuracy: float) -> None:
        now = perf_counter()
        if now - self.reported < REPORT_EVERY and step < self.trainer.steps:
            return
        self.reported = now
        plan, steps = self.trainer.plan, self.trainer.steps
        rate = step * plan.batch / max(now - self.begun, 1e-9)
        left = (steps * (plan.epochs - self.trainer.epoch) - step) * plan.batch
        self.on_event(
            Step(self.trainer.epoch + 1, plan.epochs, step, steps, loss, accuracy, rate, max(0.0, left / rate))
        )


def _notes(plan: Plan, config: Config, rows: int) -> list[str]:
    if config.architecture == SOFTMAX:
        return [f"softmax regression on standardised numbers and categories, {plan.epochs} epochs at most"]
    share = f"1 of {round(1 / plan.held)} rows"
    groups = f"{plan.groups} networks, each of which holds out {share}" if plan.groups > 1 else "one network"
    return [
        f"{rows:,} rows: {groups}; parts: {', '.join(_part(part.settings) for part in plan.parts)}",
        "what was held out by a network tells when to stop, the weights of the parts and the temperature; "
        "figures on validation rows are of networks that have not seen them",
    ]


def _part(settings: dict[str, float]) -> str:
    if settings.get("linear"):
        return "softmax regression"
    if settings.get("gaussian"):
        return (
            "t distributions of the classes"
            if settings.get("degrees")
            else "normal distributions of the classes"
        )
    return (
        f"{settings['members']} members of {settings['width']} wide layers, dropout {settings['dropout']:.2g}"
    )
