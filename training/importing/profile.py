"""What was found in a data set, in words and numbers that a person can act on."""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.imported import TEST, TRAIN, VALIDATION
from models.preprocessing.pictures import Pixels
from training.importing.dataset import Listed
from training.importing.facts import SHOWN, Warned
from training.importing.found import Found

NAMES = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
FEW = 10  # pictures of a class
UNBALANCED = 10  # times as many pictures in the largest class as in the smallest
COMMON_SIZES = 8


def look(pixels: Pixels) -> bytes:
    """256 bits that nearly equal pictures share: where brightness grows along the rows of 16x17 fields."""
    small = np.asarray(Image.fromarray(pixels).convert("L").resize((17, 16), Image.Resampling.BOX), np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1] + 2).tobytes()


def profile(
    found: Found, labels: NDArray[np.int64], splits: NDArray[np.int64], classes: tuple[str, ...]
) -> dict[str, Any]:
    """The fields of a Profile that are counted."""
    counts = {
        label: {name: int(((labels == index) & (splits == split)).sum()) for split, name in NAMES.items()}
        for index, label in enumerate(classes)
    }
    conflicts = _conflicts(found)
    duplicates = len(found.digests) - len(set(found.digests))
    near = len(set(found.digests)) - len({look for look, _ in _first_of_each(found).values()})
    given = {split for split in found.splits if split}
    return {
        "counts": counts,
        "given_splits": tuple(name for name in NAMES.values() if name in given),
        "sizes": dict(found.sizes.most_common(COMMON_SIZES)),
        "modes": dict(found.modes),
        "ignored": {
            reason: Listed(count=len(paths), paths=tuple(paths[:SHOWN]))
            for reason, paths in found.ignored.items()
        },
        "bad_files": tuple(found.bad[:SHOWN]),
        "bad_count": len(found.bad),
        "duplicates": duplicates,
        "near_duplicates": near,
        "conflicts": tuple(conflicts[:SHOWN]),
        "conflict_count": len(conflicts),
        "warnings": tuple(_warnings(found, counts, duplicates, len(conflicts), labels, splits)),
    }


def _first_of_each(found: Found) -> dict[bytes, tuple[bytes, int]]:
    first: dict[bytes, tuple[bytes, int]] = {}
    for row, (digest, seen) in enumerate(zip(found.digests, found.looks, strict=True)):
        # a picture without any edge (a blank page) looks like all of its kind
        first.setdefault(digest, (seen if any(seen) else digest, row))
    return first


def _conflicts(found: Found) -> list[tuple[str, ...]]:
    """Paths of pictures that are equal and have several labels."""
    rows: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(found.digests):
        rows[digest].append(row)
    return [
        tuple(found.names[row] for row in same)
        for same in rows.values()
        if len({found.labels[row] for row in same}) > 1
    ]


def _pictures(number: int) -> str:
    return f"{number:,} picture{'' if number == 1 else 's'}"


def _warnings(
    found: Found,
    counts: dict[str, dict[str, int]],
    duplicates: int,
    conflicts: int,
    labels: NDArray[np.int64],
    splits: NDArray[np.int64],
) -> list[Warned]:
    warned: list[Warned] = []

    def warn(what: str, hint: str) -> None:
        warned.append(Warned(what=what, hint=hint))

    for label, by_split in counts.items():
        total = sum(by_split.values())
        if not by_split["train"]:
            warn(f"class {label!r} has no picture to train on", "add pictures of it to training, or drop it")
        elif total < 2:
            warn(
                f"class {label!r} has one picture: it is used for training and never tested",
                "add more, or drop it",
            )
        elif total < FEW:
            warn(f"class {label!r} has {_pictures(total)}", f"add more: below {FEW}, its figures say little")
    for label in found.empty_classes:
        warn(
            f"the folder of class {label!r} has no pictures, so there is no such class",
            "fill or delete the folder",
        )
    sizes = [sum(by_split.values()) for by_split in counts.values()]
    if max(sizes) >= UNBALANCED * min(sizes):
        warn(
            f"the largest class has {max(sizes):,} pictures, the smallest {min(sizes):,}",
            "look at balanced accuracy as well as accuracy; training weighs the classes",
        )
    if duplicates:
        warn(
            f"{_pictures(duplicates)} equal to another one",
            "copies stay on one side of a split; delete them if unwanted",
        )
    leaked = _leaked(found, splits)
    if leaked:
        warn(
            f"{_pictures(leaked)} of the given test split also in the training split",
            "the test accuracy is too high by what they contribute: remove them from one side",
        )
    if conflicts:
        warn(f"{_pictures(conflicts)} under several classes", "look at `conflicts` and correct the labels")
    if found.bad:
        warn(
            f"{len(found.bad):,} files left out since they could not be read",
            "look at `bad_files` for the reasons",
        )
    for encoding, number in found.encodings.items():
        warn(f"{number:,} file names were read as {encoding}", "check the names of the classes")
    if not (splits == VALIDATION).any():
        warn("there is no validation split: every class has a single picture", "add more pictures")
    folded = Counter(label.strip().lower().rstrip(".") for label in counts)
    for label in sorted(name for name, number in folded.items() if number > 1):
        same = [name for name in counts if name.strip().lower().rstrip(".") == label]
        warn(
            f"the classes {', '.join(map(repr, same))} differ only in case or blanks", "merge them by `rename`"
        )
    return warned


def _leaked(found: Found, splits: NDArray[np.int64]) -> int:
    train = {digest for digest, split in zip(found.digests, splits, strict=True) if split == TRAIN}
    return sum(split == TEST and digest in train for digest, split in zip(found.digests, splits, strict=True))
