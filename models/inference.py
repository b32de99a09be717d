"""The form of a model that serves: the same numbers in fewer steps.

On a CPU the normalisation is folded into the first layer where that does not pad, W x + b of (x - m) / s being
(W / s) x + (b - m / s sum W), and all of it runs as a frozen graph. What comes out
is compared with the classifier when it is made; one that differs by more than `TOLERANCE` is not used.
"""

import logging
import time
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from models.architectures import ARCHITECTURES, serving_form
from models.background import Judging
from models.classifier import BATCH, Classifier
from models.tensors import trial_inputs

log = logging.getLogger("minist.inference")

TOLERANCE = 1e-5  # of a probability
MAX_COPIED = 4 << 20  # bytes of a matrix of which the serving form keeps its own, laid out otherwise
RELATIVE = 1e-5  # of the logit of a background
# uint8 [N, C, H, W], or of a table float32 [N, width], to probabilities, float64 [N, classes], on the CPU; of a
# model with a background its logit last, [N, classes + 1]
Forward = Callable[[Tensor], Tensor]


class InferenceModel:
    """The serving form of a classifier, or the classifier itself where no faster form agrees with it."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._forward: Forward = classifier.answers
        layers = [layer for layer in classifier.model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        self._folded = self._form(classifier, layers)
        self._freezes = self._folded is not None
        self._matches = self._folded is not None and self._use(_without_gradients(self._folded))

    @staticmethod
    def _form(classifier: Classifier, layers: list[nn.Linear | nn.Conv2d]) -> "_Form | _RowForm | None":
        if classifier.device.type != "cpu":
            return None
        if classifier.takes_rows:
            return _RowForm(classifier)
        if not layers:
            return None
        architecture = ARCHITECTURES.get(classifier.card.architecture)
        pads = architecture is not None and architecture.pads
        if not pads and _foldable(layers, classifier.card.picture.mean):
            return _Folded(classifier)
        return _Form(classifier) if any(isinstance(layer, nn.Conv2d) for layer in layers) else None

    def logits(self, images: Tensor) -> Tensor:
        """As `Classifier.logits`: float32 [N, classes]."""
        if not self._matches:
            return self._classifier.logits(images)
        assert self._folded is not None
        with torch.inference_mode():
            return torch.cat([self._folded.logits(batch) for batch in torch.split(images, BATCH)])

    def __call__(self, images: Tensor) -> Tensor:
        """As `Classifier.answers`: images, uint8 [N, C, H, W], to float64 [N, classes], both on the CPU."""
        return self._forward(images)

    def seconds(self) -> float:
        """CPU seconds of this thread for one image, seconds of a graph's process; the best of three."""
        blank = self._classifier.blank(1)
        clock = time.perf_counter if self._classifier.is_graph else time.thread_time

        def once() -> float:
            begun = clock()
            self(blank)
            return clock() - begun

        return min(once() for _ in range(3))

    def freeze(self) -> None:
        """Freeze the graph where that pays. Takes tens of milliseconds, once; predictions go on meanwhile."""
        if self._folded is None or not self._freezes:
            return
        self._freezes = False
        try:
            blank = self._classifier.blank(2)
            self._use(_without_gradients(frozen(self._folded, blank)))
        except Exception as error:  # whatever the graph compiler of this torch raises
            log.warning("%s is served without a frozen graph: %s", self._classifier.card.name, error)

    def _use(self, form: Forward) -> bool:
        agrees = _matches(form, self._classifier)
        if agrees:
            self._forward = form
        return agrees


def _foldable(layers: list[nn.Linear | nn.Conv2d], mean: Sequence[float]) -> bool:
    """Whether normalisation can be folded in: zero padding means the mean before folding, but not after."""
    return isinstance(layers[0], nn.Linear) or not any(layers[0].padding) or not any(mean)


