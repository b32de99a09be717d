"""The child process of an upload, `python -m training import-weights RUN` (see `training.supervision`).

What it reads is foreign: bytes of memory, CPU seconds and bytes of a file that it writes are limited where the
system has such limits. Its supervisor limits its time.
"""

import argparse
import errno
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError

from models import checkpoint
from models.errors import ModelError, first_problem
from models.verification import load_verified
from models.weights_file import read_file
from training.datasets import Dataset, load_dataset
from training.directory import RunDirectory
from training.errors import TrainingError
from training.foreign.adoption import adopt
from training.foreign.advice import advised
from training.foreign.order import Order
from training.supervision import BUSY, OutOfTime, begin, failed, limit, send
from training.tables.dataset import table_directory

FILE_BYTES = 2**30  # of a file that it writes, at most


def run(arguments: Sequence[str]) -> int:
    """Make the file that was uploaded into a run directory a checkpoint in it; the exit code."""
    parser = argparse.ArgumentParser(
        prog="minist import-weights",
        description="Read uploaded weights for a supervisor (used by the service).",
    )
    parser.add_argument("directory", type=Path, help="run directory with its config.json and the file")
    parser.add_argument("--data-dir", type=Path, required=True, help="data set root")
    parser.add_argument("--datasets-dir", type=Path, help="folder of imported data sets")
    parser.add_argument("--lease", type=float, required=True, help="seconds without a heartbeat until it ends")
    parser.add_argument("--memory", type=int, required=True, help="bytes that it may take")
    parser.add_argument("--seconds", type=int, required=True, help="CPU seconds that it may take")
    options = parser.parse_args(arguments)
    begin(options.lease)
    torch.set_num_threads(1)
    limit(options.memory, FILE_BYTES, options.seconds)
    files = RunDirectory(options.directory)
    try:
        with FileLock(files.lock, timeout=options.lease, poll_interval=0.1):
            _read(files, options.data_dir, options.datasets_dir)
    except Timeout:
        sys.stderr.write("another process works in this directory\n")
        return BUSY
    except ModelError as error:
        return failed(advised(_without_path(str(error), files)))
    except TrainingError as error:
        return failed(str(error))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
            raise
        return failed(
            f"the weights need more than the {options.memory:,} bytes of memory that their reader may take: "
            "send a smaller model, or raise MINIST_IMPORT_MEMORY_BYTES"
        )
    except OutOfTime:
        return failed(f"the weights need more than the {options.seconds:,} CPU seconds that are allowed")
    except OSError as error:
        return failed(_sentence(error))
    send(event="done")
    return 0


def _read(files: RunDirectory, data_dir: Path, datasets_dir: Path | None) -> None:
    config = json.loads(files.config.read_bytes())
    try:
        order = Order.model_validate(config["card"])
    except ValidationError as error:
        raise TrainingError(f"the card cannot be read: {first_problem(error)}") from error
    name, dataset = config["name"], _dataset(config["dataset"], order, data_dir, datasets_dir)
    adopted = adopt(name, read_file(files.upload), order, dataset, config["calibrate"])
    for note in adopted.notes:
        send(event="note", text=note)
    checkpoint.save(adopted.classifier.model, adopted.classifier.card, files.path)
    del adopted
    load_verified(files.weights(name), torch.device("cpu"))  # what cannot answer is not published


def _dataset(name: str | None, order: Order, data_dir: Path, datasets_dir: Path | None) -> Dataset | None:
    if name is None:
        return None
    if order.table is not None or table_directory(name, datasets_dir) is not None:
        raise TrainingError("uploaded models of tables are not measured yet: name no data set")
    dataset = load_dataset(name, data_dir, datasets_dir)
    shape = order.shape(dataset.shape[0])
    if shape is not None and shape != dataset.shape and (large := dataset.enlarged()).shape == shape:
        return large
    return dataset


def _without_path(sentence: str, files: RunDirectory) -> str:
    """`the file is empty`: where it lies is nobody's business."""
    for path in (files.upload, *files.path.glob("*.pth"), *files.path.glob("*.json")):
        sentence = sentence.replace(f"{path}: ", "")
    return f"the file {sentence.replace(str(files.path), '').strip()}"


def _is_out_of_memory(error: RuntimeError) -> bool:
    return any(text in str(error) for text in ("new thread", "alloc", "out of memory"))


def _sentence(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full: free some space and upload again"
    return f"{error.strerror or error}: {Path(error.filename or '').name or 'the weights'}"
