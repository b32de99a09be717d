"""A tensor of pixels as a model takes them: uint8, one channel after the other."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import WrongTensor
from app.serving.decoding.tensors import Tensor

Shape = tuple[int, int, int]  # channels, height, width


def pixels_of(tensor: Tensor, shape: Shape) -> tuple[bytes | memoryview, int]:
    """The pixels of N images, and N. Raises WrongTensor.

    UINT8 and other whole numbers are 0..255, FP16, FP32 and FP64 are 0..1, BOOL is black and white.
    """
    count, last = tensor.shape[0], _channels_last(tensor, shape)
    if tensor.datatype == "UINT8" and not last:
        return tensor.raw, count
    values = _bytes_of(tensor, tensor.array())
    if last:
        values = values.reshape(count, shape[1], shape[2], shape[0]).transpose(0, 3, 1, 2)
    return values.tobytes(), count


def _channels_last(tensor: Tensor, shape: Shape) -> bool:
    """Whether channels come last. Raises WrongTensor for any other shape than the model's."""
    channels, height, width = shape
    inner = tensor.shape[1:]
    if inner in (shape, (prod(shape),)) or (channels == 1 and inner in ((height, width), (height, width, 1))):
        return False
    if inner == (height, width, channels):
        return True
    raise WrongTensor(
        f"'input' has the shape {list(tensor.shape)}, the model takes [N, {', '.join(map(str, shape))}]",
        "scale pictures to that size, or send files (PNG, JPEG, ..) as the input 'image'",
    )


def _bytes_of(tensor: Tensor, values: NDArray[Any]) -> NDArray[np.uint8]:
    kind = values.dtype.kind
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    low, high = values.min(), values.max()  # NaN, where there is one: no comparison with it holds
    if kind == "f":
        if not (low >= 0 and high <= 1):
            raise WrongTensor(
                f"'input' has numbers from {low:g} to {high:g}, pixels in {tensor.datatype} are 0..1",
                "divide by 255, or send UINT8 with 0..255; normalisation is part of the model",
            )
        return np.rint(values.astype(np.float32) * np.float32(255)).astype(np.uint8)
    if not (low >= 0 and high <= 255):
        raise WrongTensor(
            f"'input' has numbers from {low} to {high}, pixels in {tensor.datatype} are 0..255",
            "send 0 for black to 255 for white",
        )
    return values.astype(np.uint8)
