"""Weights files that people bring: what is loaded, and one plain sentence about everything else."""

import argparse
import gzip
import io
import json
import os
import pickle
import resource
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors
from torch import Tensor, nn

from models import checkpoint
from models.architectures import build
from models.card import read_card
from models.classifier import Classifier
from models.errors import CheckpointError
from models.verification import load_verified
from tests.conftest import ROOT, SAMPLE, WEIGHTS
from training.__main__ import main

CNN = torch.load(WEIGHTS / "cnn.pth", weights_only=True)
CARD = read_card(WEIGHTS / "cnn.json")
OPTIMIZER = torch.optim.Adam([nn.Parameter(torch.zeros(3))]).state_dict()


def saved(what: object, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(what, stream, **options)
    return stream.getvalue()


def legacy(what: object) -> bytes:
    return saved(what, _use_new_zipfile_serialization=False)


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in CNN.items()}


def archive(entries: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return stream.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


LOADED: dict[str, bytes] = {
    "state_dict": saved(CNN),
    "before torch 1.6": legacy(CNN),
    "DataParallel": saved(prefixed("module.")),
    "torch.compile": saved(prefixed("_orig_mod.")),
    "both": saved(prefixed("module._orig_mod.")),
    "training checkpoint": saved({"epoch": 3, "model_state_dict": CNN, "optimizer_state_dict": OPTIMIZER}),
    "old training checkpoint": legacy({"epoch": 3, "state_dict": CNN, "best": torch.tensor(0.9)}),
    "Lightning": saved(
        {"pytorch-lightning_version": "2.4", "state_dict": prefixed("model."), "optimizer_states": [OPTIMIZER]}
    ),
    "Lightning, net": saved({"state_dict": prefixed("net."), "hyper_parameters": {"lr": 0.1}, "callbacks": {}}),
    "another name": saved({"weights": CNN, "epoch": 1}),
    "with settings": saved({"state_dict": CNN, "args": argparse.Namespace(lr=0.1)}),
    "with a NumPy figure": saved({"state_dict": CNN, "best": np.float64(0.9)}),
    "parameters": saved({name: nn.Parameter(tensor) for name, tensor in CNN.items()}),
    "double": saved({name: tensor.double() for name, tensor in CNN.items()}),
    "packed again": archive(unpacked(saved(CNN))),
    "safetensors": safetensors({name: tensor.contiguous() for name, tensor in CNN.items()}),
}


@pytest.mark.parametrize("kind", LOADED)
def test_what_people_have_is_loaded(kind: str, tmp_path: Path, cpu: torch.device) -> None:
    (tmp_path / "brought").write_bytes(LOADED[kind])
    found = Classifier.from_bare_weights(tmp_path / "brought", CARD, cpu)
    assert found.card.architecture == "cnn"
    assert all(torch.equal(tensor, CNN[name]) for name, tensor in found.model.state_dict().items())
    fresh = build("cnn")
    checkpoint.load_into(fresh, tmp_path / "brought")
    assert torch.equal(fresh.state_dict()["fc.weight"], CNN["fc.weight"])


class Net(nn.Module):
    """Somebody's own class."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Calls:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def script() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(Net(), torch.zeros(1, 1, 28, 28)), stream)  # type: ignore[no-untyped-call]
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{name: tensor.numpy() for name, tensor in CNN.items()})
    return stream.getvalue()


def linear(weight: Tensor, bias: Tensor | None = None) -> bytes:
    return saved({"linear.weight": weight, "linear.bias": torch.zeros(10) if bias is None else bias})


def lying_safetensors() -> bytes:
    header = {"linear.weight": {"dtype": "F32", "shape": [10, 10**12], "data_offsets": [0, 40]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(40)


HTML = b"\n<!DOCTYPE html><html><body>not found</body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 34000\n"
REFUSED: dict[str, tuple[bytes, str]] = {
    "whole model": (saved(Net()), "Python objects .*Net.*save model.state_dict"),
    "old whole model": (legacy(Net()), "Python objects .*Net"),
    "whole model in a dict": (saved({"model": Net(), "epoch": 3}), "Python objects .*Net"),
    "TorchScript": (script(), "TorchScript"),
    "HTML": (HTML, r"web page \(HTML\)"),
    "XML": (b"<?xml version='1.0'?><Error/>", "XML"),
    "Git LFS": (LFS, "Git LFS pointer.*git lfs pull"),
    "empty": (b"", "is empty"),
    "text": (b"hello", "not a weights file"),
    "JSON": (b'{"a": 1}', "JSON"),
    "picture": ((ROOT / "examples" / "3.png").read_bytes(), "picture"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "gzip": (gzip.compress(saved(CNN)), "compressed"),
    "npz": (npz(), "NumPy archive"),
    "zip in zip": (archive({"cnn.pth": saved(CNN)}), "zip archive"),
    "NaN": (saved({**CNN, "fc.bias": torch.full((10,), float("nan"))}), "infinities or NaN in fc.bias"),
    "too large for float32": (
        saved({**CNN, "fc.bias": torch.full((10,), 1e300, dtype=torch.float64)}),
        "infinities",
    ),
    "other widths": (
        saved(
            {
                "linear1.weight": torch.zeros(128, 784),
                "linear1.bias": torch.zeros(128),
                "linear2.weight": torch.zeros(10, 128),
                "linear2.bias": torch.zeros(10),
            }
        ),
        "other widths: linear1.weight is 128x784 instead of 256x784",
    ),
    "other classes": (linear(torch.zeros(7, 784), torch.zeros(7)), "7 classes.*10 are needed"),
    "other images": (linear(torch.zeros(10, 64)), "images of 8x8"),
    "no image": (linear(torch.zeros(10, 65)), "65 features"),
    "no classes": (linear(torch.zeros(0, 784), torch.zeros(0)), "linear.weight of shape"),
    "other layers": (
        saved({f"layer{i}.weight": torch.zeros(2) for i in range(60)}),
        "no known arch.*56 more",
    ),
    "optimizer": (saved(OPTIMIZER), "state of an optimizer"),
    "list": (saved(list(CNN.values())), "holds a list"),
    "tensor": (saved(torch.zeros(3)), "one tensor"),
    "no tensors": (saved({}), "holds no weights"),
    "only facts": (saved({"epoch": 3}), r"no weights \(only epoch\)"),
    "two models": (saved({"generator": CNN, "critic": CNN}), r"several sets of weights \(generator, critic\)"),
    "truncated": (saved(CNN)[:9000], "damaged or incomplete"),
    "old truncated": (legacy(CNN)[:9000], "damaged or incomplete"),
    "truncated safetensors": (LOADED["safetensors"][:-9], "safetensors"),
    "code": (saved({"w": Calls(os.mkdir, "owned")}), "Python objects .*mkdir"),
    "old code": (legacy({"w": Calls(os.mkdir, "owned")}), "Python objects .*mkdir"),
    "code as text": (pickle.dumps(Calls(os.mkdir, "owned"), 0), "not a weights file"),
    "plain pickle": (pickle.dumps(CNN), "written by pickle"),
    "pickled NumPy": (pickle.dumps({name: tensor.numpy() for name, tensor in CNN.items()}), "NumPy arrays"),
    "8 GB of zeros": (saved({"w": Calls(bytearray, 8 * 10**9)}), "Python objects .*bytearray"),
    "declared tensor": (saved({"w": Calls(torch.FloatTensor, 10**9)}), "Python objects .*FloatTensor"),
    "expanded": (linear(torch.zeros(1, 1).expand(10, 784 * 784 * 10_000)), "features|expanded"),
    "expanded to fit": (linear(torch.zeros(1, 1).expand(10, 784)), "expanded"),
    "sparse": (linear(torch.zeros(10, 784).to_sparse()), "sparse"),
    "meta": (linear(torch.zeros(10, 784, device="meta")), "special tensors"),
    "integers": (linear(torch.zeros(10, 784, dtype=torch.int64)), "int64"),
    "complex": (linear(torch.zeros(10, 784, dtype=torch.complex64)), "complex64"),
    "long pickle": (archive({"a/data.pkl": b"\x80\x02" + b"]" * 2**24, "a/version": b"3"}), "too many bytes"),
    "long header": ((10**9).to_bytes(8, "little") + b"{" + b" " * 100, "safetensors"),
    "lying header": (lying_safetensors(), "safetensors"),
    "escapes": (saved({"\x1b[31mred": torch.zeros(2)}), r"\(\?\[31mred\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_everything_else_is_refused_in_one_sentence(
    kind: str, tmp_path: Path, cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, expected = REFUSED[kind]
    path = tmp_path / "brought.pth"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(CheckpointError, match=rf"brought\.pth: .*{expected}") as caught:
        Classifier.from_bare_weights(path, CARD, cpu)
    after = resource.getrusage(resource.RUSAGE_SELF)
    message = str(caught.value)
    assert "\n" not in message
    assert "weights_only" not in message
    assert len(message) < 500 + len(str(path))
    assert after.ru_utime - before.ru_utime < 2
    assert after.ru_maxrss - before.ru_maxrss < 200 * 1024
    assert not (tmp_path / "owned").exists()


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(600 * 2**20)
    for name, expected in (
        ("pipe", "regular file"),
        ("large", "bytes"),
        ("", "folder"),
        ("gone", "cannot be read"),
    ):
        with pytest.raises(CheckpointError, match=expected):
            checkpoint.load_bare(tmp_path / name)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 40_000), cut=st.booleans(), value=st.integers(0, 255), old=st.booleans())
def test_damage_anywhere_is_a_sentence_or_harmless(
    at: int, cut: bool, value: int, old: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(LOADED["before torch 1.6" if old else "state_dict"])
    at %= len(data)
    data[at] = value
    path = tmp_path_factory.mktemp("damaged") / "brought.pth"
    path.write_bytes(data[:at] if cut else data)
    try:
        model, _, _ = checkpoint.load_bare(path)
    except CheckpointError:
        return
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_a_small_archive_of_many_bytes_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.weights_file.MAX_BYTES", 2**20)
    path = tmp_path / "bomb.pth"
    path.write_bytes(archive({**unpacked(saved(CNN)), "archive/data/99": bytes(2**21)}))
    assert path.stat().st_size < 2**17
    with pytest.raises(CheckpointError, match="too many bytes"):
        checkpoint.load_bare(path)


def test_evaluate_and_init_from_take_them_and_say_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data-dir", str(SAMPLE), "--device", "cpu"]
    good, bad = tmp_path / "mine.safetensors", tmp_path / "model.pth"
    good.write_bytes(LOADED["safetensors"])
    bad.write_bytes(HTML)
    assert main(["evaluate", str(good), *common]) == 0
    assert "accuracy 0.9" in capsys.readouterr().out
    assert main(["evaluate", str(bad), *common]) == 1
    assert (
        capsys.readouterr().err
        == f"error: {bad}: is a web page (HTML): download the file itself, not its page\n"
    )
    training = ["--recipe", "cnn", "--epochs", "1", "--validation-images", "100", *common]
    assert main([*training, "--init-from", str(good), "--out", str(tmp_path / "good")]) == 0
    assert main([*training, "--init-from", str(bad), "--out", str(tmp_path / "bad")]) == 1
    assert "web page" in capsys.readouterr().err


def test_a_checkpoint_is_asked_before_it_is_published(tmp_path: Path, cpu: torch.device) -> None:
    assert load_verified(WEIGHTS / "cnn.pth", cpu)[0].card == CARD
    model = build("softmax")
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.fill_(3e38)  # finite, but no answer is
    checkpoint.save(model, CARD.model_copy(update={"architecture": "softmax", "name": "wild"}), tmp_path)
    with pytest.raises(CheckpointError, match=r"wild\.pth: its answers are no probabilities"):
        load_verified(tmp_path / "wild.pth", cpu)
