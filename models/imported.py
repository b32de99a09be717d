"""The files of an imported data set (`training.importing` writes them), as training and the service read them.
Without torch: `models.rows` has them as tensors.

images.npy   uint8 [N, channels, height, width]     rows.npz    labels, splits and groups, a number per picture
table.npy    float32 [N, width], of a table instead of images (`models.tables`)
large.npy    the same pictures larger, where they are photographs: for models that take that size
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IMAGES, LARGE, TABLE, ROWS = "images.npy", "large.npy", "table.npy", "rows.npz"
TRAIN, VALIDATION, TEST = 0, 1, 2  # splits


def read_rows(directory: Path) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int64]]:
    """Labels, splits and groups. Raises OSError, ValueError, KeyError or zipfile.BadZipFile."""
    with np.load(directory / ROWS, allow_pickle=False) as rows:
        return rows["labels"], rows["splits"], rows["groups"]


def open_images(directory: Path, large: bool = False) -> NDArray[np.uint8]:
    """The mapped images of all splits, [N, C, H, W]. Raises OSError or ValueError."""
    images: NDArray[np.uint8] = np.load(
        directory / (LARGE if large else IMAGES), mmap_mode="r", allow_pickle=False
    )
    return images


def open_table(directory: Path) -> NDArray[np.float32]:
    """The mapped rows of all splits, [N, width]. Raises OSError or ValueError."""
    rows: NDArray[np.float32] = np.load(directory / TABLE, mmap_mode="r", allow_pickle=False)
    return rows


def images_of_shape(directory: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Those of the file whose pictures have that shape. Raises OSError or ValueError."""
    images = open_images(directory)
    if images.shape[1:] != shape and (directory / LARGE).exists():
        images = open_images(directory, large=True)
    if images.shape[1:] != shape:
        raise ValueError(f"{directory} has no pictures of the shape {list(shape)}")
    return images
