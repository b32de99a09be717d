"""From a weights file and what its sender says of it to a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import torch

from models.card import Card, DatasetFacts, Input, Metrics, Shape
from models.classifier import Classifier
from models.datasets import DATASETS
from models.errors import CheckpointError
from models.layers import costs, read_layers
from models.stacks import SEQUENTIAL
from models.state_dicts import parse
from models.weights_file import is_safetensors
from training.calibration import calibrate
from training.datasets import Dataset, Split
from training.errors import DatasetError, NotFinite, TrainingError
from training.evaluation import evaluate
from training.foreign.candidates import Candidate, candidates, cleaned
from training.foreign.choice import Choice, Pixels, choose, usual_pixels
from training.foreign.graphs import graph_of, read_graph
from training.foreign.onnx_file import is_onnx
from training.foreign.order import Order

VALIDATION = 5000  # pictures, of a data set that has no such split
DIGITS = DATASETS["mnist"].classes


@dataclass(frozen=True)
class Adopted:
    """A classifier with its card, that still lacks the digest of its weights."""

    classifier: Classifier
    notes: tuple[str, ...]


def adopt(name: str, data: bytes, order: Order, dataset: Dataset | None, fit_temperature: bool) -> Adopted:
    """The classifier in a weights file; with a data set, measured on its test split.

    Raises ModelError for a file that cannot be used, TrainingError for a data set that does not go with it: one
    sentence each, which names no file.
    """
    found, order = _read(data, order, _shape_said(order, dataset))
    del data
    if dataset is not None and order.classes not in (None, dataset.classes):
        raise DatasetError(
            f"the card's classes are not those of {dataset.name}, which are in this order: "
            f"{', '.join(dataset.classes[:10])}"
        )
    if dataset is None and fit_temperature:
        raise TrainingError("a temperature is fitted on the validation split of a data set: name one")
    held_out, where = _held_out(dataset)
    choice = _choose(found, order, dataset, held_out, where)
    card = _card(name, order, dataset, choice)
    model = choice.candidate.built()
    model.eval().requires_grad_(False)
    _check_classes(model, card)
    classifier = Classifier(model, card, torch.device("cpu"))
    return _measured(classifier, order, dataset, held_out, where, fit_temperature)


def _read(data: bytes, order: Order, shape: Shape | None) -> tuple[list[Candidate], Order]:
    """What the file may be, most likely first, and what is known besides."""
    graph = data if is_onnx(data) else None
    if graph is None:
        weights = parse(data)
        graph = graph_of(weights)
    if graph is not None:
        candidate, order = read_graph(graph, order, shape)
        return [candidate], order
    return candidates(cleaned(weights), order, shape, keeps_order=not is_safetensors(data)), order


def _shape_said(order: Order, dataset: Dataset | None) -> Shape | None:
    if order.table is not None:
        return None
    if dataset is not None:
        said = order.shape(dataset.shape[0])
        if said not in (None, dataset.shape):
            raise DatasetError(
                f"the card says pictures of {_text(said)}, those of {dataset.name} are {_text(dataset.shape)}"
            )
        return dataset.shape
    return order.shape() or order.shape(1)


def _text(shape: Shape | None) -> str:
    return "x".join(map(str, shape or ()))


def _held_out(dataset: Dataset | None) -> tuple[Split | None, str]:
    """Pictures to choose by, and what they are: never those of the test split."""
    if dataset is None:
        return None, ""
    held_out = dataset.hold_out(min(VALIDATION, len(dataset.train) // 5), 0)[1]
    if held_out is None:
        order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(0))
        return dataset.train[order[:VALIDATION]], "training"
    if dataset.validation is not None:  # in the order of the classes: mixed, as the first are tried
        mixed = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0))
        return held_out[mixed[:VALIDATION]], "validation"
    return held_out, "validation"


def _choose(
    found: Sequence[Candidate], order: Order, dataset: Dataset | None, held_out: Split | None, where: str
) -> Choice:
    first = found[0]
    if first.shape is None:  # of a table
        return Choice(first, Pixels("", (), ()), ())
    channels = first.shape[0]
    said = order.mean is not None and order.std is not None
    pixels = usual_pixels(channels)
    if said:
        pixels = [Pixels("the card's", _of_each(order.mean, channels), _of_each(order.std, channels))]
    if held_out is None:
        assumed = (
            f"{pixels[0].said} (mean 0, std 1) are assumed: say mean and std on the card, or name a data set"
        )
        return Choice(first, pixels[0], (*_notes(found, first), *(() if said else (assumed,))))
    assert dataset is not None
    fitting = [one for one in found if _outputs(one) in (None, len(dataset.classes))]
    if not fitting:
        raise DatasetError(
            f"the weights have {_outputs(first)} outputs, {dataset.name} has {len(dataset.classes)} classes"
        )
    _check_shape(first, dataset.shape, dataset.name)
    choice = choose(fitting, pixels, held_out, order.activation is not None)
    notes = (*_notes([choice.candidate], choice.candidate), *choice.notes)
    return replace(choice, notes=tuple(note.replace(" pictures", f" {where} pictures") for note in notes))


@torch.inference_mode()
def _check_shape(candidate: Candidate, shape: Shape, dataset: str) -> None:
    """That the layers take pictures of the data set: what a card says may not be so."""
    try:
        if candidate.shape != shape:
            raise RuntimeError
        candidate.model()(torch.zeros(2, *shape))
    except RuntimeError as error:
        raise CheckpointError(f"does not take the pictures of {dataset}, which are {_text(shape)}") from error


def _notes(found: Sequence[Candidate], chosen: Candidate) -> list[str]:
    notes = [chosen.said or f"brought as weights, whose names and shapes tell {chosen.describe()}"]
    reading = chosen.reading
    if reading is not None and len(reading.row.mains) > 1:
        inferred = reading.inferred()
        others = len([one for one in found if one.reading is not None])
        usual = (
            f" (the most usual of {others} ways that fit; a data set would have them tried)"
            if others > 1
            else ""
        )
        notes.append(f"not in the weights, and inferred: {inferred}{usual}")
    if reading is not None and not reading.row.sure:
        notes.append("the order of the layers is the only one in which their shapes fit")
    return notes


def _of_each(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...]:
    assert values is not None
    if len(values) == 1:
        return values * channels
    if len(values) != channels:
        raise CheckpointError(f"takes {channels} channels, the card says mean and std of {len(values)}")
    return values


def _outputs(candidate: Candidate) -> int | None:
    if candidate.architecture == SEQUENTIAL and candidate.shape is not None:
        return costs(read_layers(candidate.arguments["layers"]), candidate.shape).classes
    classes = candidate.arguments.get("classes")
    return classes if isinstance(classes, int) else None


def _card(name: str, order: Order, dataset: Dataset | None, choice: Choice) -> Card:
    candidate, notes = choice.candidate, list(choice.notes)
    model_classes = _outputs(candidate)
    classes = order.classes or (dataset.classes if dataset else None)
    if classes is None:
        if model_classes is None:
            raise CheckpointError("has a card without classes: name them")
        classes = tuple(map(str, range(model_classes)))
        notes.append(f"classes are called 0 to {model_classes - 1}: the card may name them")
    return Card(
        name=name,
        architecture=candidate.architecture,
        arguments=dict(candidate.arguments),
        input=order.table or _input(candidate, order, dataset, choice.pixels, classes, notes),
        classes=classes,
        temperature=order.temperature or 1.0,
        dataset=DatasetFacts(name=dataset.name, digest=dataset.digest) if dataset else None,
        notes=tuple(notes),
        created=datetime.now(UTC),
    )


def _input(
    candidate: Candidate,
    order: Order,
    dataset: Dataset | None,
    pixels: Pixels,
    classes: tuple[str, ...],
    notes: list[str],
) -> Input:
    assert candidate.shape is not None
    channels, height, width = candidate.shape
    preprocessing = order.preprocessing or (dataset.preprocessing if dataset else None)
    if preprocessing is None:
        digits = candidate.shape == (1, 28, 28) and classes == DIGITS
        preprocessing = "digit" if digits else "size" if channels == 1 else "picture"
        notes.append(f"preprocessing {preprocessing!r} is assumed by the input {_text(candidate.shape)}")
    polarity = None
    if preprocessing != "picture":
        polarity = order.polarity or (dataset.polarity if dataset else None) or "light-on-dark"
    try:
        return Input(
            channels=3 if channels == 3 else 1,
            height=height,
            width=width,
            mean=pixels.mean,
            std=pixels.std,
            preprocessing=preprocessing,
            resize=order.resize or (dataset.resize if dataset else "stretch"),
            polarity=polarity,
        )
    except ValueError as error:
        raise CheckpointError(f"takes an input that its card contradicts: {error}") from error


@torch.inference_mode()
def _check_classes(model: torch.nn.Module, card: Card) -> None:
    blank = (
        torch.zeros(2, card.table.width)
        if card.input.__class__ is not Input
        else torch.zeros(2, *card.picture.shape)
    )
    try:
        outputs = model(blank).shape[1]
    except RuntimeError as error:  # a card that says another size than the layers take
        raise CheckpointError(f"does not take the input that its card describes, {_described(card)}") from error
    if outputs != len(card.classes):
        raise CheckpointError(f"has {outputs} outputs, the card names {len(card.classes)} classes")


def _described(card: Card) -> str:
    return _text(card.picture.shape) if isinstance(card.input, Input) else f"{card.table.width} cells"


def _measured(
    classifier: Classifier, order: Order, dataset: Dataset | None, held_out: Split | None, where: str, fit: bool
) -> Adopted:
    card = classifier.card
    if dataset is None or held_out is None:
        return Adopted(classifier, card.notes)
    notes = [*card.notes]
    if fit:
        classifier = calibrate(classifier, held_out)
        notes.append(f"temperature {classifier.card.temperature:.3f}, fitted on {where} pictures")
    try:
        metrics: dict[str, Metrics] = {"test": evaluate(classifier, dataset.test).metrics}
        if where == "validation":
            metrics["validation"] = evaluate(classifier, held_out).metrics
    except NotFinite as error:
        raise CheckpointError(f"answers pictures of {dataset.name} with infinities or NaN") from error
    notes.append(
        f"trained elsewhere: {dataset.name} is the data that it was measured on; its {where} pictures may "
        "have been among those that it was trained on"
    )
    if metrics["test"].accuracy < 1.5 / len(card.classes):
        notes.append(
            f"it answers no better than chance on {dataset.name}: its layers were misread, or it was trained "
            "on other data or other classes"
        )
    card = classifier.card.model_copy(update={"metrics": metrics, "notes": tuple(notes)})
    return Adopted(replace(classifier, card=card), tuple(notes))
