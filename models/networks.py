"""The layers of the published tutorials, under the state_dict keys of people's own files.

Every `forward` takes float images [N, C, H, W] (or rows [N, features]) and returns logits
[N, classes]. Softmax is not applied here: that happens once, in `models.classifier`.
"""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.background import Distance
from models.card import Shape

MNIST_SHAPE: Shape = (1, 28, 28)


def _gaussian(*shape: int) -> nn.Parameter:
    """N(0, 0.01). Not on the "meta" device, where files are checked: random numbers, and most arithmetic,
    import torch's compiler there, which takes seconds and 100 MB."""
    weight = torch.empty(shape)
    return nn.Parameter(weight if weight.is_meta else weight.normal_(std=0.01))


class Softmax(nn.Module):
    """Softmax regression: one linear layer (keys `linear.*`), started at N(0, 0.01) and zero.

    Source: "Softmax regression, concise" of Dive into Deep Learning (d2l.ai), chapter 4.
    """

    def __init__(self, classes: int = 10, input_shape: Shape = MNIST_SHAPE) -> None:
        super().__init__()
        self.linear = nn.Linear(prod(input_shape), classes)
        self.linear.weight = _gaussian(*self.linear.weight.shape)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits


class SoftmaxScratch(nn.Module):
    """Softmax regression on bare tensors (keys `W` [features, classes], `b`), started at N(0, 0.01) and zero.

    Source: "Softmax regression from scratch" of Dive into Deep Learning (d2l.ai), chapter 4. Its
    training by hand is in `training.scratch`.
    """

    def __init__(self, classes: int = 10, input_shape: Shape = MNIST_SHAPE) -> None:
        super().__init__()
        self.W = _gaussian(prod(input_shape), classes)
        self.b = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.W + self.b


class MLPScratch(nn.Module):
    """784-256-10 with ReLU on bare tensors (keys `W1`, `b1`, `W2`, `b2`), started at N(0, 0.01) and zero.

    Source: "Multilayer perceptrons from scratch" of Dive into Deep Learning (d2l.ai), chapter 5.
    """

    def __init__(self, classes: int = 10, input_shape: Shape = MNIST_SHAPE) -> None:
        super().__init__()
        self.W1 = _gaussian(prod(input_shape), 256)
        self.b1 = nn.Parameter(torch.zeros(256))
        self.W2 = _gaussian(256, classes)
        self.b2 = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(x.flatten(1) @ self.W1 + self.b1)
        return hidden @ self.W2 + self.b2


class SoftmaxMNIST(nn.Module):
    """Softmax regression of the MNIST tutorial (keys `fc1.*`), without its softmax in `forward`."""

    def __init__(self, classes: int = 10, input_shape: Shape = MNIST_SHAPE) -> None:
        super().__init__()
        self.fc1 = nn.Linear(prod(input_shape), classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc1(x.flatten(1))
        return logits


class MLP(nn.Module):
    """Five linear layers, 784-512-256-128-64-10 with ReLU (keys `linear1..linear5`): `minist.pth`."""

    def __init__(self, classes: int = 10, input_shape: Shape = MNIST_SHAPE) -> None:
        super().__init__()
        self.linear1 = nn.Linear(prod(input_shape), 512)
        self.linear2 = nn.Linear(512, 256)
        self.linear3 = nn.Linear(256, 128)
        self.linear4 = nn.Linear(128, 64)
        self.linear5 = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.linear1(x.flatten(1)))
        x = F.relu(self.linear2(x))
        x = F.relu(self.linear3(x))
        x = F.relu(self.linear4(x))
        logits: Tensor = self.linear5(x)
        return logits


class SmallMLP(nn.Module):
    """Two linear layers, 784-256-10 with ReLU (keys `linear1`, `linear2`).

    Source: "Multilayer perceptrons, concise" of Dive into Deep Learning (d2l.ai), chapter 5.
    """

    def __init__(self, classes: int = 10, input_shape: Shape = MNIST_SHAPE) -> None:
        super().__init__()
        self.linear1 = nn.Linear(prod(input_shape), 256)
        self.linear2 = nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear2(F.relu(self.linear1(x.flatten(1))))
        return logits


class SequentialMLP(nn.Module):
    """The layers of `MLP` in one `nn.Sequential` (keys `fc_layers.0,2,4,6,8`)."""

    def __init__(self, classes: int = 10, input_shape: Shape = MNIST_SHAPE) -> None:
        super().__init__()
        widths = [prod(input_shape), 512, 256, 128, 64]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.fc_layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc_layers(x.flatten(1))
        return logits


