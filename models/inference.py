"""The form of a model that serves: the same numbers in fewer steps.

On a CPU the normalisation is folded into the first layer, W x + b of (x - m) / s being
(W / s) x + (b - m / s sum W), and convolutions run as a frozen graph. What comes out is compared with the
classifier when it is made; one that differs by more than `TOLERANCE` is not used.
"""

import logging
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.architectures import serving_form
from models.classifier import BATCH, Classifier

log = logging.getLogger("minist.inference")

TOLERANCE = 1e-5  # of a probability
Forward = Callable[[Tensor], Tensor]  # uint8 [N, 1, H, W] to probabilities, float64 [N, classes], on the CPU


class InferenceModel:
    """The serving form of a classifier, or the classifier itself where no faster form agrees with it."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._forward: Forward = lambda images: classifier.probabilities(images).cpu()
        layers = [layer for layer in classifier.model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        foldable = classifier.device.type == "cpu" and _foldable(layers, classifier.card.mean)
        self._folded = _Folded(classifier) if foldable else None
        self._convolves = any(isinstance(layer, nn.Conv2d) for layer in layers)
        self._matches = self._folded is not None and self._use(_without_gradients(self._folded))

    def logits(self, images: Tensor) -> Tensor:
        """As `Classifier.logits`: float32 [N, classes]."""
        if not self._matches:
            return self._classifier.logits(images)
        assert self._folded is not None
        with torch.inference_mode():
            return torch.cat([self._folded.logits(batch) for batch in torch.split(images, BATCH)])

    def __call__(self, images: Tensor) -> Tensor:
        """Images, uint8 [N, 1, H, W], to probabilities, float64 [N, classes], both on the CPU."""
        return self._forward(images)

    def freeze(self) -> None:
        """Freeze the graph where that pays. Takes tens of milliseconds, once; predictions go on meanwhile."""
        if self._folded is None or not self._convolves:
            return
        self._convolves = False
        try:
            self._use(_without_gradients(_frozen(self._folded, self._classifier)))
        except Exception as error:  # whatever the graph compiler of this torch raises
            log.warning("%s is served without a frozen graph: %s", self._classifier.card.name, error)

    def _use(self, form: Forward) -> bool:
        agrees = _matches(form, self._classifier)
        if agrees:
            self._forward = form
        return agrees


def _foldable(layers: list[nn.Linear | nn.Conv2d], mean: float) -> bool:
    """Whether normalisation can be folded in: zero padding means the mean before folding, but not after."""
    return bool(layers) and (isinstance(layers[0], nn.Linear) or not any(layers[0].padding) or mean == 0)


class _Folded(nn.Module):
    """From pixels 0..255 to probabilities."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.model = serving_form(classifier.card.architecture, classifier.model)
        first = next(layer for layer in self.model.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
        self.temperature = classifier.card.temperature
        mean, std = classifier.card.mean, classifier.card.std
        weight = first.weight.detach().double()
        shift = weight.sum(dim=tuple(range(1, weight.ndim))) * mean / std
        bias = torch.zeros(len(weight)) if first.bias is None else first.bias.detach()
        with torch.no_grad():
            first.weight = nn.Parameter((weight / (255 * std)).float(), requires_grad=False)
            first.bias = nn.Parameter((bias.double() - shift).float(), requires_grad=False)

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.float())
        return logits

    def forward(self, images: Tensor) -> Tensor:
        return (self.logits(images).double() / self.temperature).softmax(dim=1)


def _frozen(model: nn.Module, classifier: Classifier) -> nn.Module:
    # No successor runs without a C++ compiler. The filter stays: taking it back (`catch_warnings`) would change
    # the filters of other threads as well.
    warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", FutureWarning)
    blank = torch.zeros(2, *classifier.card.input_shape, dtype=torch.uint8)
    traced = torch.jit.trace(model.eval(), blank, check_trace=False)  # type: ignore[no-untyped-call]
    frozen: nn.Module = torch.jit.freeze(traced)
    return frozen


def _without_gradients(model: nn.Module) -> Forward:
    def forward(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(images)

    return forward


def _matches(form: Forward, classifier: Classifier) -> bool:
    """On blank, full and random images, alone and in batches; running it also warms it up."""
    shape = classifier.card.input_shape
    random = torch.Generator().manual_seed(0)
    for images in (
        torch.zeros(1, *shape, dtype=torch.uint8),
        torch.full((2, *shape), 255, dtype=torch.uint8),
        torch.randint(0, 256, (8, *shape), dtype=torch.uint8, generator=random),
    ):
        if not torch.allclose(form(images), classifier.probabilities(images).cpu(), rtol=0, atol=TOLERANCE):
            log.warning(
                "%s is served in its plain form: the fast form gives other probabilities", classifier.card.name
            )
            return False
    return True
