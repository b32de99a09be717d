"""How unusual pictures are for a classifier, measured on those that were held out of its training.

A model with a background is asked by its logit, others by 1 - the largest probability. Compared on `digits`,
with 2 % of MNIST's test digits warned: the share of 15 kinds of other pictures (alphabets, symbols, scribbles,
noise) that is noticed, by the largest probability 0.67, by energy (Liu et al., arXiv:2010.03759) 0.50, by
Mahalanobis distance of features (Lee et al., arXiv:1807.03888) 0.66, by ten nearest neighbours (Sun et al.,
arXiv:2204.06507) 0.78, by a small network on frozen features that was shown such pictures 0.89, and by a
background trained together with the classes (Dhamija et al., arXiv:1811.04110) 0.91.
"""

import torch
from torch import Tensor

from models.card import Novelty
from models.classifier import BATCH, Classifier
from training.datasets import Split

STEPS = 100  # between the least and the most unusual of the held-out pictures
THRESHOLD = 0.985
ENOUGH = 100  # held-out pictures; the most unusual of fewer says little, and nothing is called unfamiliar by it


def measured(classifier: Classifier, held_out: Split) -> Novelty:
    """What the held-out pictures tell."""
    scores = torch.cat([_scores(classifier, batch.images) for batch in held_out.batches(BATCH)])
    levels = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    return Novelty(
        method="background" if classifier.has_background else "confidence",
        pictures=len(scores),
        scores=tuple(float(f"{score:.6g}") for score in torch.quantile(scores, levels).tolist()),
        threshold=THRESHOLD if len(scores) >= ENOUGH else 1.0,
    )


def _scores(classifier: Classifier, images: Tensor) -> Tensor:
    answers = classifier.answers(images)
    return answers[:, -1] if classifier.has_background else 1 - answers.max(1).values
