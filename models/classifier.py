"""A model that is ready to predict. Evaluation and serving use this same object."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from models import checkpoint, occlusion
from models.background import Judging
from models.card import Card, Novelty
from models.errors import CheckpointError, ImageError
from models.graphs.module import Graph
from models.preprocessing.decode import open_image, png
from models.preprocessing.pictures import Pixels
from models.preprocessing.png import plain_pixels
from models.preprocessing.preprocess import InputInfo, PreprocessMode, needs_no_preprocessing, read
from models.structure import Layer, layers
from models.tables import TableInput
from models.tensors import normalise, stack

BATCH = 256  # images in one forward pass; larger batches do not fit the CPU's cache (measured)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A classifier's answer for one image; `probabilities` are in class order and sum to 1."""

    label: str
    index: int
    probability: float
    probabilities: tuple[float, ...]
    input: InputInfo | None = None  # how the picture was preprocessed; None where pixels were given
    novelty: float | None = None  # share of held-out pictures that are less unusual, 0..1; None: never measured


@dataclass(frozen=True, slots=True)
class Explanation:
    """PNG files: the model's input, how much each pixel counted, and in colour whether for or against."""

    seen: bytes
    saliency: bytes
    overlay: bytes


@dataclass(frozen=True)
class Classifier:
    """A model in evaluation mode, its card, and its device."""

    model: nn.Module
    card: Card
    device: torch.device

    @property
    def takes_rows(self) -> bool:
        """Whether it takes the rows of a table, float32 [N, width], instead of images."""
        return isinstance(self.card.input, TableInput)

    @property
    def is_graph(self) -> bool:
        """Whether a process of its own computes it (`models.graphs`)."""
        return isinstance(self.model, Graph)

    @property
    def has_background(self) -> bool:
        """Whether it has a logit for what is none of its classes."""
        return isinstance(self.model, Judging) and getattr(self.model, "background", None) is not None

    def with_novelty(self, novelty: Novelty) -> "Classifier":
        """The same with that on its card."""
        return replace(self, card=self.card.model_copy(update={"novelty": novelty}))

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "Classifier":
        """From a checkpoint with its card. Raises CheckpointError."""
        model, card = checkpoint.load(path, device)
        return cls(model, card, device)

    @classmethod
    def from_bare_weights(cls, path: Path, card: Card, device: torch.device) -> "Classifier":
        """From a weights file without a card: its layers decide the architecture, `card` the rest.

        Raises CheckpointError, also where inputs or classes are not those of the card.
        """
        model, architecture, arguments = checkpoint.load_bare(path)
        classes, shape = arguments["classes"], arguments.get("input_shape", card.input_shape)
        if classes != len(card.classes) or shape != card.input_shape:
            raise CheckpointError(
                f"{path}: takes images of {shape[1]}x{shape[2]} and has {classes} classes, "
                f"here {card.input_shape[1]}x{card.input_shape[2]} and {len(card.classes)} are needed"
            )
        card = card.model_copy(update={"architecture": architecture, "arguments": arguments})
        return cls(model.to(device).eval().requires_grad_(False), card, device)

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits, float32 [N, classes] on the classifier's device, of images, uint8 [N, C, H, W], or of the
        encoded rows of a table, float32 [N, width] (`models.tables`).
        """
        batches = [self.model(batch) for batch in self._batches(images)]
        return torch.cat(batches) if len(batches) != 1 else batches[0]

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities, float64 [N, classes] (rows sum to 1), of images or rows as `logits` takes them."""
        return self.softmax(self.logits(images))

    @torch.inference_mode()
    def answers(self, images: Tensor) -> Tensor:
        """As `probabilities`, on the CPU; of a model with a background its logit last: [N, classes + 1]."""
        if not self.has_background:
            return self.probabilities(images).cpu()
        assert isinstance(self.model, Judging)
        judged = torch.cat([self.model.judge(batch) for batch in self._batches(images)]).cpu()
        return torch.cat([self.softmax(judged[:, :-1]), judged[:, -1:].double()], 1)

    def softmax(self, logits: Tensor) -> Tensor:
        """The one place where logits become probabilities, at the card's temperature; [N, classes].

        On the CPU: not every device has float64.
        """
        return (logits.cpu().double() / self.card.temperature).softmax(dim=1)

    def predict(self, images: Tensor) -> list[Prediction]:
        """One Prediction for each image, uint8 [N, C, H, W], in order."""
        return [self._prediction(row) for row in self.answers(images).tolist()]

    def read(self, image: Image.Image, mode: PreprocessMode = "auto") -> tuple[Pixels, InputInfo | None]:
        """An opened image as pixels for this model, and what `auto` did to it. Raises an ImageError."""
        pixels, done = read(image, self.card.picture, mode)
        return pixels, done if mode == "auto" else None

    @cached_property
    def identity(self) -> InputInfo:
        """The input of an image that already looks like the training images."""
        _, height, width = self.card.picture.shape
        return InputInfo((width, height), False, (0, 0, width, height))

    def decode_plain_png(self, encoded: bytes, mode: PreprocessMode = "auto") -> bytes | None:
        """The pixels, one channel after the other, of a plain PNG that needs nothing done; None for others."""
        spec = self.card.picture
        pixels = plain_pixels(encoded, spec.shape)
        return pixels if pixels is None or mode == "none" or needs_no_preprocessing(pixels, spec) else None

    def classify(
        self, encoded: Sequence[bytes], mode: PreprocessMode = "auto"
    ) -> list[Prediction | ImageError]:
        """Encoded images (PNG, JPEG, ..) to one Prediction each, in order.

        An image that cannot be read has its ImageError instead.
        """
        answers: list[InputInfo | ImageError | None] = []
        pixels = []
        for data in encoded:
            try:
                read, done = self.read(open_image(data), mode)
                pixels.append(read)
                answers.append(done)
            except ImageError as error:
                answers.append(error.with_traceback(None))  # which would keep the picture
        predictions = iter(self.predict(stack(pixels)) if pixels else [])
        return [
            answer if isinstance(answer, ImageError) else replace(next(predictions), input=answer)
            for answer in answers
        ]

    def explain(self, pixels: Pixels, coarse: bool = False) -> Explanation:
        """What of a picture counted for the most probable class: see `models.occlusion`."""
        found = occlusion.effects(self.logits, pixels, coarse)
        strength, laid_over = occlusion.strength(found), occlusion.laid_over(pixels, found)
        return Explanation(png(pixels), png(strength), png(laid_over))

    def layers(self) -> list[Layer]:
        """Its layers with the shapes that they give, and their parameters."""
        return layers(self.model, self._normalise(self.blank(1)))

    def _batches(self, images: Tensor) -> Iterator[Tensor]:
        for start in range(0, max(len(images), 1), BATCH):
            yield self._normalise(images[start : start + BATCH])

    def _normalise(self, images: Tensor) -> Tensor:
        spec = self.card.input
        if isinstance(spec, TableInput):  # a network of a table has all of it inside
            return images.to(self.device)
        return normalise(images.to(self.device), spec.mean, spec.std)

    def blank(self, count: int) -> Tensor:
        """Some inputs, all of them 0."""
        spec = self.card.input
        if isinstance(spec, TableInput):
            return torch.zeros(count, spec.width)
        return torch.zeros(count, *spec.shape, dtype=torch.uint8)

    def _prediction(self, row: list[float]) -> Prediction:
        classes = self.card.classes
        probabilities = tuple(row[: len(classes)])
        index = max(range(len(classes)), key=row.__getitem__)
        measured = self.card.novelty
        novelty = None if measured is None else measured.of_answer(row, index)
        return Prediction(classes[index], index, row[index], probabilities, novelty=novelty)
