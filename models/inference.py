"""The form of a model that serves: the same numbers, fewer steps.

On a CPU the normalisation is folded into the first layer, W x + b of (x - m) / s being
(W / s) x + (b - m / s sum W), and convolutions run as a frozen graph. What comes out is compared with the
classifier when it is made; one that differs by more than `TOLERANCE` is not used.
"""

import logging
import warnings
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from models.classifier import Classifier

log = logging.getLogger("minist.inference")

TOLERANCE = 1e-5  # of a probability
Forward = Callable[[Tensor], Tensor]  # uint8 [N, 1, H, W] to probabilities, float64 [N, classes], on the CPU


def serving_form(classifier: Classifier) -> Forward:
    """What answers for `classifier`: quicker where that is possible, else the classifier itself."""
    try:
        form = _quick_form(classifier)
    except Exception as error:  # whatever the graph compiler of this torch raises
        log.warning("%s is served as it is: %s", classifier.card.name, error)
        form = None
    if form is None or not _agrees(form, classifier):
        return lambda images: classifier.probabilities(images).cpu()
    return form


def _quick_form(classifier: Classifier) -> Forward | None:
    layers = [layer for layer in classifier.model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    if classifier.device.type != "cpu" or not layers or not _foldable(layers[0]):
        return None
    model = _Folded(classifier)
    if any(isinstance(layer, nn.Conv2d) for layer in layers):
        return _without_gradients(_frozen(model, classifier))
    return _without_gradients(model)


def _foldable(first: nn.Module) -> bool:
    """Zero padding stands for the mean before folding, but not after."""
    return isinstance(first, nn.Linear) or (isinstance(first, nn.Conv2d) and not any(first.padding))


class _Folded(nn.Module):
    """Takes pixels 0..255, gives probabilities."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.model = deepcopy(classifier.model).eval()
        first = next(layer for layer in self.model.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
        mean, std = classifier.card.mean, classifier.card.std
        weight = first.weight.detach().double()
        shift = weight.sum(dim=tuple(range(1, weight.ndim))) * mean / std
        bias = torch.zeros(len(weight)) if first.bias is None else first.bias.detach()
        with torch.no_grad():
            first.weight.copy_(weight / (255 * std))
            first.bias = nn.Parameter((bias.double() - shift).float(), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.float()).double().softmax(dim=1)


def _frozen(model: nn.Module, classifier: Classifier) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # no successor runs without a C++ compiler
        blank = torch.zeros(2, *classifier.card.input_shape, dtype=torch.uint8)
        traced = torch.jit.trace(model.eval(), blank, check_trace=False)  # type: ignore[no-untyped-call]
        frozen: nn.Module = torch.jit.freeze(traced)
    return frozen


def _without_gradients(model: nn.Module) -> Forward:
    def forward(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(images)

    return forward


def _agrees(form: Forward, classifier: Classifier) -> bool:
    """On blank, full and random images, alone and in batches; running it also warms it up."""
    shape = classifier.card.input_shape
    random = torch.Generator().manual_seed(0)
    for images in (
        torch.zeros(1, *shape, dtype=torch.uint8),
        torch.full((2, *shape), 255, dtype=torch.uint8),
        torch.randint(0, 256, (64, *shape), dtype=torch.uint8, generator=random),
    ):
        if not torch.allclose(form(images), classifier.probabilities(images).cpu(), rtol=0, atol=TOLERANCE):
            log.warning("%s is served as it is: the quick form differs", classifier.card.name)
            return False
    return True
