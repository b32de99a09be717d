"""Small JPEGs of some pictures as they came, for people to compare with what the model sees."""

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.preprocessing.pictures import fit_into
from training.errors import DatasetError
from training.importing.archive import Archive
from training.importing.dataset import Imported
from training.importing.pictures import load_rgb, read_header

ORIGINALS = "originals.zip"
SIDE = 192  # pixels, of the longer side
EACH, ALL = 8, 2000  # pictures of a class in a split, and of the data set


def write_originals(source: Path, found: Imported) -> None:
    """Beside the images: `ROW.jpg` for the first rows of each class and split. Of arrays nothing is written."""
    try:
        archive = Archive(source)
    except DatasetError:
        return
    with archive, zipfile.ZipFile(found.directory / ORIGINALS, "w") as originals:
        members = {str(member.path): member for member in archive.members}
        names = found.names()
        for row in _chosen(found):
            member = members.get(names[row])
            if member is not None:
                originals.writestr(f"{row}.jpg", _small(archive.read(member)))


def _chosen(found: Imported) -> NDArray[np.int64]:
    each = max(1, min(EACH, ALL // (3 * len(found.profile.classes))))
    group = found.labels * 3 + found.splits
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return np.sort(order[rank < each])[:ALL]


def _small(data: bytes) -> bytes:
    header = read_header(data)
    scale = min(1.0, SIDE / max(header.width, header.height))
    size = max(1, round(header.height * scale)), max(1, round(header.width * scale))
    stream = io.BytesIO()
    fit_into(load_rgb(data, size), size, "stretch").save(stream, "JPEG", quality=80)
    return stream.getvalue()
