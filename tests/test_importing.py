"""Own data: what becomes a picture, a class, a split, and what is named with its reason instead."""

import io
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.preprocessing.pictures import Pixels, Resize, to_pixels
from tests.conftest import ROOT
from training.errors import DatasetError
from training.importing import archive, cli
from training.importing.archive import Archive, Member
from training.importing.dataset import Imported, Options
from training.importing.importer import import_file, started_threads
from training.importing.layout import read_layout
from training.importing.pictures import load_rgb
from training.importing.splits import hold_out

OWN = ROOT.parent / "shared" / "data" / "own"
Import = Callable[..., Imported]


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    def run(source: Path, **options: object) -> Imported:
        directory = tmp_path / f"dataset-{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        return import_file(source, directory, Options(**options), lambda done, of: None)  # type: ignore[arg-type]

    return run


def own(name: str) -> Path:
    path = OWN / name
    if not path.exists():
        pytest.skip(f"{path.name} is not among the shared data")
    return path


def picture(shade: int = 0, size: tuple[int, int] = (28, 28), mode: str = "L", kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, shade).save(stream, kind)
    return stream.getvalue()


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def class_folders(count: int = 6, prefix: str = "") -> dict[str, bytes]:
    return {
        f"{prefix}{label}/{i}.png": picture(10 * i + offset)
        for label, offset in (("cat", 0), ("dog", 5))
        for i in range(count)
    }


# -- archives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/abs/evil.jpg", "C:/evil.jpg", "a/../../evil.jpg", "..\\evil.jpg"]
)
def test_a_path_that_leads_outside_is_refused_and_named(tmp_path: Path, imported: Import, name: str) -> None:
    found = imported(zipped(tmp_path / "a.zip", {**class_folders(), name: picture()}))
    assert found.profile.images == 12
    (bad,) = found.profile.bad_files
    assert "path" in bad.reason
    assert not (tmp_path.parent / "evil.jpg").exists()


def test_the_zip_slip_of_the_traps_writes_nothing_and_says_what_is_missing(
    tmp_path: Path, imported: Import
) -> None:
    with pytest.raises(DatasetError, match="one class"):
        imported(own("traps/zip_slip.zip"))
    assert not list(tmp_path.rglob("evil*"))


def test_links_encrypted_members_and_nested_archives_are_refused(tmp_path: Path, imported: Import) -> None:
    path = zipped(tmp_path / "a.zip", {**class_folders(), "cat/more.zip": b"PK\x03\x04"})
    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    reasons = {bad.path: bad.reason for bad in imported(path).profile.bad_files}
    assert "link" in reasons["cat/link.png"]
    assert "archive" in reasons["cat/more.zip"]


