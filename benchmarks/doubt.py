"""How many pictures a model of digits calls unfamiliar: digits, and what is none.

    MINIST_DATA_DIR=.. MINIST_FONTS=/usr/share/fonts/truetype/noto python -m benchmarks.doubt [WEIGHTS]

Scripts are those that no training has seen (`training.synthetic.characters.KEPT_BACK`); the rest is drawn anew
by the generators of training.
"""

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from models.classifier import Classifier
from tests import hard_shapes
from training.datasets import load_dataset
from training.synthetic.characters import kept_back, printed
from training.synthetic.split import synthetic_split, written_split
from training.synthetic.unfamiliar import KINDS, pictures

SHIPPED = Path("models/weights/digits.pth")
COUNT = 500  # pictures of a kind
SEED = 77_000  # none that anything was trained with


def digits(data: Path) -> Iterator[tuple[str, Tensor]]:
    test = load_dataset("mnist", data).test
    yield "MNIST's test images", test.images
    yield "hard shapes", torch.from_numpy(hard_shapes.images()[0])[:, None]
    yield "hands", written_split(COUNT, SEED).images
    yield "simulated pictures", synthetic_split(test, COUNT, SEED).images


def others() -> Iterator[tuple[str, Tensor]]:
    for kind in dict.fromkeys(KINDS):
        yield kind.__name__, pictures([kind], COUNT, SEED)
    for script, face in kept_back().items():
        yield script, pictures([partial(printed, faces=[face])], COUNT, SEED)


def warned(classifier: Classifier, images: Tensor) -> float:
    """The share of images with a warning."""
    novelty = classifier.card.novelty
    assert novelty is not None
    rows = torch.cat([classifier.answers(part) for part in torch.split(images, 1000)]).tolist()
    classes = len(classifier.card.classes)
    of = [novelty.of_answer(row, max(range(classes), key=row.__getitem__)) for row in rows]
    return sum(one > novelty.threshold for one in of) / len(of)


def main() -> None:
    weights = Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED
    classifier = Classifier.load(weights, torch.device("cpu"))
    data = Path(os.environ.get("MINIST_DATA_DIR", "data"))
    for title, kinds in (("digits", digits(data)), ("no digits", others())):
        print(f"\n{title}: called unfamiliar")
        for name, images in kinds:
            print(f"  {name:<22}{warned(classifier, images):6.1%}", flush=True)


if __name__ == "__main__":
    main()
