"""A classifier for pictures of one's own: from an imported data set to a version that answers."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.card import Card, Input
from models.classifier import Classifier, Prediction
from models.preprocessing.pictures import from_planes, to_planes
from models.rows import Rows
from tests.own import archive, drawing, imported
from training.augment import augment_pictures
from training.choice import batch_size_for, epochs_for, spread
from training.datasets import Dataset, Split, load_dataset
from training.errors import DatasetError
from training.events import Epoch, Event, Note
from training.importing.dataset import Options
from training.importing.importer import import_file
from training.loop import class_weights
from training.recipes import RECIPES
from training.run import Run, train

CPU = torch.device("cpu")
DISCS = ("blue", "green", "red")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of data sets: `discs@1` in colour, `arrows@1` in grey."""
    folder = tmp_path_factory.mktemp("datasets")
    imported(folder, "discs", DISCS, 20, side=40)
    imported(folder, "arrows", ("left", "right"), 40, side=28, mode="L")
    return folder


def start(folder: Path, own: Path, dataset: str, **changes: object) -> tuple[Run, Card, list[Event]]:
    run = Run.create(folder, RECIPES["small-image"].config(dataset=dataset, name="mine", **changes))
    events: list[Event] = []
    return run, train(run, own, CPU, events.append, datasets_dir=own), events


@pytest.fixture(scope="module")
def discs(own: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Card]:
    return start(tmp_path_factory.mktemp("run") / "discs", own, "discs@1", epochs=8)[:2]


def test_an_imported_data_set_is_mapped_and_split_as_the_import_said(own: Path) -> None:
    dataset = load_dataset("discs@1", own, own)
    assert dataset.shape == (3, 40, 40)
    assert dataset.classes == DISCS
    assert isinstance(dataset.train.images, Rows)
    assert dataset.validation is not None
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 60
    assert dataset.hold_out(5000, 0) == (dataset.train, dataset.validation)
    assert dataset.hold_out(0, 0) == (dataset.train, None)
    batch = dataset.train[torch.tensor([3, 0])]
    assert torch.equal(batch.images[0], dataset.train.images[3])


@pytest.mark.parametrize("name", ["nothing@1", "discs@2", "discs", "../discs@1", "discs@0"])
def test_a_data_set_that_is_not_there_is_one_sentence(own: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="data set"):
        load_dataset(name, own, own)


def test_more_images_follow_the_mapped_ones(own: Path) -> None:
    train = load_dataset("discs@1", own, own).train
    more = Split(torch.full((2, 3, 40, 40), 7, dtype=torch.uint8), torch.tensor([1, 2]))
    joined = train + more
    assert len(joined) == len(train) + 2
    mixed = joined[torch.tensor([len(train) + 1, 0, len(train)])]
    assert torch.equal(mixed.images[1], train.images[0])
    assert (mixed.images[[0, 2]] == 7).all()
    assert mixed.labels.tolist() == [2, int(train.labels[0]), 1]


def test_the_run_learns_and_its_card_tells_how_a_picture_gets_in(discs: tuple[Run, Card], own: Path) -> None:
    run, card = discs
    assert card.metrics["test"].accuracy >= 0.9
    assert card.architecture == "small-image"
    assert card.picture.shape == (3, 40, 40)
    assert card.picture.preprocessing == "picture"
    assert card.picture.polarity is None
    assert card.dataset is not None
    assert card.dataset.digest == load_dataset("discs@1", own, own).digest
    assert run.files.report.exists()


def test_a_photograph_of_another_size_is_classified(discs: tuple[Run, Card]) -> None:
    """Also turned by EXIF, with transparency, or as the PNG of exactly the size."""
    classifier = Classifier.load(discs[0].weights_path, CPU)
    random = np.random.default_rng(5)
    files = []
    for label in DISCS:
        large, stream = drawing(label, random, 300), io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        large.save(stream, "JPEG", exif=exif)
        files.append(stream.getvalue())
    answers = classifier.classify(files)
    assert [answer.label for answer in answers if isinstance(answer, Prediction)] == list(DISCS)
    assert answers[0].input is not None  # type: ignore[union-attr]
    assert answers[0].input.size == (300, 300)  # type: ignore[union-attr]


def test_serving_sees_the_picture_that_training_saw(discs: tuple[Run, Card], own: Path, tmp_path: Path) -> None:
    """Files of other sizes, as imported and as decoded for `/predict`: the same pixels."""
    source = archive(tmp_path / "large.zip", DISCS, 4, side=100)
    (tmp_path / "set").mkdir()
    found = import_file(source, tmp_path / "set", Options(size=40), lambda done, of: None)
    classifier = Classifier.load(discs[0].weights_path, CPU)
    random = np.random.default_rng(0)
    for row, label in enumerate(label for label in DISCS for _ in range(4)):
        pixels, _ = classifier.read(drawing(label, random, 100))
        assert found.images[row].tobytes() == to_planes(pixels)
        assert np.array_equal(from_planes(to_planes(pixels), (3, 40, 40)), pixels)


