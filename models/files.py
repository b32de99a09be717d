"""Files that are either whole or not there."""

import os
from pathlib import Path
from secrets import token_hex


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write to a temporary file beside `path`, force it to disk, rename it into place.

    A reader, or a machine that loses power, sees the old file or the new one, never a part.
    """
    temporary = path.with_name(f".{path.name}.{token_hex(4)}")  # a pid is not unique: containers share volumes
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def flush_directory(directory: Path) -> None:
    """Force a folder and the files in it to disk."""
    for path in directory.iterdir():
        if path.is_file():
            flush(path)
    flush(directory)


def flush(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders; its renames are journalled
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
