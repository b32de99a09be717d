"""Weights files that people bring, opened safely: plain sentences about what is not a weights file.

Files of `torch.save` and of safetensors are read. A file is recognised by its first bytes; its size and the
Python objects that it names are checked before torch reads it.
"""

import argparse
import io
import pickletools
import re
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.errors import CheckpointError

MAX_BYTES = 512 * 2**20  # of a file; the largest architecture here has 5 MB, three times that with an optimizer
MAX_STRUCTURE = 2**20  # bytes of a pickle without its tensors, or of a safetensors header
_RETRY = "download or copy it again"

# First bytes (regular expressions) of files that are not weights, and what to say of them.
_KINDS: tuple[tuple[bytes, str], ...] = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (rb"(?i)\s*<(!doctype html|html|head|body)", "a web page (HTML): download the file itself, not its page"),
    (rb"\s*<", "XML, perhaps an error message of a server: " + _RETRY),
    (rb"\s*[\[{]", "JSON text: give the weights file itself"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd", "compressed: unpack it first"),
    (rb"7z\xbc\xaf|Rar!|.{257}ustar", "an archive: unpack it first and give the weights file in it"),
    (rb"\x89HDF", "an HDF5 file (Keras): convert it to a PyTorch state_dict"),
    (rb"\x93NUMPY", "a NumPy array: save the weights as a PyTorch state_dict"),
    (rb"GGUF|....TFL3", "a model of another framework: convert it to a PyTorch state_dict"),
    (rb"\x08\x01\x12", "a TensorFlow model: convert it to a PyTorch state_dict"),
    (rb"\x08[\x02-\x0f]\x12|.{0,64}onnx", "an ONNX model: save a PyTorch state_dict instead"),
    (rb"x[\x01\x5e\x9c\xda]|ZF0x", "compressed, as joblib does: save a PyTorch state_dict instead"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|%PDF|BM|RIFF", "a picture or document, not weights"),
    (rb"\x7fELF|MZ|#!", "a program, not weights"),
)
# What the pickle of a state_dict or of a training checkpoint may name.
_ALLOWED = re.compile(
    r"collections\.OrderedDict|torch\.(Size|device)|_codecs\.encode|\w+\.set"
    r"|torch(\.cuda)?\.(Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool|Complex\w+)Storage"
    r"|torch\.(float|bfloat|half|double|u?int|long|bool)\d*|torch\._utils\._rebuild_(tensor|tensor_v2|parameter)"
    r"|argparse\.Namespace|numpy\.dtype|numpy\.(_core|core)\.multiarray\.scalar"
)
# Plain values that torch accepts only from this list: settings, and figures as NumPy writes them.
_VALUES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")},
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")),
]
# Names that say what else a pickle holds.
_OBJECTS: tuple[tuple[str, str], ...] = (
    (
        r"torch\.storage\._load_from_bytes",
        "was written by pickle: use torch.save(model.state_dict(), path)",
    ),
    (r"numpy\.\S*_reconstruct", "holds NumPy arrays: save tensors (torch.from_numpy) with torch.save"),
    (
        r"torch\._utils\._rebuild_\w+",
        "holds sparse, quantized or other special tensors: save plain ones",
    ),
)


def read_file(path: Path) -> bytes:
    """The bytes of a weights file. Raises CheckpointError, naming the file."""
    try:
        if path.is_dir():
            raise CheckpointError(f"{path}: is a folder: give the weights file in it")
        if not path.is_file() and path.exists():
            raise CheckpointError(f"{path}: is not a regular file")
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path}: has more than {MAX_BYTES:,} bytes: save model.state_dict() alone")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def load(data: bytes) -> Any:
    """Whatever a file of torch.save or safetensors holds, tensors on the CPU.

    Raises CheckpointError: one sentence, without the file's name.
    """
    if not data:
        raise CheckpointError(f"is empty: {_RETRY}")
    if data.startswith(b"PK"):
        _check_zip(data)
        return _torch_load(data)
    if is_safetensors(data):
        return _safetensors(data)
    if data.startswith(b"\x80"):
        _check_pickles(io.BytesIO(data[:MAX_STRUCTURE]))
        return _torch_load(data)
    for pattern, what in _KINDS:
        if re.match(pattern, data[:512], re.DOTALL):
            raise CheckpointError(f"is {what}")
    raise CheckpointError("is not a weights file: give one written by torch.save or safetensors")