def test_a_plain_png_of_the_size_takes_the_short_way(discs: tuple[Run, Card]) -> None:
    classifier = Classifier.load(discs[0].weights_path, CPU)
    stream = io.BytesIO()
    image = drawing("red", np.random.default_rng(1), 40)
    image.save(stream, "PNG")
    quick = classifier.decode_plain_png(stream.getvalue())
    assert quick == to_planes(classifier.read(image)[0])


def test_a_killed_run_ends_with_the_same_weights(own: Path, tmp_path: Path) -> None:
    """What it decided on the way included; it is killed in the second of two tries."""

    def stop(event: Event) -> None:
        if isinstance(event, Epoch) and event.epoch == 3:
            raise KeyboardInterrupt

    changes = {"epochs": 2, "seed": 3}
    undisturbed, card, events = start(tmp_path / "undisturbed", own, "arrows@1", **changes)
    run = Run.create(tmp_path / "killed", undisturbed.config)
    with pytest.raises(KeyboardInterrupt):
        train(run, own, CPU, stop, datasets_dir=own)
    train(run, own, CPU, lambda event: None, datasets_dir=own)
    assert run.weights_path.read_bytes() == undisturbed.weights_path.read_bytes()
    assert any(isinstance(event, Note) and "mirrored" in event.text for event in events)
    assert any("mirrored" in note for note in card.notes)
    assert any("augmentation" in note for note in card.notes)


def test_flips_are_drawn_only_where_they_are_allowed() -> None:
    images = torch.rand(64, 3, 24, 24) * 255
    images[..., :12] = 0  # dark on the left

    def dark_on_the_left(flips: tuple[bool, bool]) -> float:
        drawn = augment_pictures(images, torch.Generator().manual_seed(0), flips)
        return (drawn[..., :12].mean((1, 2, 3)) < drawn[..., 12:].mean((1, 2, 3))).float().mean().item()

    assert dark_on_the_left((False, True)) == 1
    assert 0.3 < dark_on_the_left((True, False)) < 0.7


def test_epochs_and_batches_follow_the_number_of_images() -> None:
    assert [epochs_for(count) for count in (100, 1_000, 7_000, 60_000)] == [40, 17, 12, 8]
    assert [batch_size_for(count) for count in (100, 1_000, 7_000)] == [32, 64, 128]


def test_classes_are_weighed_only_where_they_differ_much() -> None:
    assert class_weights(torch.tensor([0, 0, 1]), 2).tolist() == [1, 1]
    labels = torch.tensor([0] * 90 + [1] * 10)
    weights = class_weights(labels, 2)
    assert weights[1] / weights[0] == pytest.approx(3)
    assert weights[labels].mean().item() == pytest.approx(1)


def test_mean_and_spread_are_those_of_the_pictures(own: Path) -> None:
    dataset: Dataset = load_dataset("discs@1", own, own)
    images = dataset.train[torch.arange(len(dataset.train))].images.double() / 255
    mean, std = spread(dataset.train)
    assert mean == pytest.approx(images.mean((0, 2, 3)).tolist(), abs=1e-3)
    assert std == pytest.approx(images.std((0, 2, 3)).tolist(), abs=1e-3)


def test_a_tutorial_recipe_takes_a_data_set_of_its_shape(own: Path, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", RECIPES["cnn"].config(dataset="arrows@1", epochs=1))
    card = train(run, own, CPU, lambda event: None, datasets_dir=own)
    assert card.classes == ("left", "right")
    assert card.picture.shape == (1, 28, 28)


@pytest.mark.parametrize(
    "changes",
    [{"mean": (0.1,)}, {"std": (0.0, 1.0, 1.0)}, {"polarity": "light-on-dark"}, {"preprocessing": "digit"}],
)
def test_an_input_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    fields = {
        "channels": 3,
        "height": 8,
        "width": 8,
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
        "preprocessing": "picture",
    }
    Input(**fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"need one value|polarity"):
        Input(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_card_of_the_version_before_is_read(discs: tuple[Run, Card]) -> None:
    """As a MINIST_HOME of it has them."""
    fields = discs[1].model_dump(exclude={"input", "notes"})
    old = {
        "input_shape": [1, 28, 28],
        "mean": 0.1,
        "std": 0.3,
        "polarity": "dark-on-light",
        "preprocessing": "digit",
    }
    card = Card.model_validate({**fields, **old})
    assert card.picture == Input(
        channels=1,
        height=28,
        width=28,
        mean=(0.1,),
        std=(0.3,),
        preprocessing="digit",
        polarity="dark-on-light",
    )
    with pytest.raises(ValueError, match="needs input_shape, mean and std"):
        Card.model_validate({**fields, "input_shape": [1, 28, 28]})
