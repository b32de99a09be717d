"""What is simulated, as images to train on."""

import contextlib
import io

import numpy as np
import torch
from PIL import Image

from models.errors import NothingFound
from models.preprocessing.decode import Grey
from models.preprocessing.preprocess import preprocess_digit
from training.datasets import Split
from training.synthetic.hands import hand_written
from training.synthetic.rendering import Writer
from training.synthetic.scenes import KINDS

_CHEAP = (
    *("small-grey", "small-binary", "small-counts") * 2,  # what little they leave of a digit has to be learned
    *("mouse", "tablet", "crop", "scan"),
)


def synthetic_split(train: Split, count: int, seed: int) -> Split:
    """`count` simulated pictures of training digits, as the service would show them to a model.

    Photographs are left out: they cost most, and what `models.preprocessing` makes of them looks like the rest.
    """
    random = np.random.default_rng(seed)
    writer = Writer(train.images[:, 0].numpy(), train.labels.numpy(), random)
    known = set(train.labels.tolist())
    images: list[Grey] = []
    labels: list[int] = []
    while len(images) < count:
        label = int(random.integers(10))
        if label not in known:
            continue
        data, _ = KINDS[_CHEAP[len(images) % len(_CHEAP)]](writer, label)
        with contextlib.suppress(NothingFound), Image.open(io.BytesIO(data)) as image:
            images.append(preprocess_digit(image.convert("LA" if image.mode == "RGBA" else "L"))[0])
            labels.append(label)
    return Split(torch.from_numpy(np.stack(images)[:, None]), torch.tensor(labels))


def written_split(count: int, seed: int) -> Split:
    """`count` digits in hands of our own."""
    labels = np.random.default_rng(seed).integers(0, 10, count)
    return Split(torch.from_numpy(hand_written(labels, seed)), torch.from_numpy(labels))
