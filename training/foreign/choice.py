"""Which reading of some weights answers best on pictures: structure, activation, normalisation of the input.

Tried on validation pictures, never on the test split, a few at a time: the numbers of pictures follow from what
the layers cost.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.classifier import BATCH
from models.errors import UnknownArchitecture
from models.layers import ActivationKind, costs
from models.tensors import normalise
from training.datasets import Split
from training.foreign.candidates import Candidate
from training.foreign.readings import PLACES

STRUCTURES = 12  # that are tried, at most
KEPT = 2  # of them, for the other choices
FINALISTS = 5
TRIED: tuple[ActivationKind, ...] = ("relu", "tanh", "sigmoid", "gelu")
DEVIATIONS = 2.5  # by which the loss of what is less usual has to be smaller
_TEMPERATURES = tuple(math.exp(x / 2) for x in range(-4, 7))
_USUAL_COST = 20_000_000  # multiplications of a picture where the structure tells none


@dataclass(frozen=True)
class Pixels:
    """How pixels are scaled: (x / 255 - mean) / std, of each channel."""

    said: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Trial:
    """How a reading answers: the loss of each picture (nats, at the best temperature), share right."""

    candidate: Candidate
    pixels: Pixels
    losses: Tensor
    accuracy: float

    @property
    def loss(self) -> float:
        return self.losses.mean().item()


@dataclass(frozen=True)
class Choice:
    """What is taken, and why."""

    candidate: Candidate
    pixels: Pixels
    notes: tuple[str, ...]


def usual_pixels(channels: int) -> list[Pixels]:
    """What tutorials do, most usual first."""
    if channels == 1:
        return [
            Pixels("pixels 0..1", (0.0,), (1.0,)),
            Pixels("MNIST's mean and std", (0.1307,), (0.3081,)),
            Pixels("pixels -1..1", (0.5,), (0.5,)),
            Pixels("Fashion-MNIST's mean and std", (0.2860,), (0.3530,)),
            Pixels("pixels 0..255", (0.0,), (1 / 255,)),
        ]
    return [
        Pixels("pixels 0..1", (0.0,) * 3, (1.0,) * 3),
        Pixels("pixels -1..1", (0.5,) * 3, (0.5,) * 3),
        Pixels("ImageNet's mean and std", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        Pixels("CIFAR's mean and std", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        Pixels("pixels 0..255", (0.0,) * 3, (1 / 255,) * 3),
    ]


def choose(
    candidates: Sequence[Candidate], pixels: Sequence[Pixels], pictures: Split, activation_said: bool
) -> Choice:
    """The candidate and scaling that answer best; what is more usual, where another is not clearly better.

    Raises UnknownArchitecture where none answers at all.
    """
    cost = _cost(candidates[0])
    structures = _structures(candidates[:STRUCTURES], pixels[:3], pictures, cost)
    variants = [v for structure in structures for v in _variants(structure, activation_said)]
    few = pictures[: _count(6e10, len(variants) * len(pixels) * cost, 64, 300)]
    trials = [_trial(variant, one, few) for one in pixels for variant in variants]
    finalists = sorted(trials, key=lambda trial: trial.loss)[:FINALISTS]
    many = pictures[: _count(4e10, FINALISTS * cost, 200, 1000)]
    usual = [trial for trial in trials if trial is trials[0] or any(trial is one for one in finalists)]
    chosen = _clearly_best([_trial(trial.candidate, trial.pixels, many) for trial in usual], trials[0])
    if not math.isfinite(chosen.loss):
        raise UnknownArchitecture("answers pictures with infinities or NaN, however its layers are read")
    notes = _notes(chosen, trials, min(STRUCTURES, len(candidates)), len(few), len(many))
    return Choice(chosen.candidate, chosen.pixels, tuple(notes))


def _structures(
    candidates: Sequence[Candidate], pixels: Sequence[Pixels], pictures: Split, cost: int
) -> list[Candidate]:
    """The most usual, and those that answer best."""
    if len(candidates) == 1:
        return list(candidates)
    few = pictures[: _count(4e10, len(candidates) * len(pixels) * cost, 64, 300)]
    losses = [min(_trial(candidate, one, few).loss for one in pixels) for candidate in candidates]
    best = sorted(range(len(candidates)), key=lambda index: losses[index])[:KEPT]
    return [candidates[index] for index in sorted({0, *best})]


def _variants(candidate: Candidate, activation_said: bool) -> list[Candidate]:
    """With other activations and other orders of normalisation and pooling, the most usual first."""
    reading = candidate.reading
    if reading is None:
        return [candidate]
    kinds = [reading.activation]
    if not activation_said and len(reading.row.mains) > 1:
        kinds += [kind for kind in TRIED if kind != reading.activation]
    places = [reading.place]
    if reading.has_norms:
        places += [place for place in PLACES if place != reading.place]
    return [
        Candidate.of(replace(reading, activation=kind, place=place), candidate.weights)
        for kind in kinds
        for place in places
    ]


def _clearly_best(trials: Sequence[Trial], usual: Trial) -> Trial:
    """The one with the fewest unusual choices, then the smallest loss, of those that are not clearly worse than
    the one of the smallest loss."""
    best = min(trials, key=lambda trial: trial.loss)
    order = sorted(trials, key=lambda trial: (_unusual(trial, usual), trial.loss))
    return next(trial for trial in order if trial is best or not _is_worse(trial, best))


def _unusual(trial: Trial, usual: Trial) -> int:
    """In how many choices it differs from the most usual."""
    mine, other = trial.candidate.reading, usual.candidate.reading
    differs = [trial.pixels is not usual.pixels]
    if mine is None or other is None:
        differs.append(mine is not other)
    else:
        parts = ((mine.activation, other.activation), (mine.place, other.place), (mine.spatial, other.spatial))
        differs += [one != another for one, another in parts]
    return sum(differs)


def _is_worse(trial: Trial, best: Trial) -> bool:
    more = trial.losses - best.losses
    deviation = more.std().item() / math.sqrt(len(more))
    return not more.mean().item() <= DEVIATIONS * deviation


@torch.inference_mode()
def _trial(candidate: Candidate, pixels: Pixels, pictures: Split) -> Trial:
    model = candidate.model()
    parts = [model(normalise(batch.images, pixels.mean, pixels.std)) for batch in pictures.batches(BATCH)]
    logits, labels = torch.cat(parts).double(), pictures.labels
    if not logits.isfinite().all():
        return Trial(candidate, pixels, torch.full((len(labels),), math.inf), 0.0)
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    losses = [F.cross_entropy(logits / t, labels, reduction="none") for t in _TEMPERATURES]
    return Trial(candidate, pixels, min(losses, key=lambda loss: loss.mean().item()), accuracy)


def _cost(candidate: Candidate) -> int:
    reading = candidate.reading
    if reading is None:
        return _USUAL_COST
    return max(100_000, costs(reading.layers(), reading.shape).multiplications)


def _count(budget: float, cost: int, least: int, most: int) -> int:
    return int(max(least, min(most, budget / cost)))


def _notes(chosen: Trial, trials: Sequence[Trial], structures: int, few: int, many: int) -> list[str]:
    """What was tried, each choice at its best with the others."""
    said = [f"the best of {structures} readings of the layers"] if structures > 1 else []
    kinds: dict[str, Callable[[Trial], str | None]] = {
        "activation": lambda trial: getattr(trial.candidate.reading, "activation", None),
        "order": lambda trial: getattr(trial.candidate.reading, "place", None),
        "input": lambda trial: trial.pixels.said,
    }
    for name, kind in kinds.items():
        best: dict[str, float] = {}
        for trial in trials:
            if (value := kind(trial)) is not None:
                best[value] = max(best.get(value, 0.0), trial.accuracy)
        if len(best) > 1:
            said.append(f"{name}: " + ", ".join(f"{value} {share:.3f}" for value, share in best.items()))
    if not said:
        return []
    return [
        f"tried on {few:,} and then {many:,} pictures (share right of the first): {'; '.join(said)}",
        f"taken: {chosen.pixels.said}, mean {chosen.pixels.mean[0]:g}, std {chosen.pixels.std[0]:g}; "
        f"{chosen.accuracy:.3f} right of {many:,} pictures",
    ]