def _check_zip(data: bytes) -> None:
    """Refuse archives that are not whole, or not from `torch.save(state_dict)`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            structure = _structure(archive)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile and zlib raise many
        raise CheckpointError(f"is damaged or incomplete: {_RETRY}") from error
    _check_objects(structure)


def _structure(archive: zipfile.ZipFile) -> bytes:
    """The pickle of an archive of torch.save, after all its names, sizes and checksums have been checked."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError("is a TorchScript model: save model.state_dict() instead")
    if any(name.endswith(".npy") for name in names):
        raise CheckpointError("is a NumPy archive (.npz): save the weights as a PyTorch state_dict")
    if any(name.endswith(".h5") for name in names):
        raise CheckpointError("is a Keras model: convert it to a PyTorch state_dict")
    pickles = [entry for entry in entries if entry.filename.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise CheckpointError("is a zip archive without weights of torch.save: unpack it first")
    if sum(entry.file_size for entry in entries) > MAX_BYTES or pickles[0].file_size > MAX_STRUCTURE:
        raise CheckpointError("unpacks to too many bytes: save model.state_dict() alone")
    if archive.testzip() is not None:
        raise CheckpointError(f"is damaged: {_RETRY}")
    return archive.read(pickles[0])


def _check_pickles(stream: io.BytesIO) -> None:
    """Files before torch 1.6: some pickles in a row, then the numbers."""
    for _ in range(5):
        _check_objects(stream)


def _check_objects(pickled: bytes | io.BytesIO) -> None:
    """Refuse a pickle that names anything but tensors and plain values; nothing is executed."""
    foreign = sorted({name for name in _names(pickled) if not _ALLOWED.fullmatch(name)})
    for pattern, what in _OBJECTS:
        if any(re.fullmatch(pattern, name) for name in foreign):
            raise CheckpointError(what)
    if foreign:
        raise CheckpointError(
            f"holds Python objects ({summary(foreign)}), as a whole model does: "
            "save model.state_dict() in the program that has their classes"
        )


def _names(pickled: bytes | io.BytesIO) -> Iterator[str]:
    """The classes and functions that a pickle names, as module.name."""
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name in ("GLOBAL", "INST"):
                yield str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":
                yield ".".join(strings[-2:])
            elif isinstance(argument, str):
                strings.append(argument)
    except Exception as error:  # pickletools raises ValueError and more for what is not a pickle
        raise CheckpointError(f"is damaged or incomplete, or not a weights file: {_RETRY}") from error


def _torch_load(data: bytes) -> Any:
    try:
        with torch.serialization.safe_globals(_VALUES):
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its zip reader or unpickler meets
        raise CheckpointError(f"is damaged or incomplete, or not written by torch.save: {_RETRY}") from error


def is_safetensors(data: bytes) -> bool:
    """Source: the format's specification, github.com/huggingface/safetensors."""
    return len(data) > 9 and data[8:9] == b"{" and data[7] == 0


def _safetensors(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    try:
        if int.from_bytes(data[:8], "little") > MAX_STRUCTURE:
            raise ValueError("the header is too long")
        return load(data)
    except Exception as error:  # the library raises SafetensorError, torch and json what they meet
        raise CheckpointError(f"is a damaged or incomplete safetensors file: {_RETRY}") from error


def summary(names: Collection[Any]) -> str:
    """The first few names, shortened, without control characters."""
    shown = ["".join(c if c.isprintable() else "?" for c in str(name)[:40]) for name in list(names)[:4]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
