"""Weights and card on disk."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models import checkpoint
from models.architectures import build
from models.card import Card, Input
from models.errors import CheckpointError
from models.files import write_atomically
from tests.conftest import SHIPPED, WEIGHTS
from training.recipes import Config

CARD = Card(
    name="one",
    architecture="softmax",
    arguments={"classes": 10},
    input=Input(channels=1, height=28, width=28, mean=(0.0,), std=(1.0,), polarity="light-on-dark"),
    classes=tuple("0123456789"),
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    checkpoint.save(build("softmax"), CARD, tmp_path)
    return tmp_path / "one.pth"


class TutorialNet(nn.Module):
    """The class that a reader of the MLP tutorial has at home."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(784, 512)
        self.linear2 = nn.Linear(512, 256)
        self.linear3 = nn.Linear(256, 128)
        self.linear4 = nn.Linear(128, 64)
        self.linear5 = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 784)
        for layer in (self.linear1, self.linear2, self.linear3, self.linear4):
            x = F.relu(layer(x))
        return self.linear5(x)


def test_what_is_saved_is_loaded(saved: Path, cpu: torch.device) -> None:
    model, card = checkpoint.load(saved, cpu)
    assert card.model_copy(update={"sha256": "", "parameters": 0, "torch": ""}) == CARD
    assert card.parameters == 7850
    assert card.torch == torch.__version__
    assert not model.training
    written = torch.load(saved, weights_only=True)
    assert all(torch.equal(written[key], value) for key, value in model.state_dict().items())


def test_our_file_loads_into_the_tutorials_own_class() -> None:
    net = TutorialNet()
    net.load_state_dict(torch.load(WEIGHTS / "minist.pth"))
    ours, _ = checkpoint.load(WEIGHTS / "minist.pth", torch.device("cpu"))
    x = torch.randn(5, 1, 28, 28)
    torch.testing.assert_close(net(x), ours(x))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_checkpoints_are_whole(name: str, cpu: torch.device) -> None:
    _, card = checkpoint.load(WEIGHTS / f"{name}.pth", cpu)
    assert card.name == name
    assert card.training is not None
    assert card.training["seed"] == 0
    assert Config.model_validate(card.training).name == name
    assert card.dataset is not None
    assert set(card.metrics) == {"validation", "test"}


@pytest.mark.parametrize("position", [0, 200, -1])
def test_one_changed_byte_is_told_with_the_file(saved: Path, cpu: torch.device, position: int) -> None:
    data = bytearray(saved.read_bytes())
    data[position] ^= 1
    saved.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"one\.pth: its sha256"):
        checkpoint.load(saved, cpu)


def test_a_missing_or_broken_card_is_told_with_the_file(saved: Path, cpu: torch.device) -> None:
    saved.with_suffix(".json").write_text('{"name": 1}')
    with pytest.raises(CheckpointError, match=r"one\.json: not a model card"):
        checkpoint.load(saved, cpu)
    saved.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match=r"one\.json: cannot be read"):
        checkpoint.load(saved, cpu)


def test_weights_of_other_layers_are_refused(tmp_path: Path, cpu: torch.device) -> None:
    checkpoint.save(build("cnn"), CARD, tmp_path)
    with pytest.raises(CheckpointError, match=r"one\.pth: has the layers conv1\.weight, .* not linear\.weight"):
        checkpoint.load(tmp_path / "one.pth", cpu)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("owned",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        checkpoint.load_bare(tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()


def test_a_whole_model_instead_of_its_state_dict_is_told(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "run.pth")
    with pytest.raises(CheckpointError, match="holds no weights"):
        checkpoint.load_bare(tmp_path / "run.pth")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
