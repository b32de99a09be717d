"""The architecture `onnx`: a graph as bytes, asked as a module is."""

from math import prod
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from models.card import Shape
from models.errors import GraphFailed, UnknownArchitecture
from models.graphs.runner import Figures, Runner
from models.weights_file import MAX_BYTES

ONNX = "onnx"  # the architecture, and the only key of its state_dict
Layout = Literal["nchw", "nhwc", "flat"]
Gives = Literal["logits", "probabilities"]
MOST = 256  # pictures at once
SMALLEST = 1e-30  # probability whose logarithm is taken
LARGEST = 1e30  # logit


class Graph(nn.Module):
    """The bytes of an ONNX file [size] as a buffer; a process of its own computes them (`models.graphs`).

    `at_once` pictures are asked for together; the graph takes `fixed` of them in each run, or any number where
    that is 0. Without `classes`, the first answer tells how many there are. There are no gradients.
    """

    onnx: Tensor

    def __init__(
        self,
        size: int,
        input_shape: Shape,
        classes: int | None = None,
        layout: Layout = "nchw",
        gives: Gives = "logits",
        at_once: int = MOST,
        fixed: int = 0,
        parameters: int = 0,
    ) -> None:
        super().__init__()
        if (
            not 1 <= size <= MAX_BYTES
            or not 1 <= at_once <= MOST
            or not 0 <= fixed <= MOST
            or len(input_shape) != 3
        ):
            raise UnknownArchitecture("its card describes no ONNX graph")
        if layout not in get_args(Layout) or gives not in get_args(Gives):
            raise UnknownArchitecture(f"its ONNX graph has another layout ({layout}) or gives something else")
        self.register_buffer(ONNX, torch.zeros(size, dtype=torch.uint8))
        self.classes, self.layout, self.gives = classes, layout, gives
        self.at_once, self.fixed = at_once, fixed
        self.learned = parameters  # numbers
        self._runner: Runner | None = None

    @property
    def pid(self) -> int | None:
        """Of its process, where it has one."""
        return self._runner.pid if self._runner is not None else None

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 [N, classes]. Raises GraphFailed, or CheckpointError without onnxruntime."""
        parts = torch.split(self._laid_out(images.detach().float().cpu()), self.at_once)
        figures = torch.cat([torch.from_numpy(self._run(part.numpy())) for part in parts])
        if figures.isnan().any():
            raise GraphFailed("the ONNX model answers with NaN")
        if self.gives == "probabilities":
            figures = figures.clamp(min=SMALLEST).log()
        return figures.clamp(-LARGEST, LARGEST).to(images.device)

    def _laid_out(self, images: Tensor) -> Tensor:
        if self.layout == "nhwc":
            return images.permute(0, 2, 3, 1).contiguous()
        return images.flatten(1) if self.layout == "flat" else images.contiguous()

    def _run(self, values: Figures) -> Figures:
        if self._runner is None:
            self._runner = Runner(self.onnx.cpu().numpy())
        figures = self._runner.run(values, self.fixed)
        self.classes = self.classes or figures.shape[1]
        if figures.shape != (len(values), self.classes):
            sizes = "x".join(map(str, figures.shape))
            raise GraphFailed(
                f"the ONNX model gives {sizes} figures for {len(values)} pictures of {self.classes} classes"
            )
        return np.array(figures)


def at_once_for(shape: Shape, seconds: float) -> int:
    """Pictures of a run that stays far from the limits, where one takes so long."""
    return max(1, min(MOST, 2**22 // prod(shape), int(2 / max(seconds, 1e-6))))