class CNN(nn.Module):
    """Two 5x5 convolutions, each with max-pooling and ReLU, and one linear layer (8,490 parameters).

    For 28x28 images of one channel. Stored channels-last: the same numbers under the same keys,
    and pooling runs on vectors (measured: half the CPU time of a forward pass).
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.fc = nn.Linear(320, classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # [N, 10, 12, 12]
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # [N, 20, 4, 4]
        logits: Tensor = self.fc(x.flatten(1))
        return logits


class FusedCNN(nn.Module):
    """The layers of a `CNN`, with pooling inside the first convolution: the same logits, a slower gradient."""

    def __init__(self, cnn: CNN) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = cnn.conv1, cnn.conv2, cnn.fc

    def forward(self, x: Tensor) -> Tensor:
        assert self.conv1.bias is not None
        x = F.relu(convolve_and_pool(x, self.conv1.weight, self.conv1.bias))  # [N, 10, 12, 12]
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # [N, 20, 4, 4]
        logits: Tensor = self.fc(x.flatten(1))
        return logits


def convolve_and_pool(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`max_pool2d(conv2d(x, weight, bias), 2)` for odd kernels; faster where they take few channels.

    One convolution of stride 2 computes the four values to be pooled as channels of their own, so that nothing
    of full size is written and read again. With squares of four pixels as channels its stride is 1.
    """
    shifted = [F.pad(weight, (right, 1 - right, down, 1 - down)) for down in (0, 1) for right in (0, 1)]
    kernels = F.pixel_unshuffle(torch.cat(shifted), 2).contiguous(memory_format=torch.channels_last)
    squares = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
    y = F.conv2d(squares, kernels, bias.repeat(4))
    half, quarter = 2 * len(bias), len(bias)
    y = torch.maximum(y[:, :half], y[:, half:])
    return torch.maximum(y[:, :quarter], y[:, quarter:])


