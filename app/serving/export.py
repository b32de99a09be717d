"""A version of a model as files that other programs load."""

import asyncio
import io
import subprocess
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save

from app import errors
from app.interpreter import module_command
from app.store.versions import Version
from models.environment import without_secrets
from models.errors import CheckpointError
from models.graphs.module import ONNX

Format = Literal["pth", "safetensors", "onnx", "card", "zip"]
MEDIA_TYPES: dict[Format, str] = {
    "pth": "application/octet-stream",
    "safetensors": "application/octet-stream",
    "onnx": "application/octet-stream",
    "card": "application/json",
    "zip": "application/zip",
}
SECONDS = 120.0  # that an export to ONNX may take
KEPT = 8  # exports to ONNX; a version does not change
WAITING = 8  # exports to ONNX, of one process


class Exporter:
    """Exports of one process. ONNX is written by a child process, one at a time."""

    def __init__(self) -> None:
        self._exporting = asyncio.Lock()
        self._waiting = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    async def export(self, version: Version, kind: Format) -> bytes:
        """The bytes of the file. Raises CheckpointError where the version is damaged, Overloaded."""
        if kind != "onnx":
            return await asyncio.to_thread(_export, version, kind)
        if self._waiting >= WAITING:
            raise errors.Overloaded(f"{WAITING} exports wait", "try again in a minute", retry_after=30)
        self._waiting += 1
        try:
            async with self._exporting:
                if version.sha256 not in self._kept:
                    self._kept[version.sha256] = await asyncio.to_thread(_to_onnx, version)
                self._kept.move_to_end(version.sha256)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
                return self._kept[version.sha256]
        finally:
            self._waiting -= 1


def _export(version: Version, kind: Format) -> bytes:
    if version.intact_card().architecture == ONNX and kind == "safetensors":
        raise CheckpointError("it is an ONNX model, which safetensors does not hold: ask for format=onnx")
    weights, card = version.weights, version.weights.with_suffix(".json")
    if kind == "pth":
        return weights.read_bytes()
    if kind == "card":
        return card.read_bytes()
    if kind == "safetensors":
        tensors = torch.load(weights, map_location="cpu", weights_only=True)
        return save({name: tensor.contiguous() for name, tensor in tensors.items()})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (weights, card):
            archive.write(path, path.name)
    return stream.getvalue()


def _to_onnx(version: Version) -> bytes:
    if version.intact_card().architecture == ONNX:  # as it came
        tensors = torch.load(version.weights, map_location="cpu", weights_only=True)
        return bytes(tensors[ONNX].numpy())
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        command = module_command("app", "export-onnx", str(version.weights.absolute()), str(out))
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                env={"LOGNAME": "minist", **without_secrets()},
                creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
            )
        except subprocess.TimeoutExpired as error:
            raise CheckpointError(f"the export took longer than {SECONDS:g} s") from error
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["no reason was given"]
            raise CheckpointError(f"it cannot be exported: {lines[-1][:500]}")
        return out.read_bytes()
