"""The child process of an import, `python -m training import-dataset RUN` (see `training.supervision`).

What it reads is foreign, so it has limits of its own where the system has them: bytes of memory (`RLIMIT_DATA`:
files that are mapped do not count) and bytes of a file that it writes. Its supervisor limits its time.
"""

import argparse
import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from training.directory import RunDirectory
from training.errors import DatasetError
from training.importing.dataset import Imported, options_of
from training.importing.importer import import_any
from training.importing.originals import write_originals
from training.supervision import BUSY, STEP_SECONDS, begin, failed, limit, send


def run(arguments: Sequence[str]) -> int:
    """Import what the run's config says into its `dataset` folder; the exit code."""
    parser = argparse.ArgumentParser(
        prog="minist import-dataset", description="Import a data set for a supervisor (used by the service)."
    )
    parser.add_argument("directory", type=Path, help="run directory with its config.json")
    parser.add_argument("--sources", type=Path, required=True, help="folder of the files by their sha256")
    parser.add_argument("--lease", type=float, required=True, help="seconds without a heartbeat until it ends")
    parser.add_argument("--memory", type=int, required=True, help="bytes that it may take")
    parser.add_argument("--file-bytes", type=int, required=True, help="bytes of a file that it writes, at most")
    options = parser.parse_args(arguments)
    begin(options.lease)
    os.umask(0o077)  # these are people's pictures
    limit(options.memory, options.file_bytes)
    files = RunDirectory(options.directory)
    try:
        with FileLock(files.lock, timeout=options.lease, poll_interval=0.1):
            _import(files, options.sources)
    except Timeout:
        sys.stderr.write("another process works in this directory\n")
        return BUSY
    except DatasetError as error:
        return failed(str(error))
    except MemoryError:
        return failed(_no_memory(options.memory))
    except RuntimeError as error:
        if "new thread" not in str(error):  # there is no memory for its stack
            raise
        return failed(_no_memory(options.memory))
    except OSError as error:
        return failed(_sentence(error, options.file_bytes))
    send(event="done")
    return 0


def _import(files: RunDirectory, sources: Path) -> None:
    config: dict[str, Any] = json.loads(files.config.read_bytes())
    shutil.rmtree(files.dataset, ignore_errors=True)  # of an attempt that died: an import begins anew
    files.dataset.mkdir()
    source, options = sources / config["source"], options_of(config["options"])
    found = import_any(source, files.dataset, options, _Reporter())
    if isinstance(found, Imported):
        write_originals(source, found)


class _Reporter:
    """Sends how far it is, at most twice a second, in the fields of a training step."""

    def __init__(self) -> None:
        self._begun = self._sent = time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        if now - self._sent < STEP_SECONDS:
            return
        self._sent = now
        rate = done / (now - self._begun)
        eta = (of - done) / rate if of and rate else None
        send(event="step", epoch=1, step=done, steps=of or None, images_per_second=rate, eta_seconds=eta)


def _no_memory(memory: int) -> str:
    return (
        f"the import needs more than the {memory:,} bytes of memory that it may take: send less, "
        "or raise MINIST_IMPORT_MEMORY_BYTES"
    )


def _sentence(error: OSError, file_bytes: int) -> str:
    if error.errno == errno.EFBIG:
        return (
            f"the data set needs more than the {file_bytes:,} bytes that are left: choose a smaller size, "
            "delete data sets, or raise MINIST_KEEP_DATASETS_BYTES"
        )
    if error.errno == errno.ENOSPC:
        return "the disk is full: free some space and import again"
    return f"{error.strerror or error}: {Path(error.filename or '').name or 'the import'}"
