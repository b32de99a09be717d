"""How unusual pictures are for a classifier, measured on those that were held out of its training.

A model with a background is asked by its logit, others by 1 - the largest probability. Compared on `digits`,
with 2 % of MNIST's test digits warned: the share of 15 kinds of other pictures (alphabets, symbols, scribbles,
noise) that is noticed, by the largest probability 0.67, by energy (Liu et al., arXiv:2010.03759) 0.50, by
Mahalanobis distance of features (Lee et al., arXiv:1807.03888) 0.66, by ten nearest neighbours (Sun et al.,
arXiv:2204.06507) 0.78, by a small network on frozen features that was shown such pictures 0.89, and by a
background trained together with the classes (Dhamija et al., arXiv:1811.04110) 0.91. Learning on alone after
that, with the classes as they are, from two convolutions instead of one: of ten scripts 0.94 instead of 0.92,
and half as many digits of 8x8 and 16x16 pixels warned (2.3 instead of 5.2 %).

Networks that are trained on anything have no such pictures, and are told nothing of them. Compared on five
small-image models (Fashion-MNIST, MNIST, notMNIST letters, breast scans, photographs of hands), with 1.5 % of
validation pictures warned and 2 % of test pictures: the share noticed of 16 other kinds (other data sets,
noise, blank, drawings, letters, photographs, inverted), by the largest probability 0.36, by energy 0.47, by
three nearest neighbours of 300 training pictures 0.56, by the Mahalanobis distance of what all stages saw
0.88, with the largest logit 0.92. A quarter of the training pictures are seen in other light as well, which
costs 2 points: without them half of the hands in a third less light are called unfamiliar, with them a fifth.
For EfficientNet (600 photographs or fewer) neighbours notice 0.94, the distance all.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from models.background import Seeing, Shown
from models.card import Card, Input, Novelty
from models.classifier import BATCH, Classifier
from models.tensors import normalise
from training.augment import PRESETS, augment_pictures
from training.datasets import Split
from training.optimizers import optimizer_for, rate_factor
from training.recipes import Config

STEPS = 100  # between the least and the most unusual of the held-out pictures
FAMILIAR = 0.985  # share of the pictures to come, of those that a model was trained for, that are not warned
ENOUGH = 100  # held-out pictures; the most unusual of fewer says little, and nothing is called unfamiliar by it
REMEMBERED = 5_000  # training pictures at most that a distance is taken from
CHANGED = 4  # of so many, one is seen changed as well: other light should not be unfamiliar


@torch.inference_mode()
def remember(model: nn.Module, spec: Input, train: Split, seed: int, count: int = REMEMBERED) -> None:
    """Let a network that knows pictures by their distance see those of training, once it has learned them."""
    if not isinstance(model, Seeing) or model.background is None:
        return
    model.eval()
    device = model.background.shift.device
    draws = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(train), generator=draws)[:count]
    seen, labels = [], []
    for part in torch.split(rows, BATCH):
        batch = train[part]
        few = batch[::CHANGED]
        for images, of in (
            (batch.images, batch.labels),
            (augment_pictures(few.images.float(), draws, hide=0), few.labels),
        ):
            seen.append(model.seen(normalise(images.to(device), spec.mean, spec.std)))
            labels.append(of)
    features, logits = (torch.cat(parts) for parts in zip(*seen, strict=True))
    model.background.fit(features, logits, torch.cat(labels))


def learn_background(model: nn.Module, card: Card, train: Split, config: Config) -> None:
    """Let a background that was shown other pictures learn on, alone: `train` has them with a label beyond the
    classes.

    What it sees changes to the last step, by the average of weights and by a teacher's share. Answers stay.
    """
    assert isinstance(model, Shown)
    assert model.background is not None
    model.eval()
    spec, device = card.picture, train.images.device
    model.background.requires_grad_(True)
    optimizer = optimizer_for(config, model.background, device)
    batch_size = config.batch_size or BATCH
    steps = config.background_epochs * math.ceil(len(train) / batch_size)
    scheduler = LambdaLR(optimizer, rate_factor(config.schedule, steps))
    augment = PRESETS[config.augment]
    draws = torch.Generator().manual_seed(config.seed + 1)
    for _ in range(config.background_epochs):
        for index in torch.split(torch.randperm(len(train), generator=draws).to(device), batch_size):
            images = train.images[index].float()
            images = images if augment is None else augment(images, draws)
            with torch.no_grad():
                evidence = model.evidence(normalise(images, spec.mean, spec.std))
            unfamiliar = (train.labels[index] == len(card.classes)).float()
            loss = F.binary_cross_entropy_with_logits(model.background(evidence)[:, 0], unfamiliar)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            scheduler.step()
    model.background.requires_grad_(False)


def measured(classifier: Classifier, held_out: Split) -> Novelty:
    """What the held-out pictures tell."""
    scores = torch.cat([_scores(classifier, batch.images) for batch in held_out.batches(BATCH)])
    return of_scores(scores, "background" if classifier.has_background else "confidence")


def of_scores(scores: Tensor, method: Literal["background", "confidence"]) -> Novelty:
    """What the scores [N] of held-out pictures tell."""
    levels = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    return Novelty(
        method=method,
        pictures=len(scores),
        scores=tuple(float(f"{score:.6g}") for score in torch.quantile(scores, levels).tolist()),
        threshold=_threshold(len(scores)),
    )


def _threshold(pictures: int) -> float:
    """Above it lies, on average, what `FAMILIAR` leaves of pictures to come.

    Above the same quantile of a hundred held-out pictures lies half as much again: the k-th of n splits those
    to come at k of n + 1 (David and Nagaraja, "Order Statistics", 2003).
    """
    return round((FAMILIAR * (pictures + 1) - 1) / (pictures - 1), 4) if pictures >= ENOUGH else 1.0


def _scores(classifier: Classifier, images: Tensor) -> Tensor:
    answers = classifier.answers(images)
    return answers[:, -1] if classifier.has_background else 1 - answers.max(1).values
