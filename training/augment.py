"""Random changes to images, different for each: shape, stroke width, blur, contrast, noise.

Works on whole batches of float images [N, 1, H, W], light ink on a dark ground, 0..255; `pictures` on any
[N, C, H, W]. All randomness comes from the given generator, so that a resumed run repeats it.

Sources: elastic distortions after Simard, Steinkraus and Platt, "Best practices for convolutional
neural networks" (2003), here as a coarse field that is interpolated by one matrix product; cutout after
DeVries and Taylor (arXiv:1708.04552).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

Augmentation = Callable[[Tensor, Generator], Tensor]  # images [N, C, H, W], 0..255, to images of the same kind
KNOTS = 6  # of the elastic field along each side


@dataclass(frozen=True)
class AugmentStrength:
    """How much the shape of a digit and its ink may change."""

    rotate: float  # standard deviation, radians
    shear: float  # standard deviation
    scale: float  # standard deviation of the logarithm
    stretch: float  # standard deviation of the logarithm of width to height
    shift: float  # standard deviation, pixels
    elastic: float  # standard deviation of the displacement of a knot, pixels
    thinner: float  # largest share of an eroded image in the mix
    thicker: float  # largest share of a dilated image in the mix; more than 1 is done twice
    blur: float  # largest share of a blurred image in the mix
    contrast: float  # largest logarithm of the steepness of edges
    noise: float  # largest standard deviation of grey noise, 0..1
    gap: float  # share of images that lose a small piece


SLIGHT = AugmentStrength(0.07, 0.07, 0.04, 0.04, 0.35, 0.6, 0.15, 0.15, 0.0, 0.0, 0.0, 0.0)
LIGHT = AugmentStrength(0.13, 0.13, 0.08, 0.08, 0.7, 0.9, 0.3, 0.3, 0.0, 0.0, 0.0, 0.0)
STRONG = AugmentStrength(0.16, 0.17, 0.1, 0.2, 0.8, 1.15, 0.7, 1.3, 1.0, 1.4, 0.1, 0.08)


def augment_digits(images: Tensor, strength: AugmentStrength, generator: Generator) -> Tensor:
    """Digits as the same hand, or another, might have written them: first the shape, then the ink."""
    images = elastic_affine(images / 255, strength, generator)
    images = _reweigh(images, strength, generator)
    if strength.gap:
        images = _cutout(images, strength.gap, 4, generator)
    if strength.blur:
        share = _uniform(len(images), generator, images).clamp_(min=0.3).sub_(0.3).mul_(strength.blur / 0.7)
        images = torch.lerp(images, _blur(_blur(images)), share)
    if strength.contrast:
        images = _steepen(images, strength.contrast, generator)
    if strength.noise:
        images = add_noise(images, strength.noise, generator)
    return images.clamp_(0, 1).mul_(255)


def augment_mixed(images: Tensor, generator: Generator) -> Tensor:
    """Two thirds of a batch changed strongly, as another hand would write, one third lightly."""
    third = len(images) // 3
    return torch.cat(
        [augment_digits(images[:third], LIGHT, generator), augment_digits(images[third:], STRONG, generator)]
    )


def augment_garments(images: Tensor, generator: Generator) -> Tensor:
    """Garments: half of them mirrored, moved by up to two pixels, half with a hidden square."""
    flipped = _uniform(len(images), generator, images) < 0.5
    images = torch.where(flipped, images.flip(3), images)
    shift = _uniform((len(images), 2), generator, images).mul_(5).floor_().sub_(2)
    side = images.shape[-1]
    theta = torch.eye(2, 3).repeat(len(images), 1, 1)
    theta[:, :, 2] = shift * (2 / side)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False).to(images.device)
    moved = F.grid_sample(images, grid, mode="nearest", align_corners=False)
    return _cutout(moved, 0.5, 8, generator)


def augment_pictures(
    images: Tensor, generator: Generator, flips: tuple[bool, bool] = (False, False), hide: float = 0.5
) -> Tensor:
    """Pictures of anything, grey or RGB: turned, scaled and moved a little, brighter or paler, a share of
    them with a hidden square; mirrored left to right or top to bottom where `flips` says that no class changes.
    """
    images = _affine(mirror(images, generator, flips) / 255, generator)
    images = _relight(images, generator).clamp_(0, 1).mul_(255)
    return _cutout(images, hide, max(images.shape[2:]) // 4, generator)


def mirror(images: Tensor, generator: Generator, flips: tuple[bool, bool]) -> Tensor:
    """Half of the images mirrored left to right, half top to bottom, as far as `flips` says."""
    for axis, allowed in zip((3, 2), flips, strict=True):
        flipped = _uniform(len(images), generator, images) < 0.5
        if allowed:
            images = torch.where(flipped, images.flip(axis), images)
    return images


def _affine(images: Tensor, generator: Generator) -> Tensor:
    normal = torch.randn(len(images), 6, generator=generator)
    angle, skew, size, aspect = (normal[:, :4] * torch.tensor([0.12, 0.08, 0.1, 0.08])).unbind(1)
    size, aspect = size.exp(), (aspect / 2).exp()
    cos, sin = angle.cos() * size, angle.sin() * size
    x, y = (normal[:, 4:] * 0.1).unbind(1)
    rows = [cos * aspect, (cos * skew - sin) * aspect, x], [sin / aspect, (sin * skew + cos) / aspect, y]
    theta = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False).to(images.device)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _relight(images: Tensor, generator: Generator) -> Tensor:
    """Brightness, contrast about the mean, and with colours saturation."""
    draw = torch.rand(3, len(images), 1, 1, 1, generator=generator).to(images.device)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (0.7 + 0.6 * draw[0]) + (draw[1] - 0.5) * 0.3
    if images.shape[1] == 1:
        return images
    grey = images.mean(1, keepdim=True)
    return grey + (images - grey) * (0.6 + 0.8 * draw[2])


PRESETS: Mapping[str, Augmentation | None] = {
    "none": None,
    "slight": lambda images, generator: augment_digits(images, SLIGHT, generator),
    "light": lambda images, generator: augment_digits(images, LIGHT, generator),
    "strong": lambda images, generator: augment_digits(images, STRONG, generator),
    "mixed": augment_mixed,
    "garments": augment_garments,
    "pictures": augment_pictures,
}


def elastic_affine(images: Tensor, strength: AugmentStrength, generator: Generator) -> Tensor:
    """Affine map and elastic field in one sampling grid: coefficients [N, 2, 3 + knots] x basis."""
    count, _, height, width = images.shape
    normal = torch.randn(count, 2, 3 + KNOTS * KNOTS, generator=generator)
    angle, skew, size, aspect = normal[:, 0, :2].unbind(1) + normal[:, 1, :2].unbind(1)
    angle, skew = angle * strength.rotate, skew * strength.shear
    size, aspect = torch.exp(size * strength.scale), torch.exp(aspect * strength.stretch / 2)
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    shift = normal[:, :, 2] * (2 * strength.shift / width)
    affine = torch.stack(
        [
            torch.stack([cos * aspect, (cos * skew - sin) * aspect, shift[:, 0]], 1),
            torch.stack([sin / aspect, (sin * skew + cos) / aspect, shift[:, 1]], 1),
        ],
        1,
    )
    field = normal[:, :, 3:] * (2 * strength.elastic / width)
    grid = torch.cat([affine, field], 2).to(images.device) @ _basis(height, width).to(images.device)
    grid = grid.reshape(count, 2, height, width).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)


@lru_cache
def _basis(height: int, width: int) -> Tensor:
    """[3 + knots, H * W]: x, y, 1 (as `grid_sample` counts them) and a smooth bump around each knot."""
    ys = (torch.arange(height) * 2 + 1) / height - 1
    xs = (torch.arange(width) * 2 + 1) / width - 1
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    knots = torch.linspace(-1, 1, KNOTS)
    spread = 1.0 * (2 / (KNOTS - 1))
    by = torch.exp(-(((ys[None] - knots[:, None]) / spread) ** 2) / 2)
    bx = torch.exp(-(((xs[None] - knots[:, None]) / spread) ** 2) / 2)
    bumps = (by[:, None, :, None] * bx[None, :, None, :]).reshape(KNOTS * KNOTS, -1)
    bumps = bumps / bumps.square().sum(0).mean().sqrt()
    return torch.cat([torch.stack([x.flatten(), y.flatten(), torch.ones(height * width)]), bumps])


def _reweigh(images: Tensor, strength: AugmentStrength, generator: Generator) -> Tensor:
    """Thicker or thinner strokes: a mix with the grey dilation or erosion by a cross of 3x3."""
    share = _uniform(len(images), generator, images) * (strength.thinner + strength.thicker) - strength.thinner
    darker = images - _neighbours(images, torch.minimum)
    images = images + share.clamp(max=0) * darker
    for _ in range(1 if strength.thicker <= 1 else 2):
        images = torch.lerp(images, _neighbours(images, torch.maximum), share.clamp(0, 1))
        share = share - 1
    return images


def _neighbours(images: Tensor, best: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    result = images.clone()
    result[:, :, 1:] = best(result[:, :, 1:], images[:, :, :-1])
    result[:, :, :-1] = best(result[:, :, :-1], images[:, :, 1:])
    result[..., 1:] = best(result[..., 1:], images[..., :-1])
    result[..., :-1] = best(result[..., :-1], images[..., 1:])
    return result


def _blur(images: Tensor) -> Tensor:
    """1-2-1 along both sides."""
    images = F.pad(images, (1, 1, 1, 1))
    images = images[..., :-2] + images[..., 1:-1] * 2 + images[..., 2:]
    return (images[:, :, :-2] + images[:, :, 1:-1] * 2 + images[:, :, 2:]) / 16


def _steepen(images: Tensor, most: float, generator: Generator) -> Tensor:
    """Edges between soft (as they are) and almost binary; the threshold is drawn too."""
    steepness = torch.exp(_uniform(len(images), generator, images).mul_(most + 0.4).sub_(0.4))
    middle = _uniform(len(images), generator, images).mul_(0.3).add_(0.35)
    steep = ((images - middle) * steepness + middle).clamp_(0, 1)
    return torch.where(steepness > 1, steep, images * steepness)


def add_noise(images: Tensor, most: float, generator: Generator) -> Tensor:
    """Grey noise on a third of the images, of random strength."""
    strength = _uniform(len(images), generator, images).sub_(2 / 3).clamp_(min=0).mul_(3 * most)
    return images + strength * torch.randn(images.shape, generator=generator).to(images.device)


def _cutout(images: Tensor, share: float, side: int, generator: Generator) -> Tensor:
    """Erase a square of `side` pixels, anywhere, in `share` of the images (DeVries and Taylor)."""
    height, width = images.shape[2:]
    draw = torch.rand(3, len(images), 1, 1, 1, generator=generator).to(images.device)
    top, left = (draw[0] * (height + side)).floor() - side, (draw[1] * (width + side)).floor() - side
    y = torch.arange(height, device=images.device).reshape(1, 1, -1, 1)
    x = torch.arange(width, device=images.device).reshape(1, 1, 1, -1)
    hidden = (y >= top) & (y < top + side) & (x >= left) & (x < left + side) & (draw[2] < share)
    return images.masked_fill(hidden, 0)


def _uniform(shape: int | tuple[int, ...], generator: Generator, images: Tensor) -> Tensor:
    """Uniform in 0..1, of that shape, or [N, 1, 1, 1] for a number N; on the images' device."""
    shape = (shape, 1, 1, 1) if isinstance(shape, int) else shape
    return torch.rand(shape, generator=generator).to(images.device)