def test_a_bomb_is_stopped_while_it_unpacks(tmp_path: Path) -> None:
    """The announced size is not believed: what counts is what comes."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("cat/bomb.png", bytes(64 * 1024**2))
    data = bytearray(path.read_bytes())
    for at in (22, data.rindex(b"PK\x01\x02") + 24):  # the sizes in both headers
        data[at : at + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    with Archive(path) as opened, pytest.raises(ValueError, match=r"damaged|unpacks"):
        opened.read(opened.members[0])


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 5)
    with pytest.raises(DatasetError, match="12"):
        Archive(zipped(tmp_path / "a.zip", class_folders()))


@pytest.mark.parametrize("name", ["żółw/a.png", "кот/a.png", "犬/a.png"])
def test_names_in_utf8_are_read_as_such(tmp_path: Path, name: str) -> None:
    with Archive(zipped(tmp_path / "a.zip", {name: picture()})) as opened:
        assert [str(member.path) for member in opened.members] == [name]


@pytest.mark.parametrize(("name", "encoding"), [("ネコ/a.png", "shift_jis"), ("chat noir é/a.png", "cp437")])
def test_names_in_old_code_pages_are_read_and_said(tmp_path: Path, name: str, encoding: str) -> None:
    path = zipped(tmp_path / "a.zip", {"X" * len(name.encode(encoding)): picture()})
    data = path.read_bytes().replace(b"X" * len(name.encode(encoding)), name.encode(encoding))
    path.write_bytes(data)
    with Archive(path) as opened:
        assert [str(member.path) for member in opened.members] == [name]
        assert opened.encodings == {encoding: 1}


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=400))
def test_arbitrary_bytes_are_a_dataset_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "a.zip"
    path.write_bytes(data)
    directory = path.parent / "out"
    directory.mkdir()
    with pytest.raises(DatasetError):
        import_file(path, directory, Options(), lambda done, of: None)


# -- folders -----------------------------------------------------------------------------------------


def layout(*paths: str) -> dict[str, tuple[str | None, str]]:
    members = [Member(PurePosixPath(path), index, 1) for index, path in enumerate(paths)]
    return {str(entry.member.path): (entry.split, entry.label) for entry in read_layout(members).entries}


@pytest.mark.parametrize("top", ["", "My Dataset (final)/", "a/b/"])
def test_one_top_folder_is_unwrapped(top: str) -> None:
    assert layout(f"{top}cat/1.png", f"{top}dog/1.png")[f"{top}cat/1.png"] == (None, "cat")


@pytest.mark.parametrize(
    ("folder", "split"), [("Training", "train"), ("val", "validation"), ("TESTING", "test")]
)
def test_folders_named_as_splits_are_splits(folder: str, split: str) -> None:
    found = layout("train/cat/1.png", "train/dog/1.png", f"{folder}/cat/2.png", f"{folder}/dog/2.png")
    assert found[f"{folder}/cat/2.png"] == (split, "cat")


def test_a_class_may_be_called_test() -> None:
    assert layout("test/1.png", "train/1.png", "test/2.png")["test/1.png"] == (None, "test")


def test_a_split_is_a_folder_never_a_file_name() -> None:
    assert layout("cat/train.png", "dog/test_1.png")["dog/test_1.png"] == (None, "dog")


def test_pictures_deeper_inside_belong_to_their_class() -> None:
    assert layout("cat/2024/a.png", "dog/b.png")["cat/2024/a.png"] == (None, "cat")


def test_without_class_folders_the_error_shows_what_is_needed() -> None:
    with pytest.raises(DatasetError, match=r"cats/1\.jpg"):
        layout("1.png", "2.png")


def test_every_trap_has_its_right_outcome(imported: Import) -> None:
    profile = imported(own("traps/image_traps.zip")).profile
    assert {"007", "7", "żółw_龟", "Ned Flanders (1 only)"} <= set(profile.classes)
    assert list(profile.classes) == sorted(profile.classes)
    assert profile.given_splits == ("train", "test")
    assert {path for listed in profile.ignored.values() for path in listed.paths} >= {
        "My Dataset (final)/README.txt",
        "My Dataset (final)/.DS_Store",
        "__MACOSX/My Dataset (final)/._train",
        "My Dataset (final)/train/.ipynb_checkpoints/000-checkpoint.jpg",
    }
    assert {bad.path.rpartition("/")[2] for bad in profile.bad_files} == {
        "corrupt_truncated.jpg",
        "zero_bytes.jpg",
        "is_html.png",
    }
    ((one, other),) = profile.conflicts
    assert {one.rpartition("/")[2], other.rpartition("/")[2]} == {"000.jpg", "same_as_bart_000.jpg"}
    said = " ".join(warning.what for warning in profile.warnings)
    for part in (
        "'empty_class'",
        "'only_in_test'",
        "'Ned Flanders (1 only)' has one",
        "test split also in the training",
    ):
        assert part in said
    total = sum(listed.count for listed in profile.ignored.values()) + profile.bad_count + profile.images
    with zipfile.ZipFile(own("traps/image_traps.zip")) as file:
        assert total == sum(not info.is_dir() for info in file.infolist())  # nothing is dropped in silence


# -- pictures ----------------------------------------------------------------------------------------


def rgb(data: bytes, size: tuple[int, int], resize: Resize = "stretch") -> Pixels:
    return to_pixels(load_rgb(data, size), size, resize, 3)


def test_exif_rotation_is_undone() -> None:
    image = Image.new("RGB", (40, 20), "white")
    image.paste("black", (0, 0, 40, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by a quarter to the right
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, exif=exif)
    pixels = rgb(stream.getvalue(), (40, 20))
    assert pixels[:, 15:].mean() < 30 < 220 < pixels[:, :5].mean()


@pytest.mark.parametrize("most", [255, 1023, 4095, 65535])
def test_sixteen_bits_are_scaled_by_their_range_never_clipped(most: int) -> None:
    ramp = np.linspace(0, most, 64 * 64).astype(np.uint16).reshape(64, 64)
    stream = io.BytesIO()
    Image.fromarray(ramp).save(stream, "PNG")
    pixels = rgb(stream.getvalue(), (64, 64))
    assert pixels[-1, -1, 0] == 255
    assert abs(int(pixels[32, 0, 0]) - 128) <= 2


def test_what_is_transparent_shows_white() -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    assert (rgb(stream.getvalue(), (16, 16)) == 255).all()


def test_padding_keeps_the_aspect_and_crops_nothing() -> None:
    stream = io.BytesIO()
    Image.new("L", (40, 10), 200).save(stream, "PNG")
    assert (rgb(stream.getvalue(), (32, 32), "pad") == 200).all()


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_no_picture(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        load_rgb(data, (28, 28))


# -- arrays ------------------------------------------------------------------------------------------


def test_medmnist_comes_with_its_splits(imported: Import) -> None:
    profile = imported(own("breastmnist.npz")).profile
    assert (profile.channels, profile.height, profile.width) == (1, 28, 28)
    assert profile.given_splits == ("train", "validation", "test")
    assert profile.counts["1"] == {"train": 399, "validation": 57, "test": 114}


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((4, 28, 28), np.uint8), np.zeros(3, int), "4 images and 3 labels"),
        (np.zeros((4, 28), np.uint8), np.zeros(4, int), "shape"),
        (np.full((4, 8, 8), -1.0), np.array([0, 1, 0, 1]), "between -1 and -1"),
        (np.zeros((4, 8, 8), np.uint8), np.array([0.5, 1, 0, 1]), "fractions"),
        (np.zeros((4, 8, 8), object), np.array([0, 1, 0, 1]), "Python objects"),
    ],
)
def test_arrays_that_cannot_be_pictures_are_refused(
    tmp_path: Path, imported: Import, images: np.ndarray, labels: np.ndarray, said: str
) -> None:
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, allow_pickle=True)
    with pytest.raises(DatasetError, match=said):
        imported(tmp_path / "a.npz")


def test_an_array_that_promises_more_than_comes_is_refused(tmp_path: Path, imported: Import) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|u1", "fortran_order": False, "shape": (10_000_000, 28, 28)}
    )
    labels = io.BytesIO()
    np.save(labels, np.zeros(10_000_000, np.uint8))
    path = zipped(
        tmp_path / "a.npz", {"train_images.npy": stream.getvalue(), "train_labels.npy": labels.getvalue()}
    )
    with pytest.raises(DatasetError, match="ends early"):
        imported(path)


def test_mnist_files_in_a_zip_are_a_data_set(tmp_path: Path, imported: Import) -> None:
    raw = ROOT / "tests" / "data" / "MNIST" / "raw"
    names = [
        f"{split}-{kind}" for split in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    found = imported(zipped(tmp_path / "a.zip", {name: (raw / name).read_bytes() for name in names}))
    assert found.profile.classes == tuple("0123456789")
    assert found.profile.given_splits == ("train", "test")
    assert (found.splits == 2).sum() == 200


# -- splits ------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=120),
    groups=st.integers(1, 60),
    share=st.floats(0.05, 0.6),
    seed=st.integers(0, 10),
)
def test_a_group_lies_on_one_side_and_training_keeps_every_class(
    labels: list[int], groups: int, share: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    label, group = np.array(labels), random.integers(0, groups, len(labels))
    rows = np.arange(len(labels))
    held_out = hold_out(label, group, rows, share, seed)
    kept = np.setdiff1d(rows, held_out)
    assert not set(group[held_out]) & set(group[kept])
    assert len(kept)
    assert np.array_equal(held_out, hold_out(label, group, rows, share, seed))


def test_shares_are_met_class_by_class() -> None:
    label = np.repeat([0, 1], [1000, 50])
    held_out = hold_out(label, np.arange(1050), np.arange(1050), 0.2, 0)
    assert np.bincount(label[held_out]).tolist() == [200, 10]


def test_classes_can_be_dropped_renamed_and_merged(tmp_path: Path, imported: Import) -> None:
    files = {**class_folders(), "fox/1.png": picture(99), "fox/2.png": picture(98)}
    path = zipped(tmp_path / "a.zip", files)
    assert imported(path, drop=("fox",)).profile.classes == ("cat", "dog")
    assert imported(path, rename={"fox": "dog"}).profile.counts["dog"]["train"] > 1
    assert sum(imported(path, rename={"fox": "dog"}).profile.counts["dog"].values()) == 8


def test_the_same_file_and_options_give_the_same_digest(tmp_path: Path, imported: Import) -> None:
    path = zipped(tmp_path / "a.zip", class_folders())
    assert imported(path).profile.digest == imported(path).profile.digest
    assert imported(path).profile.digest != imported(path, seed=1).profile.digest


def test_groups_by_file_name_stay_together(tmp_path: Path, imported: Import) -> None:
    files = {
        f"{label}/patient{i // 4}_{i}.png": picture(5 * i + offset)
        for label, offset in (("cat", 0), ("dog", 2))
        for i in range(40)
    }
    found = imported(zipped(tmp_path / "a.zip", files), group_pattern=r"(\w+/patient\d+)_")
    sides: dict[str, set[int]] = {}
    for name, split in zip(found.names(), found.splits.tolist(), strict=True):
        sides.setdefault(name.partition("_")[0], set()).add(split)
    assert all(len(side) == 1 for side in sides.values())
    assert (found.splits == 2).any()


# -- the command -------------------------------------------------------------------------------------


def test_minist_inspect_shows_what_a_file_would_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = zipped(tmp_path / "a.zip", {**class_folders(), "cat/page.png": b"<html>"})
    assert cli.run([str(path), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "12 grey pictures in 2 classes" in shown
    assert "cat/page.png" in shown
    assert Imported(tmp_path / "out").profile.images == 12
    assert cli.run([str(path), "--out", str(tmp_path / "out")]) == 1  # it is not empty
    assert cli.run([str(own("traps/zip_slip.zip"))]) == 1
    assert "evil.jpg" in capsys.readouterr().err


def test_no_thread_of_an_import_is_started_when_memory_may_be_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """They run before there is anything to decode; where one cannot be had, that is said, and nothing waits."""
    begin, started = threading.Thread.start, list[threading.Thread]()

    def start(thread: threading.Thread) -> None:
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with started_threads(3) as pool:
        assert list(pool.map(abs, range(-9, 0))) == list(range(9, 0, -1))
    with pytest.raises(RuntimeError, match="new thread"), started_threads(1):
        pass
    started.clear()
    with pytest.raises(RuntimeError, match="new thread"), started_threads(5):
        pass
