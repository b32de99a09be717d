"""A checkpoint as ONNX, with everything that our own answers have inside: pixels in, probabilities out.

    images         uint8 [N, channels, height, width], 0..255; of a table instead:
    rows           float32 [N, width], the cells as `models.tables` encodes them, NaN where one is missing
    probabilities  float32 [N, classes], at the card's temperature; they sum to 1

The card and the classes are in the file's metadata. Run as a process of its own: the exporter keeps global
state.
"""

import argparse
import io
import json
import math
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from models.card import Input
from models.classifier import Classifier
from models.errors import ModelError
from models.files import write_atomically
from models.tables import TableInput
from models.tensors import normalise

OPSET = 17
TOLERANCE = 1e-4  # of a probability


def run(arguments: Sequence[str]) -> int:
    """The command `export-onnx WEIGHTS OUT`; the status."""
    parser = argparse.ArgumentParser(prog="minist export-onnx", description="Write a checkpoint as ONNX.")
    parser.add_argument("weights", type=Path, help="a .pth file with its card")
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    try:
        classifier = Classifier.load(options.weights, torch.device("cpu"))
        data = to_onnx(classifier)
        check(data, classifier)
    except ModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    write_atomically(options.out, data)
    return 0


def to_onnx(classifier: Classifier) -> bytes:
    """The bytes of an ONNX file. Raises ModelError without the extra `onnx`."""
    if find_spec("onnx") is None:
        raise ModelError("ONNX files are written with the package onnx: pip install 'minist[onnx]'")
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # its successor needs another package, and writes the same graph
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Whole(classifier).eval(),
            (classifier.blank(2),),
            stream,  # type: ignore[arg-type]  # as torch's own documentation does
            input_names=[_name(classifier)],
            output_names=["probabilities"],
            dynamic_axes={_name(classifier): {0: "N"}, "probabilities": {0: "N"}},
            opset_version=OPSET,
            dynamo=False,
        )
    card = classifier.card
    facts = {"classes": json.dumps(card.classes, ensure_ascii=False), "card": card.model_dump_json()}
    return stream.getvalue() + b"".join(_metadata(key, value) for key, value in facts.items())


def check(data: bytes, classifier: Classifier) -> None:
    """Compare its answers with the classifier's, where onnxruntime is installed. Raises ModelError."""
    if find_spec("onnxruntime") is None:
        return
    import onnxruntime

    generator = torch.Generator().manual_seed(0)
    images = classifier.blank(5)
    if images.is_floating_point():
        images = (100 * torch.randn(images.shape, generator=generator)).round()
        images[0] = math.nan
    else:
        images = torch.randint(0, 256, images.shape, generator=generator, dtype=torch.uint8)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {_name(classifier): images.numpy()})
    difference = float((torch.from_numpy(found) - classifier.probabilities(images)).abs().max())
    if not difference <= TOLERANCE:
        raise ModelError(f"the exported model answers otherwise than the model: by {difference:.1e}")


def _name(classifier: Classifier) -> str:
    return "rows" if isinstance(classifier.card.input, TableInput) else "images"


class _Whole(nn.Module):
    """From pixels, or from encoded rows, to probabilities."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.model = classifier.model
        self._card = classifier.card

    def forward(self, images: Tensor) -> Tensor:
        spec = self._card.input
        if isinstance(spec, Input):
            images = normalise(images, spec.mean, spec.std)
        logits = self.model(images)
        return (logits / self._card.temperature).softmax(dim=1)


def _metadata(key: str, value: str) -> bytes:
    """An entry of `metadata_props`, the field 14 of a ModelProto; fields may come in any order."""
    entry = _field(1, key.encode()) + _field(2, value.encode())
    return _field(14, entry)


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