class Digits(nn.Module):
    """Four convolutions with batch normalisation and two linear layers (147,546 parameters).

    For 28x28 images of one channel. The first convolution needs no padding, since digits keep a margin
    of four pixels; normalising after pooling costs a quarter of normalising before. With a `background` it
    also has a logit for pictures of what is none of the classes, from what its last, or its last two,
    convolutions say (0, 1 or 2). Raises TypeError for another number.
    """

    FEATURES = 576  # numbers that one of them gives, pooled to 3x3

    def __init__(self, classes: int = 10, background: int = 0) -> None:
        super().__init__()
        if background not in (0, 1, 2):
            raise TypeError(f"no background sees {background!r} convolutions")
        self.conv1 = nn.Conv2d(1, 16, kernel_size=5)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 48, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(48)
        self.conv3 = nn.Conv2d(48, 64, kernel_size=3, padding=1)
        self.norm3 = nn.BatchNorm2d(64)
        self.conv4 = nn.Conv2d(64, 64, kernel_size=3, padding=1)
        self.norm4 = nn.BatchNorm2d(64)
        self.fc1 = nn.Linear(self.FEATURES, 128)
        self.fc2 = nn.Linear(128, classes)
        self.stages = background
        self.background = (
            nn.Sequential(nn.Linear(self.FEATURES * background, 64), nn.ReLU(), nn.Linear(64, 1))
            if background
            else None
        )
        self.to(memory_format=torch.channels_last)

    def third(self, x: Tensor) -> Tensor:
        """What comes out of the third convolution, [N, 64, 6, 6]."""
        x = F.relu(self.norm1(F.max_pool2d(self.conv1(x), 2)))  # [N, 16, 12, 12]
        x = F.relu(self.norm2(F.max_pool2d(self.conv2(x), 2)))  # [N, 48, 6, 6]
        return F.relu(self.norm3(self.conv3(x)))

    def fourth(self, x: Tensor) -> Tensor:
        """What the fourth makes of it, [N, 576]."""
        x = F.relu(self.norm4(F.max_pool2d(self.conv4(x), 2)))  # [N, 64, 3, 3]
        return x.flatten(1)

    def _logits(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.fc2(F.relu(self.fc1(F.dropout(maps, 0.3, self.training))))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self._logits(self.fourth(self.third(x)))

    def judge(self, x: Tensor) -> Tensor:
        """Logits and, last, that of the background: [N, classes + 1]."""
        assert self.background is not None
        third = self.third(x)
        fourth = self.fourth(third)
        return torch.cat([self._logits(fourth), self.background(self._evidence(third, fourth))], 1)

    def evidence(self, x: Tensor) -> Tensor:
        """What the background judges by, [N, 576] of each convolution."""
        third = self.third(x)
        return self._evidence(third, self.fourth(third))

    def _evidence(self, third: Tensor, fourth: Tensor) -> Tensor:
        return fourth if self.stages == 1 else torch.cat([fourth, F.max_pool2d(third, 2).flatten(1)], 1)


class FusedDigits(Digits):
    """The layers of `Digits`, with normalisation and the first pooling inside the convolutions: the same logits
    in half the time, once the graph is frozen."""

    def __init__(self, digits: Digits) -> None:
        nn.Module.__init__(self)  # with no layers of its own
        self.conv1, self.norm1 = digits.conv1, digits.norm1
        self.conv2, self.norm2 = digits.conv2, digits.norm2
        self.conv3, self.norm3 = digits.conv3, digits.norm3
        self.conv4, self.norm4 = digits.conv4, digits.norm4
        self.fc1, self.fc2 = digits.fc1, digits.fc2
        self.stages, self.background = digits.stages, digits.background

    @classmethod
    def of(cls, digits: Digits) -> nn.Module:
        """Or the layers as they are, where a negative factor of normalisation has to come after the maximum."""
        pooled = (digits.norm1, digits.norm2, digits.norm4)
        return digits if any(bool((norm.weight < 0).any()) for norm in pooled) else cls(digits)

    def third(self, x: Tensor) -> Tensor:
        x = F.relu(convolve_and_pool(x, *_with_norm(self.conv1, self.norm1)))
        x = F.relu(F.max_pool2d(F.conv2d(x, *_with_norm(self.conv2, self.norm2), padding=1), 2))
        return F.relu(F.conv2d(x, *_with_norm(self.conv3, self.norm3), padding=1))

    def fourth(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(F.conv2d(x, *_with_norm(self.conv4, self.norm4), padding=1), 2))
        return x.flatten(1)


def _with_norm(layer: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution that does both, in evaluation mode; constants of a frozen graph."""
    assert layer.bias is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return layer.weight * factor.view(-1, 1, 1, 1), (layer.bias - norm.running_mean) * factor + norm.bias


class Staged(nn.Module):
    """A network of stages of convolutions. With a `background` what they see tells unfamiliar pictures."""

    background: Distance | None

    def stages(self, x: Tensor) -> list[Tensor]:
        """What comes out of each stage after the first layer, [N, C, H, W]."""
        raise NotImplementedError

    def classes(self, maps: Tensor) -> Tensor:
        """Logits of what comes out of the last stage."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.stages(x)[-1])

    def seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of each channel of each stage, [N, F], and logits."""
        stages = self.stages(x)
        return torch.cat([maps.sum((2, 3)) for maps in stages], 1), self.classes(stages[-1])

    def judge(self, x: Tensor) -> Tensor:
        """Logits and, last, how far the picture is from those of training: [N, classes + 1]."""
        assert self.background is not None
        features, logits = self.seen(x)
        return torch.cat([logits, self.background(features, logits)], 1)


class Garments(Staged):
    """Ten convolutions with batch normalisation, in part residual, and one linear layer (1,350,122 parameters).

    For 28x28 images of one channel. Every stage halves the sides by pooling before it normalises; the
    residual blocks are those of He et al. (arXiv:1512.03385), without a last ReLU.
    """

    def __init__(self, classes: int = 10, background: bool = False) -> None:
        super().__init__()
        self.stem = _convolution(1, 32)
        self.stage1 = nn.Sequential(_convolution(32, 64, pool=True), _Residual(64))
        self.stage2 = nn.Sequential(_convolution(64, 128, pool=True), _Residual(128))
        self.stage3 = nn.Sequential(_convolution(128, 192), _Residual(192))
        self.fc = nn.Linear(192, classes)
        self.background = Distance(64 + 128 + 192, classes) if background else None
        self.to(memory_format=torch.channels_last)

    def stages(self, x: Tensor) -> list[Tensor]:
        first = self.stage1(self.stem(x))  # [N, 64, 14, 14]
        second = self.stage2(first)
        return [first, second, self.stage3(second)]  # the last [N, 192, 7, 7]

    def classes(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.fc(maps.amax((2, 3)))
        return logits


class SmallImage(Staged):
    """Three stages of convolutions, each with a residual block, for pictures of 24 to 96 pixels.

    About 340,000 parameters for a width of 16. From 40 pixels on, the first convolution takes 4x4 pixels in
    steps of two, so that sizes differ less in cost. What is left of the picture is pooled by its maximum and
    its mean, so that any height and width will do.
    """

    def __init__(
        self,
        classes: int = 10,
        input_shape: Shape = MNIST_SHAPE,
        width: int = 16,
        background: bool = False,
    ) -> None:
        super().__init__()
        channels, height, across = input_shape
        if max(height, across) >= 40:
            first = nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1, bias=False)
        else:
            first = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU())
        self.stage1 = nn.Sequential(_convolution(width, 2 * width, pool=True), _Residual(2 * width))
        self.stage2 = nn.Sequential(_convolution(2 * width, 4 * width, pool=True), _Residual(4 * width))
        self.stage3 = nn.Sequential(_convolution(4 * width, 6 * width, pool=True), _Residual(6 * width))
        self.fc = nn.Linear(12 * width, classes)
        self.background = Distance(12 * width, classes) if background else None
        self.to(memory_format=torch.channels_last)

    def stages(self, x: Tensor) -> list[Tensor]:
        first = self.stage1(self.stem(x))
        second = self.stage2(first)
        return [first, second, self.stage3(second)]  # the last [N, 6 W, H / 8, W / 8]

    def classes(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], 1))
        return logits


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _convolution(inputs: int, outputs: int, pool: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), nn.ReLU())
