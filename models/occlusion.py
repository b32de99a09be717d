"""What of a picture counted for an answer: parts of it are covered, one after the other.

Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", arXiv:1311.2901,
who cover with grey. Here a part takes the colour of the picture's own border, so that a covered stroke is a
stroke that was not drawn; and what is measured is the logarithm of the odds of the answer, which does not
saturate as its probability does. It needs no gradients: any model of pictures can be asked.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.preprocessing.pictures import Pixels
from models.tensors import stack

SMALL = 64  # pixels along a side, up to which pictures are covered finely
FINE, COARSE = (14, 3), (7, 2)  # steps along a side, and how many of them a covered part is long
BATCH_VALUES = 2**22  # in one forward pass: a large picture must not need gigabytes
LEAST = 1e-6  # effect that is one

# From "a little" to "most": as light in either row, so that lightness says how much and the hue which way.
# Orange and blue are told apart with any of the usual kinds of colour blindness (Okabe and Ito).
FOR = ((120, 62, 0), (226, 134, 12), (255, 214, 128))
AGAINST = ((0, 72, 132), (56, 148, 226), (168, 218, 255))
DIM = 0.38  # of the picture's own lightness, below that of the colours

Map = NDArray[np.float32]  # [height, width]


def effects(logits: Callable[[Tensor], Tensor], pixels: Pixels, coarse: bool = False) -> Map:
    """What each place adds to the log odds of the most probable class, by `logits` of uint8 [N, C, H, W].

    At most 257 pictures are asked about, and 65 if `coarse` or where they are larger than 64x64.
    """
    image = stack([pixels])
    height, width = image.shape[2:]
    steps, long = COARSE if coarse or max(height, width) > SMALL else FINE
    parts = _parts(height, width, steps, long)
    covered = torch.where(parts[:, None], _border(image), image)
    changed = (covered != image).flatten(1).any(1)
    odds = _log_odds(logits, torch.cat([image, covered[changed]]))
    effect = torch.zeros(len(parts))
    effect[changed] = (odds[0] - odds[1:]).float()
    each = (effect[:, None, None] * parts).sum(0) / parts.sum(0)
    return _smoothed(each, max(height, width) // steps)


def strength(found: Map) -> Pixels:
    """How much each place counts, for or against: 255 is the most."""
    return np.asarray(255 * np.abs(_scaled(found))).round().astype(np.uint8)


def laid_over(pixels: Pixels, found: Map) -> Pixels:
    """The picture, dark and grey, with what spoke for the answer in orange, against it in blue."""
    grey = pixels if pixels.ndim == 2 else pixels.mean(2)
    ground = np.repeat(DIM * grey[..., None], 3, axis=2)
    scaled = _scaled(found)
    size = np.abs(scaled)
    colour = np.where((scaled > 0)[..., None], _ramp(FOR, size), _ramp(AGAINST, size))
    share = np.clip(2.5 * size, 0, 1)[..., None]  # below a fifth of the most, the picture shows through
    return np.asarray(ground * (1 - share) + colour * share).round().astype(np.uint8)


def _parts(height: int, width: int, steps: int, long: int) -> Tensor:
    """Overlapping rectangles that reach every pixel equally often, bool [parts, height, width]."""
    rows, columns = (_bands(side, max(1, -(-side // steps)), long) for side in (height, width))
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)


def _bands(side: int, step: int, long: int) -> Tensor:
    """bool [bands, side]"""
    starts = torch.arange((1 - long) * step, side, step)[:, None]
    place = torch.arange(side)
    return (place >= starts) & (place < starts + long * step)


def _border(image: Tensor) -> Tensor:
    """The usual colour of a picture's border, [1, C, 1, 1]."""
    _, _, height, width = image.shape
    edge = torch.ones(height, width, dtype=torch.bool)
    edge[1 : height - 1, 1 : width - 1] = False
    return image[:, :, edge].median(2).values[:, :, None, None]


def _log_odds(logits: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Of the class that is most probable for the first image, float64 [N]."""
    at_once = max(1, BATCH_VALUES // images[0].numel())
    found = torch.cat([logits(part).cpu() for part in torch.split(images, at_once)]).double()
    best = int(found[0].argmax())
    others = torch.cat([found[:, :best], found[:, best + 1 :]], 1)
    return found[:, best] - (others.logsumexp(1) if others.shape[1] else 0)


def _smoothed(each: Tensor, step: int) -> Map:
    """Without the edges of the parts."""
    kernel = step // 2 * 2 + 1
    smooth = functional.avg_pool2d(each[None, None], kernel, 1, kernel // 2, count_include_pad=False)
    return np.asarray(smooth[0, 0])


def _scaled(found: Map) -> Map:
    """-1..1, the most is 1 or -1."""
    most = np.abs(found).max()
    return found / most if most > LEAST else np.zeros_like(found)


def _ramp(colours: tuple[tuple[int, int, int], ...], size: Map) -> NDArray[np.float64]:
    """[height, width, 3]"""
    at = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(size, at, [colour[part] for colour in colours]) for part in range(3)], axis=2)
