"""The idx format of MNIST's own files: 0 0, the type (8: unsigned bytes), the number of dimensions, each
dimension as a big-endian uint32, then the values in C order.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

import gzip
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNSIGNED_BYTES = 8


def idx_header(data: bytes) -> tuple[tuple[int, ...], int]:
    """Shape, and where the values start. Raises ValueError for anything but unsigned bytes."""
    if len(data) < 4 or data[:3] != bytes((0, 0, UNSIGNED_BYTES)) or not data[3]:
        raise ValueError("it does not begin like an idx file of unsigned bytes")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise ValueError("it ends within its header")
    return struct.unpack_from(f">{data[3]}I", data, 4), start


def read_idx(path: Path) -> NDArray[Any]:
    """The array in an idx file, uint8 and writable, also where only `<path>.gz` exists.

    Raises OSError (gzip.BadGzipFile is one), EOFError, zlib.error or ValueError.
    """
    packed = path.with_name(path.name + ".gz")
    data = gzip.decompress(packed.read_bytes()) if not path.exists() and packed.exists() else path.read_bytes()
    shape, start = idx_header(data)
    if len(data) - start != math.prod(shape):
        raise ValueError(
            f"{path.name} has {len(data) - start:,} values, its header promises {math.prod(shape):,}"
        )
    return np.frombuffer(bytearray(data), np.uint8, offset=start).reshape(shape)
