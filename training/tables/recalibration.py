"""The temperature of a finished table's model, fitted again on the rows that its networks have held out."""

from pathlib import Path

import torch

from models.card import Card
from models.classifier import Classifier
from models.files import write_atomically
from training.errors import TrainingError
from training.evaluation import evaluate
from training.tables.dataset import load_table, table_directory
from training.tables.ending import Judged, coded
from training.tables.network import unseen_by_all
from training.tables.run import held_by_card


def recalibrate_table(weights: Path, device: torch.device, datasets_dir: Path | None) -> Card:
    """Fit the temperature of a checkpoint again, evaluate it and rewrite its card; the weights file stays.

    Raises TrainingError where the card names no table, or not the one that it was trained on.
    """
    classifier = Classifier.load(weights, device)
    card = classifier.card
    directory = table_directory(card.dataset.name, datasets_dir) if card.dataset else None
    if card.dataset is None or directory is None:
        raise TrainingError(f"{weights}: its table is not there: say where data sets lie by --datasets-dir")
    dataset = load_table(directory, card.dataset.name)
    held = held_by_card(card, dataset)
    index = (held >= 0).nonzero()[:, 0]
    rows = coded(dataset, card, dataset.learned[index])
    judged = Judged(index, rows.labels, unseen_by_all(classifier.model, rows.images, held[index]))
    card = card.model_copy(update={"temperature": judged.temperature(card.arguments["groups"])})
    test = evaluate(Classifier(classifier.model, card, device), coded(dataset, card, dataset.test))
    card = card.model_copy(update={"metrics": {"test": test.metrics, "validation": judged.figures(card)}})
    write_atomically(weights.with_suffix(".json"), card.model_dump_json(indent=2).encode() + b"\n")
    return card
