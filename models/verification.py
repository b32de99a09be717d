"""Whether a checkpoint answers: it is loaded and asked the way it is served."""

import math
from pathlib import Path

import torch

from models.classifier import Classifier
from models.errors import CheckpointError, ModelError
from models.inference import InferenceModel
from models.tables import TableInput

TOLERANCE = 1e-5  # of the sum of probabilities
FULL = 1e38  # about the largest number of a cell


def load_verified(weights: Path, device: torch.device) -> tuple[Classifier, InferenceModel]:
    """The classifier of a weights file and its serving form, after both have answered some images.

    Raises CheckpointError for whatever keeps them from that: files that are missing or damaged, a card of
    another release, weights that do not fit, answers that are not probabilities.
    """
    try:
        classifier = Classifier.load(weights, device)
        form = InferenceModel(classifier)
        _ask(weights, classifier, form)
    except CheckpointError:
        raise
    except ModelError as error:
        raise CheckpointError(f"{weights}: {error}") from error
    except Exception as error:  # whatever a card or weights that do not belong together make torch raise
        raise CheckpointError(f"{weights}: cannot be loaded ({type(error).__name__}: {error})") from error
    return classifier, form


def _ask(weights: Path, classifier: Classifier, form: InferenceModel) -> None:
    """Blank, full and random inputs."""
    card = classifier.card
    random = torch.Generator().manual_seed(0)
    if isinstance(card.input, TableInput):
        images = torch.randn(4, card.input.width, generator=random) * 100
        images[0], images[1] = math.nan, FULL
    else:
        images = torch.randint(0, 256, (4, *card.input_shape), dtype=torch.uint8, generator=random)
        images[0], images[1] = 0, 255
    if card.novelty is not None and (card.novelty.method == "background") != classifier.has_background:
        raise CheckpointError(f"{weights}: novelty by {card.novelty.method} does not go with its layers")
    classes = len(card.classes)
    for answers in (classifier.answers(images), form(images)):
        if answers.shape != (len(images), classes + classifier.has_background):
            figures = answers.shape[-1] - classifier.has_background
            raise CheckpointError(f"{weights}: it gives {figures} figures, its card names {classes} classes")
        sums = answers[:, :classes].sum(1)
        if not answers.isfinite().all() or ((sums - 1).abs() > TOLERANCE).any():
            raise CheckpointError(f"{weights}: its answers are no probabilities; it has probably diverged")
