"""Fine-tuning of a table's model: the weights that serve learn corrected rows, and are shown their rows again.

As `training.fine_tune` has it for pictures. Rows of the validation split are never shown: of each, the network
that held it out while the served version was trained says whether something was lost.
"""

from dataclasses import replace
from pathlib import Path
from time import process_time

import torch
from torch import Tensor

from models.card import Card
from models.classifier import Classifier
from training.datasets import Split
from training.errors import TrainingError
from training.events import Listener
from training.fine_tune import FineTuner
from training.protocols import RunState
from training.recipes import Config
from training.tables.corrections import CorrectedRows
from training.tables.dataset import TableDataset
from training.tables.ending import Judged, coded, finish
from training.tables.network import unseen_by_all
from training.tables.run import held_by_card


class RowTuner(FineTuner):
    """Watches rows that a network of the served version has not seen: `held` [N] is its number."""

    def __init__(
        self,
        config: Config,
        before: Classifier,
        train: Split,
        validation: tuple[Tensor, Split, Tensor],
        corrections: Split,
    ) -> None:
        """Splits as the version takes its rows; of the validation rows also places, and what is `held`."""
        places, rows, held = validation
        super().__init__(config, before, train, rows, corrections)
        self.places, self.held = places[: len(self.watched)], held[: len(self.watched)]

    def _changed(self, images: Tensor) -> Tensor:
        return images

    def _as_input(self, images: Tensor) -> Tensor:
        return images

    def _watched_logits(self, classifier: Classifier) -> Tensor:
        found = unseen_by_all(classifier.model, self.watched.images, self.held)
        return found.clamp(min=1e-12).log()


def fine_tune_table(
    run: RunState, dataset: TableDataset, weights: Path, served: Card, on_event: Listener
) -> Card:
    """From the weights that serve; columns, architecture and temperature stay. Raises TrainingError."""
    corrections = CorrectedRows.read(run.files.corrections, dataset)
    if corrections is None:
        raise TrainingError("there are no corrections to learn: correct some answers first (POST /feedback)")
    tuner = _tuner(run.config, Classifier.load(weights, torch.device("cpu")), dataset, corrections)
    cpu_begun = process_time()
    model, history = tuner.run(on_event)
    run.write_history(history)
    kept = {"recipe": run.config.recipe, "name": run.config.name, "lr": run.config.lr, "epochs": len(history)}
    card = served.model_copy(update={"name": run.config.name, "training": {**(served.training or {}), **kept}})
    classifier = Classifier(model, card, torch.device("cpu"))
    outcome = corrections.outcome(dataset, classifier)
    classifier = replace(classifier, card=card.model_copy(update={"corrections": outcome}))
    judged = Judged(tuner.places, tuner.watched.labels, unseen_by_all(model, tuner.watched.images, tuner.held))
    seconds = process_time() - cpu_begun
    return finish(run, classifier, dataset, judged, tuner.notes, seconds, on_event, served.baselines)


def _tuner(config: Config, before: Classifier, dataset: TableDataset, corrections: CorrectedRows) -> RowTuner:
    learned, count = coded(dataset, before.card, dataset.learned), len(dataset.train)
    held = held_by_card(before.card, dataset)
    places = (held >= 0).nonzero()[:, 0]
    if dataset.validation is not None:
        places = places[places >= count]
    return RowTuner(
        config,
        before,
        learned[torch.arange(count)],
        (places, learned[places], held[places]),
        coded(dataset, before.card, corrections.split),
    )