class _Form(nn.Module):
    """From pixels 0..255 to probabilities."""

    scale: Tensor
    shift: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.model = serving_form(classifier.card.architecture, classifier.model)
        for layer in self.model.modules():
            if isinstance(layer, nn.Linear):
                layer.weight = nn.Parameter(_by_column(layer.weight.detach()), requires_grad=False)
        self.temperature = classifier.card.temperature
        self.judges = classifier.has_background
        mean, std = (torch.tensor(part) for part in (classifier.card.picture.mean, classifier.card.picture.std))
        self.register_buffer("scale", (1 / (255 * std)).view(-1, 1, 1))
        self.register_buffer("shift", (-mean / std).view(-1, 1, 1))

    def normalise(self, images: Tensor) -> Tensor:
        return images.float() * self.scale + self.shift

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(self.normalise(images))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        if not self.judges:
            return (self.logits(images).double() / self.temperature).softmax(dim=1)
        assert isinstance(self.model, Judging)
        judged = self.model.judge(self.normalise(images)).double()
        return torch.cat([(judged[:, :-1] / self.temperature).softmax(dim=1), judged[:, -1:]], 1)


class _RowForm(nn.Module):
    """From the rows of a table to probabilities."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.model = classifier.model
        self.temperature = classifier.card.temperature

    def logits(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.model(rows)
        return logits

    def forward(self, rows: Tensor) -> Tensor:
        return (self.logits(rows).double() / self.temperature).softmax(dim=1)


class _Folded(_Form):
    """With the normalisation in the first layer."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier)
        first = next(layer for layer in self.model.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
        mean, std = (
            torch.tensor(part).double() for part in (classifier.card.picture.mean, classifier.card.picture.std)
        )
        whole = first.weight.detach().double()
        weight = whole.view(
            len(whole), len(std), -1
        )  # by channel; of a linear layer, its inputs are in that order
        shift = (weight.sum(2) * (mean / std)).sum(1)
        bias = torch.zeros(len(weight)) if first.bias is None else first.bias.detach()
        with torch.no_grad():
            scaled = (weight / (255 * std[:, None])).view_as(whole).float()
            first.weight = nn.Parameter(_laid_out(scaled, first.weight), requires_grad=False)
            first.bias = nn.Parameter((bias.double() - shift).float(), requires_grad=False)

    def normalise(self, images: Tensor) -> Tensor:
        return images.float()


def _laid_out(values: Tensor, like: Tensor) -> Tensor:
    """Contiguous values in the memory format of another tensor."""
    if like.ndim == 2:
        return _by_column(values)
    last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    return values.contiguous(memory_format=torch.channels_last) if last else values.contiguous()


def _by_column(weight: Tensor) -> Tensor:
    """A matrix [outputs, inputs] that lies in memory as its transpose, by which a batch is multiplied in three
    quarters of the time, and a single image in the same."""
    return weight.T.contiguous().T if weight.nbytes <= MAX_COPIED else weight


def frozen(model: nn.Module, example: Tensor) -> nn.Module:
    """A model in evaluation mode as a graph with its weights in it, for batches of any size."""
    # No successor runs without a C++ compiler. The filter stays: taking it back (`catch_warnings`) would change
    # the filters of other threads as well.
    warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]  # of sizes that do not change
    traced = torch.jit.trace(model.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
    graph: nn.Module = torch.jit.freeze(traced)
    return graph


def _without_gradients(model: nn.Module) -> Forward:
    def forward(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(images)

    return forward


def _matches(form: Forward, classifier: Classifier) -> bool:
    """On blank, full and random images, alone and in batches; running it also warms it up."""
    trials = trial_inputs(classifier.card)
    for images in (trials[:1], trials[1:3], trials[3:]):
        if not torch.allclose(form(images), classifier.answers(images), rtol=RELATIVE, atol=TOLERANCE):
            log.warning(
                "%s is served in its plain form: the fast form gives other probabilities", classifier.card.name
            )
            return False
    return True
