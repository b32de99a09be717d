"""A model that is ready to be asked. Evaluation and serving use this same object."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models import checkpoint
from models.architectures import build, identify
from models.card import Card
from models.errors import ImageError
from models.images import decode, normalise
from models.png import grey_pixels

BATCH = 256  # images in one forward pass; larger ones fall out of the CPU's cache (measured)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a classifier says of one image; `probabilities` are in class order and sum to 1."""

    label: str
    index: int
    probability: float
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Classifier:
    """A model in evaluation mode, its card, and the device both work on."""

    model: nn.Module
    card: Card
    device: torch.device

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "Classifier":
        """From a checkpoint with its card. Raises CheckpointError."""
        model, card = checkpoint.load(path, device)
        return cls(model, card, device)

    @classmethod
    def from_bare_weights(cls, path: Path, card: Card, device: torch.device) -> "Classifier":
        """From a `.pth` without a card: the layers are told by the keys, the rest by `card`."""
        weights = checkpoint.read_weights(path)
        architecture, arguments = identify(weights)
        model = build(architecture, **arguments)
        model.load_state_dict(weights, strict=True)
        card = card.model_copy(update={"architecture": architecture, "arguments": arguments})
        return cls(model.to(device).eval().requires_grad_(False), card, device)

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Grey images, uint8 [N, 1, H, W], to logits, float32 [N, classes], on the classifier's device."""
        batches = [self.model(batch) for batch in self._batches(images)]
        return torch.cat(batches) if len(batches) != 1 else batches[0]

    def probabilities(self, images: Tensor) -> Tensor:
        """Grey images, uint8 [N, 1, H, W], to probabilities, float64 [N, classes] (rows sum to 1).

        The one place where logits become probabilities.
        """
        return self.logits(images).double().softmax(dim=1)

    def predict(self, images: Tensor) -> list[Prediction]:
        """Grey images, uint8 [N, 1, H, W], to one Prediction each, in order."""
        return [self._prediction(row) for row in self.probabilities(images).tolist()]

    def pixels(self, encoded: bytes) -> bytes:
        """The grey pixels, row by row, of an encoded image (PNG, JPEG, ..). Raises an ImageError."""
        size = self.card.input_shape[1:]
        quick = grey_pixels(encoded, size)
        return decode(encoded, size, self.card.ground).tobytes() if quick is None else quick

    def classify(self, encoded: Sequence[bytes]) -> list[Prediction | ImageError]:
        """Encoded images (PNG, JPEG, ..) to one Prediction each, in order.

        An image that cannot be read is answered by its ImageError, in its place.
        """
        answers: list[Prediction | ImageError | None] = []
        pixels = []
        for data in encoded:
            try:
                pixels.append(self.pixels(data))
                answers.append(None)
            except ImageError as error:
                answers.append(error)
        predictions = iter(self.predict(self._images(pixels)) if pixels else [])
        return [next(predictions) if answer is None else answer for answer in answers]

    def _images(self, pixels: Sequence[bytes]) -> Tensor:
        joined = torch.frombuffer(bytearray().join(pixels), dtype=torch.uint8)
        return joined.view(-1, *self.card.input_shape)

    def _batches(self, images: Tensor) -> Iterator[Tensor]:
        for start in range(0, max(len(images), 1), BATCH):
            batch = images[start : start + BATCH].to(self.device)
            yield normalise(batch, self.card.mean, self.card.std)

    def _prediction(self, row: list[float]) -> Prediction:
        index = max(range(len(row)), key=row.__getitem__)
        return Prediction(self.card.classes[index], index, row[index], tuple(row))
